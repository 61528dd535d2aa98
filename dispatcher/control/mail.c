/* mail.c: events of mail services, and the link by which one unsubscribes. Both come from outside. */
#include "config.h"

#include "control/mail.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "base/xalloc.h"
#include "control/certificate.h"
#include "control/context.h"
#include "control/db.h"
#include "mailevents/verify.h"
#include "settings/load.h"
#include "settings/option.h"

#include <stdlib.h>
#include <string.h>

#define MAIL_TOKEN_LEN 40

#define MAIL_RATE 50   /* events a second */
#define MAIL_BURST 200 /* and so many at once */

/* The queue that takes events. */
struct mail {
	const char *queue; /* whose plugin is mailevents; NULL: none */
	double tokens;     /* events that may come now */
	int64_t counted_ms;
#ifdef WITH_MAILEVENTS
	struct verify_keys keys;
	struct certificates *certificates;
#endif
};

/* Reads the keys out of the queue's settings; its worker reports what is wrong with them. */
struct mail *mail_new(struct control *c)
{
	const struct settings *s = c->env->settings;
	struct mail *m = xcalloc(1, sizeof *m);

	m->tokens = MAIL_BURST;
#ifdef WITH_MAILEVENTS
	m->certificates = certificates_new(c->base);
	for (size_t i = 0; i < s->nqueues && m->queue == NULL; i++)
		if (strcmp(s->queues[i].plugin, "mailevents") == 0) {
			m->queue = s->queues[i].name;
			free(settings_plugin_options(s, &s->queues[i], verify_options, &m->keys));
		}
#else
	(void)s;
#endif
	return m;
}

void mail_free(struct mail *m)
{
	if (m == NULL)
		return;
#ifdef WITH_MAILEVENTS
	option_free(verify_options, &m->keys);
	certificates_free(m->certificates);
#endif
	free(m);
}

#ifdef WITH_MAILEVENTS

/* The services, and the headers of each that its signature needs; the first of them is there in every event. */
static const struct {
	const char *provider, *headers[4];
} mail_services[] = {
	{ "resend", { "svix-signature", "svix-id", "svix-timestamp" } },
	{ "sendgrid", { "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp" } },
	{ "mailgun", { NULL } }, /* signs inside the body */
	{ "ses", { "x-amz-sns-message-type" } },
};

/* Tells in the log and in the answer why an event is not believed. */
static void mail_refuse(struct http_request *req, const char *why)
{
	log_warn("an event of %s from %s was refused: %s", req->param[0], http_request_peer(req), why);
	http_request_error(req, 403, "forged", "%s", why);
}

/* It is in the queue, unless its token came with another event before. */
static void mail_queued(struct http_request *req, const struct pgresult *r)
{
	cJSON *json;

	if (PQgetisnull(r->res, 0, 0)) {
		mail_refuse(req, "its token came with another event before");
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddBoolToObject(json, "accepted", 1);
	http_request_json(req, 200, json);
}

/* The certificate at an address, if it was fetched. */
static const char *mail_certificate(void *arg, const char *url)
{
	return certificates_find(((struct mail *)arg)->certificates, url);
}

/* The headers of an event that its signature needs. */
static cJSON *mail_headers(const struct http_request *req, size_t service)
{
	cJSON *headers = cJSON_CreateObject();
	const char *name, *value;

	for (size_t h = 0; h < 4 && (name = mail_services[service].headers[h]) != NULL; h++)
		if ((value = http_request_header(req, name)) != NULL && utf8_is_valid(value, strlen(value)))
			cJSON_AddStringToObject(headers, name, value);
	return headers;
}

/* Puts an event that is genuine into the queue, as it came. */
static void mail_store(struct http_request *req, const cJSON *headers)
{
	char *text = cJSON_PrintUnformatted(headers);
	cJSON *body = cJSON_Parse(req->body);
	const char *const params[5] = { control_of(req)->mail->queue, req->param[0], text, req->body,
		verify_token(req->param[0], body) };

	control_db_query(req, "SELECT pgmqd.queue_mail_event($1, $2, $3::jsonb, $4, $5)", 5, params, mail_queued);
	cJSON_free(text);
	cJSON_Delete(body);
}

static void mail_verify(struct http_request *req, bool fetched);

/* The certificate has come, or cannot be fetched. */
static void mail_fetched(void *arg)
{
	mail_verify(arg, true);
}

/* The signature cannot be verified without a certificate: fetches it once, or asks the service to come again. */
static void mail_fetch(struct http_request *req, const char *url, bool fetched)
{
	if (!fetched && certificates_fetch(control_of(req)->mail->certificates, url, mail_fetched, req))
		return;
	http_request_add_header(req, "Retry-After", "5");
	http_request_error(
		req, 503, "no_certificate", "the certificate of the signature cannot be fetched now; try again");
}

/* Nothing is stored of an event before its signature was verified. */
static void mail_verify(struct http_request *req, bool fetched)
{
	struct mail *m = control_of(req)->mail;
	size_t service = 0;
	cJSON *headers;
	char *why;

	while (strcmp(mail_services[service].provider, req->param[0]) != 0)
		service++;
	headers = mail_headers(req, service);
	switch (verify_event(&m->keys, req->param[0], headers, req->body, clock_realtime_us() / 1000000,
		mail_certificate, m, &why)) {
	case VERIFY_GOOD:
		mail_store(req, headers);
		break;
	case VERIFY_CERTIFICATE:
		mail_fetch(req, why, fetched);
		break;
	case VERIFY_NO_KEY:
		http_request_error(req, 403, "no_key", "%s", why);
		break;
	default:
		mail_refuse(req, why);
	}
	free(why);
	cJSON_Delete(headers);
}

/* Whether one more event may come now. */
static bool mail_may(struct mail *m)
{
	int64_t now = clock_monotonic_ms();

	m->tokens += (double)(now - m->counted_ms) * MAIL_RATE / 1000;
	m->counted_ms = now;
	if (m->tokens > MAIL_BURST)
		m->tokens = MAIL_BURST;
	if (m->tokens < 1)
		return false;
	m->tokens--;
	return true;
}

void mail_event(struct http_request *req)
{
	struct mail *m = control_of(req)->mail;
	size_t i, n = sizeof mail_services / sizeof *mail_services;

	for (i = 0; i < n && strcmp(mail_services[i].provider, req->param[0]) != 0; i++)
		;
	if (m->queue == NULL || i == n) {
		http_request_error(
			req, 404, "not_found", "no queue with plugin = mailevents takes events of such a service");
	} else if (!mail_may(m)) {
		http_request_add_header(req, "Retry-After", "1");
		http_request_error(req, 429, "too_many", "too many events at once; try again");
	} else if (req->body_len == 0 || strlen(req->body) != req->body_len ||
		   !utf8_is_valid(req->body, req->body_len) ||
		   (mail_services[i].headers[0] != NULL &&
			   http_request_header(req, mail_services[i].headers[0]) == NULL)) {
		http_request_error(req, 400, "bad_event", "this is not an event of that service");
	} else {
		mail_verify(req, false);
	}
}

#else

/* This pgmqd was built without the plugin mailevents. */
void mail_event(struct http_request *req)
{
	http_request_error(req, 404, "not_found", "this pgmqd was built without the plugin mailevents");
}

#endif

/* Whether it looks like one of our tokens; else 404. */
static bool mail_token(struct http_request *req)
{
	const char *t = req->param[0];

	if (strspn(t, "0123456789abcdef") == MAIL_TOKEN_LEN && strlen(t) == MAIL_TOKEN_LEN)
		return true;
	http_request_error(req, 404, "not_found", "this link is not one of ours");
	return false;
}

static const char mail_head[] =
	"<!doctype html><html lang=\"ru\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
	"content=\"width=device-width\">"
	"<meta name=\"robots\" content=\"noindex\"><title>Отписка · Unsubscribe</title>"
	"<style>body{font:16px/1.5 system-ui,sans-serif;max-width:32em;margin:4em auto;padding:0 1em}"
	"button{font:inherit;padding:.7em 1.4em}</style></head><body>";

/* GET: a page with a button, since programs that look at links must not unsubscribe anybody. */
void mail_unsubscribe_page(struct http_request *req)
{
	char *page;

	if (!mail_token(req))
		return;
	page = xasprintf("%s<form method=\"post\"><p>Больше не присылать напоминания на этот адрес?</p>"
			 "<p lang=\"en\">No more reminders to this address?</p><button>Отписаться · "
			 "Unsubscribe</button></form></body></html>\n",
		mail_head);
	http_request_add_header(
		req, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'");
	http_request_add_header(req, "Referrer-Policy", "no-referrer");
	http_request_text(req, 200, "text/html; charset=utf-8", page);
	free(page);
}

/* The database has answered. */
static void mail_unsubscribed(struct http_request *req, const struct pgresult *r)
{
	char *page;

	if (strcmp(PQgetvalue(r->res, 0, 0), "t") != 0) {
		http_request_error(req, 404, "not_found", "this link is not one of ours");
		return;
	}
	page = xasprintf("%s<p>Готово: напоминаний больше не будет. Письма о записях, оплатах и отчётах приходят "
			 "по-прежнему.</p>"
			 "<p lang=\"en\">Done: no more reminders. Mails about appointments, payments and reports still "
			 "come.</p></body></html>\n",
		mail_head);
	http_request_text(req, 200, "text/html; charset=utf-8", page);
	free(page);
}

/* POST: by the button, or by a mail program (RFC 8058), which sends no cookies and follows no redirects. */
void mail_unsubscribe(struct http_request *req)
{
	const char *params[1] = { req->param[0] };

	if (mail_token(req))
		control_db_query(req, "SELECT pgmqd.unsubscribe($1)", 1, params, mail_unsubscribed);
}
