/* drain.c: `pgmqd bench drain`: how fast a queue that was filled is worked off, against pgmq.read() and pgmq.archive()
 * by 500. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"
#include "cmd/bench/child.h"
#include "cmd/bench/report.h"
#include "cmd/bench/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLOOR_BATCH "500"
#define BODY "{\"n\": 1, \"text\": \"a message of the usual size, with a few words in it\"}"

/* The floor: waits for a notification, then reads and archives until there is nothing left. */
static int floor_main(struct bench *b, PGconn *conn, int out, const char *queue)
{
	char *listen = xasprintf("LISTEN %s", queue);
	const char *params[2] = { queue };

	PQclear(bench_must(conn,
		PQprepare(conn, "read",
			"SELECT array_agg(msg_id), max(message::text) FROM pgmq.read($1, 30, " FLOOR_BATCH ")", 0,
			NULL),
		"pgmq.read"));
	PQclear(bench_must(conn,
		PQprepare(conn, "done",
			bench_deletes(b) ? "SELECT count(*) FROM pgmq.delete($1::text, $2::bigint[])"
					 : "SELECT count(*) FROM pgmq.archive($1::text, $2::bigint[])",
			0, NULL),
		"done"));
	PQclear(bench_must(conn, PQexec(conn, listen), "listen"));
	bench_line(out, "listening\n");
	bench_wait_notify(conn);
	for (bool more = true; more;) {
		PGresult *res = bench_must(conn, PQexecPrepared(conn, "read", 1, params, NULL, NULL, 0), "pgmq.read");

		more = !PQgetisnull(res, 0, 0);
		params[1] = PQgetvalue(res, 0, 0);
		if (more)
			PQclear(bench_must(conn, PQexecPrepared(conn, "done", 2, params, NULL, NULL, 0), "done"));
		PQclear(res);
	}
	free(listen);
	return 0;
}

/* Starts the floor; true when it listens. */
static bool floor_start(struct bench *b, const char *queue)
{
	int fds[2];
	char line[16];
	bool ok;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return !cmd_db_fail(&b->db, xasprintf("cannot make a pipe: %s", strerror(errno)));
	ok = bench_fork(b, floor_main, queue, fds[1]);
	close(fds[1]);
	ok = ok && bench_wait(b, fds[0]) && read(fds[0], line, sizeof(line)) > 0;
	close(fds[0]);
	return ok;
}

/* Starts pgmqd; nothing but our own notification will wake it. */
static bool daemon_start(struct bench *b, const char *queue)
{
	char *section = xasprintf("plugin = null\nmax_in_flight = %lld\nfallback_poll = 1h\n", (long long)b->in_flight);
	bool ok = bench_daemon_start(b, queue, section);

	free(section);
	return ok;
}

/* One turn of one contender: filled silently, then woken. */
static bool one_round(struct bench *b, struct bench_row *row, const char *queue, bool floor)
{
	double last, from, took;

	if (!b->hold_snapshot && !bench_empty(b, queue))
		return false;
	if (!(floor ? floor_start(b, queue) : b->daemon > 0 || daemon_start(b, queue)))
		return false;
	if (!bench_sql(b, "ALTER TABLE pgmq.q_%s DISABLE TRIGGER USER", queue) ||
		!bench_fill(b, queue, b->messages, 0, BODY) ||
		!bench_sql(b, "ALTER TABLE pgmq.q_%s ENABLE TRIGGER USER", queue))
		return false;
	last = bench_number(b, "SELECT max(msg_id) FROM pgmq.q_%s", queue);
	from = bench_number(b, "SELECT extract(epoch FROM clock_timestamp())");
	if (isnan(last) || isnan(from) ||
		!bench_sql(b, "SELECT pg_notify('%s', '%s')", floor ? queue : b->channel, queue))
		return false;
	took = bench_drained(b, queue, (int64_t)last, from);
	/* with an old snapshot the queue is not made anew: how pgmqd copes with dead rows is part of the measurement */
	if (isnan(took) || !(floor ? bench_reap(b) : b->hold_snapshot || bench_daemon_stop(b)))
		return false;
	bench_add(row, (double)b->messages / took, b->messages);
	return true;
}

/* Another session that keeps its snapshot; NULL when that failed. */
static PGconn *hold_snapshot(struct bench *b)
{
	struct cmd_db other = b->db;

	if (cmd_db_connect(&other) && cmd_db_run_plain(&other, NULL, "BEGIN ISOLATION LEVEL REPEATABLE READ") &&
		cmd_db_run_plain(&other, NULL, "SELECT count(*) FROM pgmq.meta"))
		return other.conn;
	PQfinish(other.conn);
	return NULL;
}

/* The benchmark. */
static bool run(struct bench *b)
{
	struct bench_row rows[] = { { .name = bench_deletes(b) ? "pgmq.read + pgmq.delete by " FLOOR_BATCH
		                                               : "pgmq.read + pgmq.archive by " FLOOR_BATCH },
		{ .name = "pgmqd" } };
	const char *queues[2];
	PGconn *holder = NULL;
	bool ok;

	queues[0] = bench_queue(b, "floor", false);
	queues[1] = queues[0] ? bench_queue(b, "queue", true) : NULL;
	ok = queues[1] && (!b->hold_snapshot || (holder = hold_snapshot(b)));
	for (int64_t i = 0; ok && i < b->rounds; i++)
		for (size_t k = 0; ok && k < 2; k++)
			ok = one_round(b, &rows[k], queues[k], k == 0);
	ok = ok && (!b->hold_snapshot || bench_daemon_stop(b));
	PQfinish(holder);
	if (ok)
		bench_print_rates(b,
			b->hold_snapshot   ? "messages/s, a snapshot is held"
			: bench_deletes(b) ? "messages/s, deleted"
					   : "messages/s, archived",
			rows, 2, 0);
	free(rows[0].values);
	free(rows[1].values);
	return ok;
}

const struct bench_kind bench_drain = { .name = "drain", .messages = 50000, .rounds = 3, .run = run };
