/* loop.c: timers of the event loop. */
#include "config.h"

#include "base/loop.h"

void loop_timer(struct event *e, int64_t ms)
{
	struct timeval tv;

	if (ms < 1)
		ms = 1;
	tv.tv_sec = ms / 1000;
	tv.tv_usec = (ms % 1000) * 1000;
	evtimer_add(e, &tv);
}
