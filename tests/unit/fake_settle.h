/* fake_settle.h: a worker with a fake queue whose outcomes are settled, for tests of settling and of what stands beside
 * it.
 */
#ifndef FAKE_SETTLE_H
#define FAKE_SETTLE_H

#include "fake_queue.h"

#include "worker/settle.h"

extern struct fake *fake;
extern struct pgmqd_worker worker;
extern struct messages all;
extern struct settle settle;
extern unsigned kicks, stale, doubts, read_only; /* how often settling said so */
extern int64_t due_ms;                           /* when the last one is visible again */

int settle_setup(void **state);
int settle_teardown(void **state); /* forgets the messages, too */

/* Gives n messages, numbered from 1, that outcome. */
void fake_end(int n, enum msg_outcome outcome);
/* Gives n messages an outcome with a statement of one parameter that they share. */
void fake_end_with_params(int n);
/* Lets the pauses after refusals pass, and sends. */
void fake_later(void);

#endif
