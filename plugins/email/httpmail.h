/* httpmail.h: a mail over HTTP. */
#ifndef EMAIL_HTTPMAIL_H
#define EMAIL_HTTPMAIL_H

#include "provider.h"

struct pgmqd_msg;

/* Submits the request that gives `mail` to the provider; `done` is told how it went: later, or at once when there is no
 * request. *q lasts until then. */
void httpmail_send(const struct email *h, struct pgmqd_msg *m, const struct provider *p,
	const struct provider_mail *mail, struct provider_request *q,
	void (*done)(void *arg, const struct mail_result *r), void *arg);
/* Frees what is in a request. */
void httpmail_clear(struct provider_request *q);

#endif
