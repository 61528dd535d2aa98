/* scratch.c: the scratch queues of `pgmqd bench`: makes, fills, empties, watches and removes them. */
#include "config.h"

#include "cmd/bench/scratch.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"
#include "cmd/bench/child.h"

#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FILL_AT_ONCE 10000
#define WATCH_MS 5

bool bench_sql(struct bench *b, const char *fmt, ...)
{
	va_list ap;
	char *sql;
	bool ok;

	va_start(ap, fmt);
	sql = xvasprintf(fmt, ap);
	va_end(ap);
	ok = !bench_interrupted && cmd_db_run_plain(&b->db, NULL, sql);
	free(sql);
	return ok && !bench_interrupted;
}

double bench_number(struct bench *b, const char *fmt, ...)
{
	PGresult *res = NULL;
	double value = NAN;
	va_list ap;
	char *sql;

	va_start(ap, fmt);
	sql = xvasprintf(fmt, ap);
	va_end(ap);
	if (!bench_interrupted)
		res = cmd_db_run(&b->db, NULL, sql, 0, NULL);
	if (res && PQntuples(res) && !PQgetisnull(res, 0, 0))
		value = strtod(PQgetvalue(res, 0, 0), NULL);
	PQclear(res);
	free(sql);
	return value;
}

const char *bench_queue(struct bench *b, const char *suffix, bool attached)
{
	char *name = xasprintf("pgmqd_bench_%d_%s", PQbackendPID(b->db.conn), suffix);

	b->queues[b->nqueues++] = name; /* before it is there: half of one is removed, too */
	if (!bench_sql(b, "SELECT pgmqd.create_queue('%s')", name) || (!attached && !bench_no_trigger(b, name)))
		return NULL;
	return name;
}

bool bench_no_trigger(struct bench *b, const char *queue)
{
	return bench_sql(b, "DROP TRIGGER IF EXISTS plain_notify ON pgmq.q_%s", queue) &&
	       bench_sql(b, "SELECT pgmqd.detach_queue('%s')", queue);
}

bool bench_plain_trigger(struct bench *b, const char *queue, const char *channel)
{
	if (!b->notifier) {
		b->notifier = xasprintf("pgmq.%s_notify()", queue);
		if (!bench_sql(b,
			    "CREATE FUNCTION %s RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN PERFORM "
			    "pg_catalog.pg_notify(TG_ARGV[0], TG_ARGV[1]);"
			    " RETURN NULL; END$f$",
			    b->notifier))
			return false;
	}
	return bench_sql(b,
		"CREATE OR REPLACE TRIGGER plain_notify AFTER INSERT ON pgmq.q_%s FOR EACH STATEMENT EXECUTE FUNCTION "
		"%.*s('%s', '%s')",
		queue, (int)strlen(b->notifier) - 2, b->notifier, channel, queue);
}

bool bench_empty(struct bench *b, const char *queue)
{
	return bench_sql(b, "TRUNCATE pgmq.q_%s, pgmq.a_%s", queue, queue);
}

bool bench_fill(struct bench *b, const char *queue, int64_t n, int64_t delay_s, const char *body)
{
	bool ok = true;

	for (int64_t done = 0; ok && done < n; done += FILL_AT_ONCE) {
		int64_t count = n - done < FILL_AT_ONCE ? n - done : FILL_AT_ONCE;

		ok = bench_sql(b,
			"SELECT count(*) FROM pgmq.send_batch('%s', array_fill($m$%s$m$::jsonb, ARRAY[%lld]), %lld)",
			queue, body, (long long)count, (long long)delay_s);
	}
	return ok;
}

double bench_gone(struct bench *b, const char *queue, int64_t id)
{
	struct timespec pause = { .tv_nsec = WATCH_MS * 1000000 };

	for (int64_t waited = 0; waited <= BENCH_STUCK_MS; waited += WATCH_MS) {
		if (bench_interrupted || !bench_children_live(b))
			return NAN;
		double there = bench_number(
			b, "SELECT count(*) FROM pgmq.q_%s WHERE msg_id = %lld", queue, (long long)id);
		if (isnan(there))
			return NAN;
		if (there == 0)
			return bench_number(b, "SELECT extract(epoch FROM clock_timestamp())");
		nanosleep(&pause, NULL);
	}
	cmd_db_fail(&b->db, xasprintf("message %lld is not done after %d s", (long long)id, BENCH_STUCK_MS / 1000));
	return NAN;
}

double bench_drained(struct bench *b, const char *queue, int64_t last, double from)
{
	struct timespec pause = { .tv_nsec = WATCH_MS * 1000000 };
	double ended, left = 1;

	/* looking for the newest message by its key is cheap; other rows are looked for only after it is gone */
	for (int64_t waited = 0; left > 0; waited += WATCH_MS) {
		ended = bench_gone(b, queue, last);
		left = isnan(ended) ? NAN
		                    : bench_number(b, "SELECT count(*) FROM (SELECT FROM pgmq.q_%s LIMIT 1) q", queue);
		if (isnan(left))
			return NAN;
		if (waited > BENCH_STUCK_MS) {
			cmd_db_fail(&b->db, xasprintf("the queue is not empty after %d s", BENCH_STUCK_MS / 1000));
			return NAN;
		}
		if (left > 0)
			nanosleep(&pause, NULL);
	}
	if (bench_deletes(b))
		return ended - from;
	return bench_number(b, "SELECT extract(epoch FROM max(archived_at)) - %.6f FROM pgmq.a_%s", from, queue);
}

/* Runs a statement of the clean-up; a failure is printed, and the next statement runs all the same. */
static void remove_by(struct bench *b, char *sql)
{
	cmd_db_run_plain(&b->db, "removing what the benchmark made", sql);
	free(sql);
}

void bench_remove(struct bench *b)
{
	if (b->nqueues && PQtransactionStatus(b->db.conn) != PQTRANS_IDLE)
		PQclear(PQexec(b->db.conn, "ROLLBACK"));
	for (size_t i = 0; i < b->nqueues; i++) {
		remove_by(b, xasprintf("SELECT pgmq.drop_queue(m.queue_name) FROM pgmq.meta m WHERE m.queue_name IN "
				       "('%s', pgmqd.dead_letter_queue('%s'))",
				     b->queues[i], b->queues[i]));
		remove_by(b, xasprintf("DELETE FROM pgmqd.refunds WHERE queue = '%s'", b->queues[i]));
		/* the mail ledger is there only with the plugins' part */
		remove_by(b, xasprintf("DO $$ BEGIN IF to_regclass('pgmqd.mail_log') IS NOT NULL THEN"
				       " DELETE FROM pgmqd.mail_log WHERE queue = '%s'; END IF; END $$",
				     b->queues[i]));
		free(b->queues[i]);
	}
	b->nqueues = 0;
	if (b->notifier)
		remove_by(b, xasprintf("DROP FUNCTION IF EXISTS %s", b->notifier));
	free(b->notifier);
	b->notifier = NULL;
}
