/* enqueue.c: `pgmqd bench enqueue`: how fast producers are while pgmqd works the queue off, by the way in which they
 * wake it. */
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

#define START_MS 500     /* for the producers to connect, ... */
#define START_EACH_MS 25 /* and for each of them so much more */

/* A way of waking the queue. The notify mode and the trigger of the queue belong together. */
struct way {
	const char *name, *notify; /* NULL: no daemon serves the queue */
	bool pgmqd, plain;         /* the trigger */
};

static const struct way ways[] = {
	{ "served, no notification", "off", false, false },
	{ "not served, no notification", NULL, false, false },
	{ "served, plain NOTIFY", "plain", false, true },
	{ "served, pgmqd's trigger", "adaptive", true, false },
};
#define NWAYS (sizeof(ways) / sizeof(*ways))

static int64_t start_ns; /* when the producers of this round begin together */

/* A producer: sends from the common start until the time is over, and writes its count into the pipe. */
static int producer_main(struct bench *b, PGconn *conn, int out, const char *queue)
{
	struct timespec at = { .tv_sec = start_ns / 1000000000, .tv_nsec = start_ns % 1000000000 };
	int64_t until = start_ns + b->seconds * 1000000000, sent = 0;
	const char *params[] = { queue };

	PQclear(bench_must(conn, PQprepare(conn, "send", "SELECT pgmq.send($1::text, '{\"n\": 1}'::jsonb)", 0, NULL),
		"pgmq.send"));
	if (bench_now_ns() > start_ns) {
		fprintf(stderr, "pgmqd bench: a producer took too long to connect\n");
		return 1;
	}
	clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL);
	for (; bench_now_ns() < until; sent++)
		PQclear(bench_must(conn, PQexecPrepared(conn, "send", 1, params, NULL, NULL, 0), "pgmq.send"));
	bench_line(out, "%lld\n", (long long)sent);
	return 0;
}

/* The sum of the numbers in a pipe whose writers have ended. */
static int64_t read_sum(int fd)
{
	FILE *f = fdopen(fd, "r");
	long long n;
	int64_t sum = 0;

	if (!f)
		return 0;
	while (fscanf(f, "%lld", &n) == 1)
		sum += n;
	fclose(f);
	return sum;
}

/* Runs the producers; the messages that they have sent, or -1. */
static int64_t produce(struct bench *b, const char *queue)
{
	int fds[2];
	bool ok = true;

	if (pipe2(fds, O_CLOEXEC) != 0) {
		cmd_db_fail(&b->db, xasprintf("cannot make a pipe: %s", strerror(errno)));
		return -1;
	}
	start_ns = bench_now_ns() + (START_MS + START_EACH_MS * b->producers) * 1000000;
	for (int64_t i = 0; ok && i < b->producers; i++)
		ok = bench_fork(b, producer_main, queue, fds[1]);
	ok = ok && bench_reap(b);
	close(fds[1]);
	if (!ok) {
		close(fds[0]);
		return -1;
	}
	return read_sum(fds[0]);
}

/* One turn of one way. */
static bool one_round(struct bench *b, struct bench_row *row, const struct way *w, const char *queue)
{
	char *section = xasprintf(
		"plugin = null\nmax_in_flight = %lld\nnotify = %s\n", (long long)b->in_flight, w->notify);
	bool ok = bench_empty(b, queue) && bench_sql(b, "SELECT pgmqd.attach_queue('%s')", queue) &&
	          bench_sql(b, "ALTER TABLE pgmq.q_%s ENABLE TRIGGER pgmqd_wakeup", queue) &&
	          bench_plain_trigger(b, queue, b->channel);
	int64_t sent = -1;

	ok = ok && (!w->notify || bench_daemon_start(b, queue, section));
	/* after the start, because pgmqd warns about a queue without its trigger */
	ok = ok && (w->pgmqd || bench_sql(b, "ALTER TABLE pgmq.q_%s DISABLE TRIGGER pgmqd_wakeup", queue)) &&
	     bench_sql(b, "ALTER TABLE pgmq.q_%s %s TRIGGER plain_notify", queue, w->plain ? "ENABLE" : "DISABLE");
	if (ok)
		sent = produce(b, queue);
	free(section);
	if (sent < 0 || (w->notify && !bench_daemon_stop(b)))
		return false;
	bench_add(row, (double)sent / (double)b->seconds, sent);
	return true;
}

/* The benchmark. */
static bool run(struct bench *b)
{
	struct bench_row rows[NWAYS] = { 0 };
	char *title = xasprintf("messages/s of %lld producers", (long long)b->producers);
	const char *queue = bench_queue(b, "queue", true);
	bool ok = queue != NULL;

	for (size_t k = 0; k < NWAYS; k++)
		rows[k].name = ways[k].name;
	for (int64_t i = 0; ok && i < b->rounds; i++)
		for (size_t k = 0; ok && k < NWAYS; k++)
			ok = one_round(b, &rows[k], &ways[k], queue);
	if (ok)
		bench_print_rates(b, title, rows, NWAYS, 0);
	for (size_t k = 0; k < NWAYS; k++)
		free(rows[k].values);
	free(title);
	return ok;
}

const struct bench_kind bench_enqueue = { .name = "enqueue", .messages = 0, .rounds = 3, .run = run };
