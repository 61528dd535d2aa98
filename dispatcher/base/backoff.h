/* backoff.h: how long to wait before the next try. */
#ifndef BACKOFF_H
#define BACKOFF_H

#include <stdint.h>

/* Milliseconds to wait before try number `attempt` + 1 (attempt counts the failures so far, from 1): uniformly
 * spread between min_ms / 2 and min_ms * 2^(attempt - 1), which max_ms caps. `random` is any 64 random bits. */
int64_t backoff_delay(unsigned attempt, int64_t min_ms, int64_t max_ms, uint64_t random);

/* The same for a message's retry: min_ms * 4^(attempt - 1), which max_ms caps, less up to a quarter of it: so a number
 * of attempts always lasts a certain time. */
int64_t backoff_retry(unsigned attempt, int64_t min_ms, int64_t max_ms, uint64_t random);

uint64_t backoff_random(void); /* 64 bits from the kernel */

#endif
