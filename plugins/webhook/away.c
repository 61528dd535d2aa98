/* away.c: a receiver that does not answer: messages wait for it, on a growing interval, and one of them tries. */
#include "config.h"

#include "away.h"

#define AWAY_FIRST_MS 5000
#define AWAY_LAST_MS 300000
#define AWAY_AGAIN_MS 500 /* for a message that comes while another one tries */

int64_t away_wait(struct away *a, int64_t now_ms)
{
	if (a->next_ms == 0)
		return 0;
	if (now_ms < a->next_ms)
		return a->next_ms - now_ms;
	if (a->trying)
		return AWAY_AGAIN_MS;
	a->trying = true;
	return 0;
}

bool away_over(struct away *a)
{
	bool was = a->next_ms != 0;

	*a = (struct away){ 0 };
	return was;
}

int64_t away_failed(struct away *a, int64_t now_ms, int64_t after_ms, bool *begins)
{
	*begins = a->next_ms == 0;
	if (a->failures++ == 0)
		a->since_ms = now_ms;
	/* those that went out together fail together: they are one try */
	if (*begins || (a->trying && now_ms >= a->next_ms)) {
		a->step_ms = a->step_ms == 0 ? AWAY_FIRST_MS : a->step_ms * 2;
		if (a->step_ms > AWAY_LAST_MS)
			a->step_ms = AWAY_LAST_MS;
		a->next_ms = now_ms + (after_ms > 0 ? after_ms : a->step_ms);
		a->trying = false;
	} else if (after_ms > 0 && now_ms + after_ms > a->next_ms) {
		a->next_ms = now_ms + after_ms;
	}
	return a->next_ms > now_ms ? a->next_ms - now_ms : 1;
}

void away_forget(struct away *a)
{
	a->trying = false;
}
