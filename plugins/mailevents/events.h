/* events.h: what a mail service's event says, as pgmqd.record_mail_event() wants it. */
#ifndef MAILEVENTS_EVENTS_H
#define MAILEVENTS_EVENTS_H

#include <cjson/cJSON.h>

/* Each returns a list of objects {provider, event_id, kind, address, key, provider_id, detail, at}; the caller's. */
cJSON *events_of_resend(const cJSON *body, const char *id);
cJSON *events_of_sendgrid(const cJSON *body);
cJSON *events_of_mailgun(const cJSON *body);
/* `body` is what SNS has in Message. */
cJSON *events_of_ses(const cJSON *body, const char *id);

/* A string inside an object, or "". */
const char *events_text(const cJSON *object, const char *name);

#endif
