/* away.c: a receiver that does not answer: how long it is left alone, each time twice as long as before. */
#include "config.h"

#include "away.h"

#define AWAY_FIRST_MS 1000

bool away_over(struct away *a)
{
	bool was = a->since_us != 0;

	*a = (struct away){ .longest_ms = a->longest_ms };
	return was;
}

int64_t away_failed(struct away *a, int64_t began_ms, int64_t now_ms, int64_t now_us, int64_t after_ms)
{
	/* those that were under way together fail together: they are one try */
	bool same = a->since_us != 0 && began_ms < a->last_ms;

	if (a->since_us == 0)
		a->since_us = now_us;
	if (!same) {
		a->step_ms = a->step_ms == 0 ? AWAY_FIRST_MS : a->step_ms * 2;
		if (a->step_ms > a->longest_ms)
			a->step_ms = a->longest_ms;
		a->last_ms = now_ms;
		a->next_ms = now_ms + (after_ms > 0 ? after_ms : a->step_ms);
	} else if (after_ms > 0 && now_ms + after_ms > a->next_ms) {
		a->next_ms = now_ms + after_ms;
	}
	return a->next_ms > now_ms ? a->next_ms - now_ms : 1;
}
