/* bench.h: what the files of `pgmqd bench` share: the request, child processes, the scratch queues, and what was
 * measured. */
#ifndef BENCH_H
#define BENCH_H

#include "cmd/db.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_CHILDREN_MAX 300
#define BENCH_QUEUES_MAX 4
#define BENCH_STUCK_MS 120000 /* without any progress: something is wrong */

/* Figures of one contender: a latency of each message, or a rate of each round. */
struct bench_row {
	const char *name;
	double *values;
	size_t n;
	int64_t messages;
};

/* What the command line says, and what has to be put away at the end. */
struct bench {
	struct dbcommand db;
	const struct bench_kind *kind;
	int64_t messages, rounds, gap_ms, producers, seconds, in_flight, delayed;
	const char *smtp, *to;
	char **options; /* "KEY=VALUE" for the queue's section */
	size_t noptions;
	bool json, hold_snapshot;

	char *queues[BENCH_QUEUES_MAX]; /* those that exist */
	size_t nqueues;
	char *notifier; /* "pgmq.x()", the trigger function of plain notifications; NULL: not made */
	char *channel;
	pid_t children[BENCH_CHILDREN_MAX];
	size_t nchildren;
	pid_t daemon;
};

/* One of the benchmarks. */
struct bench_kind {
	const char *name;
	int64_t messages, rounds;
	bool (*run)(struct bench *b); /* false: it was told what failed, or it was interrupted */
};

extern volatile sig_atomic_t bench_interrupted;

bool bench_latency(struct bench *b);
bool bench_drain(struct bench *b);
bool bench_enqueue(struct bench *b);
bool bench_mail(struct bench *b);

/* scratch.c: queues. The name that is returned is the bench's; `attached`: with pgmqd's trigger. NULL: it was told why
 * not. */
const char *bench_queue(struct bench *b, const char *suffix, bool attached);
bool bench_plain_trigger(struct bench *b, const char *queue, const char *channel); /* notifies and does nothing else */
bool bench_no_trigger(struct bench *b, const char *queue);
bool bench_empty(struct bench *b, const char *queue);
bool bench_fill(struct bench *b, const char *queue, int64_t n, int64_t delay_s, const char *body);
bool bench_sql(struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
double bench_number(struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* NAN on failure */
/* Waits until the queue, whose newest message is `last`, is in its archive; seconds from the server's time `from` to
 * the last one. */
double bench_drained(struct bench *b, const char *queue, int64_t last, double from);
void bench_remove(struct bench *b);

/* child.c: processes. */
typedef int (*bench_main)(struct bench *b, PGconn *conn, int out, const char *queue); /* the exit status */
bool bench_fork(struct bench *b, bench_main fn, const char *queue, int out);
bool bench_daemon_start(struct bench *b, const char *queue, const char *section); /* true when it is ready */
bool bench_daemon_stop(struct bench *b);
bool bench_reap(struct bench *b);          /* waits for all children but the daemon; false when one failed */
bool bench_children_live(struct bench *b); /* false, and told, when one has failed already */
bool bench_wait(
	struct bench *b, int fd); /* until it can be read; false when interrupted, stuck or a child has failed */
void bench_kill(struct bench *b);

/* For the children: a statement that must work, else the process ends. */
PGresult *bench_must(PGconn *conn, PGresult *res, const char *what);
void bench_line(int out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *bench_claim_sql(const char *queue); /* as the dispatcher claims, without what it asks beside */
char *bench_archive_sql(const char *queue);
void bench_wait_notify(PGconn *conn);

int64_t bench_now_ns(void); /* CLOCK_REALTIME, which the null plugin's trace has */

/* report.c */
void bench_add(struct bench_row *r, double value, int64_t messages);
void bench_print_latency(const struct bench *b, const char *what, const struct bench_row *rows, size_t n, size_t base);
void bench_print_rates(const struct bench *b, const char *what, const struct bench_row *rows, size_t n, size_t base);

#endif
