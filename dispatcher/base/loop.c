/* loop.c: timers and events of the event loop, which are never lost: a process without memory for one ends. */
#include "config.h"

#include "base/loop.h"
#include "base/xalloc.h"

void loop_add(struct event *e, const struct timeval *tv)
{
	if (event_add(e, tv) != 0)
		xalloc_die("no memory for an event\n");
}

void loop_timer(struct event *e, int64_t ms)
{
	struct timeval tv;

	if (ms < 1)
		ms = 1;
	tv.tv_sec = ms / 1000;
	tv.tv_usec = (ms % 1000) * 1000;
	loop_add(e, &tv);
}
