/* loop.h: timers and events of the event loop. */
#ifndef LOOP_H
#define LOOP_H

#include <event2/event.h>
#include <stdint.h>

/* event_new() and evtimer_new(), or the end of the process */
struct event *loop_event(struct event_base *base, evutil_socket_t fd, short what, event_callback_fn cb, void *arg);
struct event *loop_timer_new(struct event_base *base, event_callback_fn cb, void *arg);

void loop_add(struct event *e, const struct timeval *tv); /* event_add(), or the end of the process */
void loop_timer(struct event *e, int64_t ms);             /* (re)arms a timer; less than a millisecond counts as one */

#endif
