/* latency.c: `pgmqd bench latency`: from the producer's call to the handler's start, one message after the other on an
 * idle queue.
 *
 * Both contenders write "msg_id attempt nanoseconds" into one pipe when a message starts: pgmqd's null plugin by its
 * trace, and the floor, which is LISTEN, a claim, the timestamp and an archive on one blocking connection.
 */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"
#include "cmd/bench/child.h"
#include "cmd/bench/report.h"
#include "cmd/bench/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The state of one round. */
struct round {
	int64_t count, first;    /* the first message's id; 0: not known yet */
	int64_t *sent, *started; /* nanoseconds, by id - first; 0: not yet */
	int64_t seen;
	char line[4096]; /* what was read of the pipe and is no whole line yet */
	size_t len;
};

/* The floor. */
static int floor_main(struct bench *b, PGconn *conn, int out, const char *queue)
{
	char *claim = bench_claim_sql(queue), *done = bench_done_sql(b, queue), *listen = xasprintf("LISTEN %s", queue);

	PQclear(bench_must(conn, PQexec(conn, "SET enable_seqscan = off"), "set"));
	PQclear(bench_must(conn, PQprepare(conn, "claim", claim, 0, NULL), "claim"));
	PQclear(bench_must(conn, PQprepare(conn, "done", done, 1, NULL), "done"));
	PQclear(bench_must(conn, PQexec(conn, listen), "listen"));
	bench_line(out, "listening\n");
	for (int64_t seen = 0; seen < b->messages / b->rounds;) {
		bench_wait_notify(conn);
		PGresult *res = bench_must(conn, PQexecPrepared(conn, "claim", 0, NULL, NULL, NULL, 0), "claim");
		int64_t now = bench_now_ns();

		for (int i = 0; i < PQntuples(res); i++, seen++) {
			const char *id = PQgetvalue(res, i, 0);

			bench_line(out, "%s 1 %lld\n", id, (long long)now);
			PQclear(bench_must(conn, PQexecPrepared(conn, "done", 1, &id, NULL, NULL, 0), "done"));
		}
		PQclear(res);
	}
	free(claim);
	free(done);
	free(listen);
	return 0;
}

/* Records the start of a message. */
static void note(struct round *r, const char *line)
{
	long long id, ns;

	if (sscanf(line, "%lld %*u %lld", &id, &ns) != 2 || id < r->first || id >= r->first + r->count ||
		r->started[id - r->first])
		return;
	r->started[id - r->first] = ns;
	r->seen++;
}

/* Reads what is in the pipe now. */
static void read_starts(struct round *r, int fd)
{
	ssize_t n;

	while ((n = read(fd, r->line + r->len, sizeof(r->line) - 1 - r->len)) > 0) {
		char *line = r->line, *end;

		r->len += (size_t)n;
		r->line[r->len] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			note(r, line);
		}
		r->len -= (size_t)(line - r->line);
		memmove(r->line, line, r->len);
	}
}

/* Sends the messages of a round, one every gap, and reads the starts meanwhile. */
static bool send_all(struct bench *b, struct round *r, const char *queue, int fd)
{
	int64_t next = bench_now_ns() + b->gap_ms * 1000000;
	const char *params[] = { queue };

	for (int64_t i = 0; i < r->count && !bench_interrupted; i++, next += b->gap_ms * 1000000) {
		struct timespec until = { .tv_sec = next / 1000000000, .tv_nsec = next % 1000000000 };

		clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
		int64_t called = bench_now_ns();
		PGresult *res = PQexecPrepared(b->db.conn, "bench_send", 1, params, NULL, NULL, 0);

		if (PQresultStatus(res) != PGRES_TUPLES_OK) {
			char *error = cmd_db_error(b->db.conn, res);

			PQclear(res);
			if (!bench_interrupted)
				cmd_db_fail(&b->db, xasprintf("pgmq.send: %s", error));
			free(error);
			return false;
		}
		if (!r->first)
			r->first = atoll(PQgetvalue(res, 0, 0));
		r->sent[i] = called;
		PQclear(res);
		read_starts(r, fd);
	}
	while (r->seen < r->count) {
		if (!bench_wait(b, fd))
			return false;
		read_starts(r, fd);
	}
	return true;
}

/* The first line of the floor says that it listens. */
static bool floor_listens(struct bench *b, int fd)
{
	char c = 0;

	while (c != '\n')
		if (!bench_wait(b, fd) || read(fd, &c, 1) != 1)
			return false;
	return true;
}

/* One turn of one contender. */
static bool one_round(struct bench *b, struct bench_row *row, const char *queue, bool floor)
{
	struct round r = { .count = b->messages / b->rounds };
	int fds[2];
	bool ok;

	if (pipe2(fds, O_CLOEXEC) != 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0)
		return !cmd_db_fail(&b->db, xasprintf("cannot make a pipe: %s", strerror(errno)));
	r.sent = xcalloc((size_t)r.count, sizeof(*r.sent));
	r.started = xcalloc((size_t)r.count, sizeof(*r.started));
	if (floor) {
		ok = bench_fork(b, floor_main, queue, fds[1]) && floor_listens(b, fds[0]);
	} else {
		char *section = xasprintf("plugin = null\ntrace = /proc/%d/fd/%d\n", (int)getpid(), fds[1]);

		ok = bench_daemon_start(b, queue, section);
		free(section);
	}
	ok = ok && send_all(b, &r, queue, fds[0]) && (floor ? bench_reap(b) : bench_daemon_stop(b));
	for (int64_t i = 0; ok && i < r.count; i++)
		bench_add(row, (double)(r.started[i] - r.sent[i]) / 1e6, 1);
	close(fds[0]);
	close(fds[1]);
	free(r.sent);
	free(r.started);
	return ok;
}

/* The benchmark. */
static bool run(struct bench *b)
{
	struct bench_row rows[] = { { .name = "bare loop" }, { .name = "pgmqd" } };
	const char *queues[2];
	bool ok;

	if (b->messages < b->rounds)
		b->rounds = b->messages;
	queues[0] = bench_queue(b, "floor", false);
	queues[1] = queues[0] ? bench_queue(b, "queue", true) : NULL;
	ok = queues[1] && bench_plain_trigger(b, queues[0], queues[0]) &&
	     bench_sql(b, "PREPARE bench_send (text) AS SELECT pgmq.send($1, '{\"n\": 1}'::jsonb)");
	for (size_t k = 0; ok && b->delayed && k < 2; k++)
		ok = bench_fill(b, queues[k], b->delayed, 86400, "{\"n\": 1}") &&
		     bench_sql(b, "ANALYZE pgmq.q_%s", queues[k]);
	for (int64_t i = 0; ok && i < b->rounds; i++)
		for (size_t k = 0; ok && k < 2; k++)
			ok = one_round(b, &rows[k], queues[k], k == 0);
	if (ok)
		bench_print_latency(b, "ms, call to start", rows, 2, 0);
	free(rows[0].values);
	free(rows[1].values);
	return ok;
}

const struct bench_kind bench_latency = { .name = "latency", .messages = 500, .rounds = 5, .run = run };
