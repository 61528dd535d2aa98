/* delivery.h: the way of a mail: limits, ledger, provider, and perhaps the next provider. */
#ifndef EMAIL_DELIVERY_H
#define EMAIL_DELIVERY_H

struct email;
struct pgmqd_msg;

/* Takes a message. */
void delivery_begin(struct email *h, struct pgmqd_msg *m);
/* Lets go of a message, if it has it. */
void delivery_cancel(struct email *h, struct pgmqd_msg *m);

#endif
