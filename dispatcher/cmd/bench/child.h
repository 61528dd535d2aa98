/* child.h: the processes that `pgmqd bench` starts. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct bench;

typedef int (*bench_main)(struct bench *b, PGconn *conn, int out, const char *queue); /* the exit status */

bool bench_fork(struct bench *b, bench_main fn, const char *queue, int out);
bool bench_daemon_start(struct bench *b, const char *queue, const char *section); /* true when it is ready */
bool bench_daemon_stop(struct bench *b);
/* Waits for all children except the daemon; false when one failed. */
bool bench_reap(struct bench *b);
/* False, after printing it, when a child has failed already. */
bool bench_children_live(struct bench *b);
/* Waits until fd can be read; false when the benchmark was interrupted, is stuck, or a child has failed. */
bool bench_wait(struct bench *b, int fd);
void bench_kill(struct bench *b);

/* The value of an option of the queue that the command line gives; NULL: none. */
const char *bench_option(const struct bench *b, const char *key);
bool bench_deletes(const struct bench *b); /* on_done = delete: nothing comes into the archive */

/* For the children: the process ends when the statement has failed. */
PGresult *bench_must(PGconn *conn, PGresult *res, const char *what);
void bench_line(int out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *bench_claim_sql(const char *queue);                       /* the dispatcher's claim without its side questions */
char *bench_done_sql(const struct bench *b, const char *queue); /* of one message: archived or deleted */
void bench_wait_notify(PGconn *conn);

int64_t bench_now_ns(void); /* CLOCK_REALTIME, as in the null plugin's trace */

#endif
