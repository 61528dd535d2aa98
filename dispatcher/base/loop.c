/* loop.c: timers and events of the event loop, which are never lost: a process without memory for one ends. */
#include "config.h"

#include "base/loop.h"
#include "base/xalloc.h"

struct event *loop_event(struct event_base *base, evutil_socket_t fd, short what, event_callback_fn cb, void *arg)
{
	struct event *e = event_new(base, fd, what, cb, arg);

	if (!e)
		xalloc_die("no memory for an event\n");
	return e;
}

struct event *loop_timer_new(struct event_base *base, event_callback_fn cb, void *arg)
{
	return loop_event(base, -1, 0, cb, arg);
}

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
