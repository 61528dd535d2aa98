/* pace.h: lets a mail go when the limits allow it. */
#ifndef EMAIL_PACE_H
#define EMAIL_PACE_H

#include "sending.h"

/* Calls `go` at once or later, or `away` when the provider has gone away meanwhile; or puts the message off, and the
 * sending is gone. */
void pace_ask(struct sending *s, void (*go)(struct sending *s), void (*away)(struct sending *s, int64_t wait_ms));
/* The provider of s->way says that it was too fast. Returns in how many ms a mail may try again; below 0: not known. */
int64_t pace_slower(struct sending *s);

#endif
