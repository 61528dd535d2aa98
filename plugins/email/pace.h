/* pace.h: lets a mail go when the limits allow it. */
#ifndef EMAIL_PACE_H
#define EMAIL_PACE_H

struct email;
struct sending;
struct way;

/* Calls sending_start() at once or later; or puts the message off, and the sending is gone. */
void pace_begin(struct sending *s);
/* The provider of `way` says that it was too fast. */
void pace_throttled(struct sending *s);

#endif
