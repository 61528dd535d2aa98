/* batch.h: messages that are worked on together: the JSON that goes out, and the array of outcomes that comes back. */
#ifndef BATCH_BATCH_H
#define BATCH_BATCH_H

#include "batch/answer.h"
#include "pgmqd-plugin.h"

#include <stdbool.h>
#include <stddef.h>

struct batch {
	size_t n, left;           /* messages, and those without an outcome */
	struct pgmqd_msg *msgs[]; /* NULL: it has its outcome, or the host has taken it back */
};

/* `data` becomes what pgmqd_msg_data() gives for each of them. */
struct batch *batch_new(struct pgmqd_msg *const *msgs, size_t n, void *data);
/* The host has taken a message back. False: none is left. */
bool batch_drop(struct batch *b, const struct pgmqd_msg *m);

/* A message with its number, attempt, queue, time and headers, on one line; malloc'd. */
char *batch_message(struct pgmqd_msg *m);
/* The array of those that are left; malloc'd. */
char *batch_array(const struct batch *b);

/* Settles all that are left by one answer. */
void batch_settle(struct batch *b, const struct answer *a);
void batch_retry(struct batch *b, int64_t delay_ms, const char *reason);
/* The call for them failed as a whole: each goes again, alone; one that was alone is settled by the answer. */
void batch_failed(struct batch *b, const struct answer *a);
/* Settles each by its outcome in the array `text`; `kinds` are those that may be asked for, a bit for each. A message
 * without an outcome is tried again, and so is one with an outcome that is none. False: the text is no array, and
 * nothing is settled. */
bool batch_answer(struct batch *b, const char *text, unsigned kinds);

#endif
