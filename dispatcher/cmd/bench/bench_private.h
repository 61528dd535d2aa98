/* bench_private.h: what the files of `pgmqd bench` share: the request, and what has to be removed at the end. */
#ifndef BENCH_PRIVATE_H
#define BENCH_PRIVATE_H

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

/* The options on the command line, and the objects to remove at the end. */
struct bench {
	struct cmd_db db;
	const struct bench_kind *kind;
	int64_t messages, rounds, gap_ms, producers, seconds, in_flight, delayed;
	const char *smtp, *to;
	struct cmd_list options; /* "KEY=VALUE" for the queue's section */
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
	bool (*run)(struct bench *b); /* false after printing what failed, or when it was interrupted */
};

extern volatile sig_atomic_t bench_interrupted;

extern const struct bench_kind bench_latency, bench_drain, bench_enqueue, bench_mail;

#endif
