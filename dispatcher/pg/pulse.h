/* pulse.h: whether the server at the other end of a connection still answers. */
#ifndef PULSE_H
#define PULSE_H

struct pgconn;
struct pulse;

struct pulse *pulse_new(struct pgconn *c);
void pulse_free(struct pulse *p);

void pulse_start(struct pulse *p); /* the connection is up */
void pulse_stop(struct pulse *p);  /* it is closed */
void pulse_heard(struct pulse *p); /* the server has sent something, or has taken what we sent */
void pulse_asked(struct pulse *p); /* an answer is awaited, and none was before */

#endif
