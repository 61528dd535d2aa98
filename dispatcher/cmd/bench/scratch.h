/* scratch.h: the scratch queues of `pgmqd bench`. */
#ifndef BENCH_SCRATCH_H
#define BENCH_SCRATCH_H

#include <stdbool.h>
#include <stdint.h>

struct bench;

/* Makes a queue; `attached`: with pgmqd's trigger. The name that is returned belongs to the bench. NULL after printing
 * why not. */
const char *bench_queue(struct bench *b, const char *suffix, bool attached);
bool bench_plain_trigger(struct bench *b, const char *queue, const char *channel); /* only notifies */
bool bench_no_trigger(struct bench *b, const char *queue);
bool bench_empty(struct bench *b, const char *queue);
bool bench_fill(struct bench *b, const char *queue, int64_t n, int64_t delay_s, const char *body);
bool bench_sql(struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
double bench_number(struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* NAN on failure */
/* Waits until a message has left the queue; the server's time of that. NAN after printing why not. */
double bench_gone(struct bench *b, const char *queue, int64_t id);
/* Waits until the queue is drained, with its newest message `last`; seconds from the server's time `from` to the last
 * message that was done. */
double bench_drained(struct bench *b, const char *queue, int64_t last, double from);
void bench_remove(struct bench *b);

#endif
