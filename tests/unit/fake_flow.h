/* fake_flow.h: a flow with a fake queue, for tests of the message path. */
#ifndef FAKE_FLOW_H
#define FAKE_FLOW_H

#include "fake_queue.h"

#include "worker/flow.h"

extern struct fake *fake;
extern struct flow *flow;
extern bool flow_idle;      /* after fake_flow_drain(): all is stored */
extern unsigned flow_limit; /* messages with the plugin at once, of the next flow */

extern unsigned flow_batch; /* messages in one call, of the next flow */
extern bool flow_crashed;   /* whether the process before the next flow crashed */

int fake_flow_setup(void **state);
int fake_flow_teardown(void **state);

/* Begins to drain; flow_idle says when that is done. */
void fake_flow_drain(void);

/* Connected, not paused, and the first claim is under way. */
void fake_up(void);
/* Asleep: connected, and the first claims have brought nothing. */
void fake_asleep(void);

#endif
