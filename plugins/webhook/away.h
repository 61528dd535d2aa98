/* away.h: a receiver that does not answer: how long it is left alone, each time twice as long as before. */
#ifndef WEBHOOK_AWAY_H
#define WEBHOOK_AWAY_H

#include <stdbool.h>
#include <stdint.h>

struct away {
	int64_t longest_ms; /* from the settings */
	int64_t since_us;   /* of the first failure, since 1970; 0: it is not away */
	int64_t last_ms;    /* the end of the last try */
	int64_t next_ms;    /* when the next one may go out */
	int64_t step_ms;    /* the interval */
};

/* The receiver has answered. True: it was away. */
bool away_over(struct away *a);

/* It has not, or not usefully, to a request that began at `began_ms`; `after_ms` is how long it wants to be left alone,
 * 0 if it did not say. Returns for how long it is left alone from now on. */
int64_t away_failed(struct away *a, int64_t began_ms, int64_t now_ms, int64_t now_us, int64_t after_ms);

#endif
