/* scheduler.h: runs the schedules of pgmqd.schedule when they are due. */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include "process/proc.h"

#include <event2/event.h>

struct scheduler;

/* Opens a connection of its own and goes on from there. */
struct scheduler *scheduler_new(struct event_base *base, const struct proc_env *env);
void scheduler_free(struct scheduler *s);

#endif
