/* mail.h: events of mail services, and the link by which one unsubscribes. */
#ifndef MAIL_H
#define MAIL_H

#include "control/context.h"

#define MAIL_EVENT_MAX 262144 /* bytes of an event */
#define MAIL_FORM_MAX 4096    /* of the form by which one unsubscribes */

struct mail *mail_new(struct control *c);
void mail_free(struct mail *m);

void mail_event(struct http_request *req);            /* POST /api/mail/events/PROVIDER */
void mail_unsubscribe_page(struct http_request *req); /* GET /api/mail/unsubscribe/TOKEN */
void mail_unsubscribe(struct http_request *req);      /* POST /api/mail/unsubscribe/TOKEN */

#endif
