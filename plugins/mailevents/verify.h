/* verify.h: whether an event comes from the mail service that it names. The HTTP server asks before it stores anything,
 * and the plugin asks again, since a message can be put into its queue by other ways: this file is a part of both, and
 * needs neither. */
#ifndef MAILEVENTS_VERIFY_H
#define MAILEVENTS_VERIFY_H

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

/* The keys by which the events of each service are verified; the plugin's options, and the beginning of its handle. */
struct verify_keys {
	const char *resend_secret, *sendgrid_key, *mailgun_key, *ses_topic, *sns_url;
};
extern const struct pgmqd_option verify_options[];

/* NULL, or what is wrong with a key: it can be none at all. */
const char *verify_keys_wrong(const struct verify_keys *k);

enum verify_result {
	VERIFY_GOOD,
	VERIFY_NO_KEY,      /* the settings have nothing to verify this service's events by */
	VERIFY_FORGED,      /* it is not from that service, or is too old */
	VERIFY_CERTIFICATE, /* the certificate at the address *why has to be fetched first */
};

/* An event of a service (resend, sendgrid, mailgun, ses) that came at `came_s` (seconds since 1970) with these headers.
 * `certificate` returns the PEM that is at an address, or NULL when it was not fetched yet. *why is malloc'd: the
 * reason unless it is good. */
enum verify_result verify_event(const struct verify_keys *k, const char *service, const cJSON *headers,
	const char *body, int64_t came_s, const char *(*certificate)(void *arg, const char *url), void *arg,
	char **why);

/* The token that a service signs in place of the event; it is good for one event. NULL: the event is signed. */
const char *verify_token(const char *service, const cJSON *body);

/* Whether an address is Amazon's SNS, or below sns_url. */
bool verify_is_sns(const struct verify_keys *k, const char *url);

#endif
