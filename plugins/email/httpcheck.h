/* httpcheck.h: what pgmqd doctor can learn from a mail service. */
#ifndef EMAIL_HTTPCHECK_H
#define EMAIL_HTTPCHECK_H

struct email;
struct pgmqd_check;
struct provider;

/* Asks an HTTP provider and tells what came of it; waits for the answer. */
void httpcheck_tell(const struct email *h, const struct provider *p, struct pgmqd_check *c);

#endif
