/* away.h: a receiver that does not answer: messages wait for it, on a growing interval, and one of them tries. */
#ifndef WEBHOOK_AWAY_H
#define WEBHOOK_AWAY_H

#include <stdbool.h>
#include <stdint.h>

struct away {
	unsigned failures; /* in a row */
	int64_t since_ms;  /* of the first of them */
	int64_t next_ms;   /* when the next try may go out; 0: it is not away */
	int64_t step_ms;   /* the interval */
	bool trying;       /* one message is on its way to see */
};

/* How long a message must wait before it may go out; 0: it may go now, and if the receiver is away it is the one that
 * tries. */
int64_t away_wait(struct away *a, int64_t now_ms);

/* The receiver has answered. True: it was away. */
bool away_over(struct away *a);

/* It has not, or not usefully; `after_ms` is how long it wants to be left alone, 0 if it did not say. Returns how long
 * the message must wait. *begins: it is away from now on. */
int64_t away_failed(struct away *a, int64_t now_ms, int64_t after_ms, bool *begins);

/* The message that tried was taken back. */
void away_forget(struct away *a);

#endif
