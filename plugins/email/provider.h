/* provider.h: what the plugin knows of a way for mails to leave: one table row for each, and what HTTP ones have in
 * common. */
#ifndef EMAIL_PROVIDER_H
#define EMAIL_PROVIDER_H

#include "mime.h"
#include "verdict.h"

#include <curl/curl.h>
#include <glib.h>
#include <stdbool.h>

struct cJSON;
struct email;
struct provider;

#define PROVIDERS_MAX 5

/* A mail as a provider may want it: taken apart, or whole. */
struct provider_mail {
	const struct mime_mail *parts;
	const char *bytes; /* as it would go over the wire, without SMTP's dots */
	size_t len;
	const char *key; /* hex digits: equal for all copies of this mail and no other one */
};

/* The parts of the request; freed after the transfer. */
struct provider_request {
	GString *url, *body;
	struct curl_slist *headers;
	const char *user, *pass; /* Basic, or for `sigv4` */
	char *sigv4;             /* "aws:amz:REGION:ses" */
	/* While it is under way. */
	CURL *easy;
	const struct provider *provider;
	const char *recipient; /* for answers that name it */
	void (*done)(void *arg, const struct mail_result *result);
	void *arg;
};

/* The answer. */
struct provider_reply {
	CURL *easy;
	long status;              /* of an answer that has come */
	const struct cJSON *json; /* NULL: the body is no JSON */
	const char *recipient;
};

struct provider {
	const char *name;
	/* A mail that is submitted again with the same key within a day is not sent again. */
	bool idempotent;
	/* NULL, or what is missing (g_malloc'd). */
	char *(*check)(const struct email *h);
	/* HTTP only: fills the request in. */
	void (*request)(const struct email *h, const struct provider_mail *mail, struct provider_request *q);
	/* HTTP only: changes what the status alone has decided, and fills `id` in. */
	void (*judge)(const struct provider_reply *reply, struct mail_result *result);
	/* HTTP only: fills in a GET that shows whether the key is taken, without sending a mail. */
	void (*probe)(const struct email *h, struct provider_request *q);
};

extern const struct provider provider_smtp, provider_resend, provider_sendgrid, provider_mailgun, provider_ses,
	provider_file;

/* Reads "resend, smtp" in order. NULL and the row(s), or what is wrong (g_malloc'd). */
char *provider_list(const char *text, const struct provider *list[PROVIDERS_MAX], unsigned *n);

/* The meaning of an HTTP answer, or of its absence, by the status and the provider's own judgement. `result` owns what
 * it holds. */
void provider_judge(const struct provider *p, const struct provider_reply *reply, const char *body,
	int64_t retry_after_ms, struct mail_result *result);
/* The same for a transfer that failed; `all_sent`: the provider may have the whole request. */
void provider_judge_failure(const struct provider *p, int curl_code, long os_errno, const char *error, bool all_sent,
	struct mail_result *result);

/* For judge(): one row a name of an error; the first that fits decides. */
struct provider_error {
	const char *name;
	enum mail_class is;
};
void provider_by_name(const struct provider_error *rows, size_t n, const char *name, struct mail_result *result);

/* A string inside an object, or "". */
const char *provider_text(const struct cJSON *object, const char *name);
/* A header of the answer, or "". */
const char *provider_header(const struct provider_reply *reply, const char *name);

/* For check(): an address to which a key goes must be one of https, but on this machine. NULL, or what is wrong. */
char *provider_check_url(const char *option, const char *url);
/* For request(). */
void provider_add_header(struct provider_request *q, const char *name, const char *value);
/* The header Authorization with a key. */
void provider_bearer(struct provider_request *q, const char *key);
/* BASE without slashes at its end. */
void provider_url(struct provider_request *q, const char *base);
/* The parts of every transfer to a provider: the URL, the headers, whom to trust, who we are. */
CURLcode provider_set_up(CURL *easy, const struct email *h, const struct provider_request *q);
/* `Name <address>`, the name quoted where it must be; g_malloc'd. */
char *provider_mailbox(const char *name, const char *address);
/* An attachment's content; g_malloc'd. */
char *provider_base64(const void *data, size_t len);

#endif
