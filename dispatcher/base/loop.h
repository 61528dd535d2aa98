/* loop.h: timers of the event loop. */
#ifndef LOOP_H
#define LOOP_H

#include <event2/event.h>
#include <stdint.h>

void loop_timer(struct event *e, int64_t ms); /* (re)arms a timer; less than a millisecond counts as one */

#endif
