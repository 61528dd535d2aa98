/* loop.h: timers and events of the event loop. */
#ifndef LOOP_H
#define LOOP_H

#include <event2/event.h>
#include <stdint.h>

void loop_add(struct event *e, const struct timeval *tv); /* event_add(), or the end of the process */
void loop_timer(struct event *e, int64_t ms);             /* (re)arms a timer; less than a millisecond counts as one */

#endif
