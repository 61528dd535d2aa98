/* mail.c: what mail services tell of mails that were sent, and the link by which one unsubscribes. Both come from
 * outside. */
#include "config.h"

#include "control/mail.h"

#include "base/xalloc.h"
#include "control/context.h"
#include "control/db.h"
#include "http/text.h"

#include <stdlib.h>
#include <string.h>

#define MAIL_TOKEN_LEN 40

/* The services, and the headers of each that its signature needs; one without the first of them is nobody that we know.
 */
static const struct {
	const char *provider, *headers[4];
} mail_services[] = {
	{ "resend", { "svix-signature", "svix-id", "svix-timestamp" } },
	{ "sendgrid", { "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp" } },
	{ "mailgun", { NULL } }, /* signs inside the body */
	{ "ses", { "x-amz-sns-message-type" } },
};

/* The queue whose plugin verifies what comes; NULL when there is none. */
static const char *mail_queue(const struct control *c)
{
	const struct settings *s = c->env->settings;

	for (size_t i = 0; i < s->nqueues; i++)
		if (strcmp(s->queues[i].plugin, "mailevents") == 0)
			return s->queues[i].name;
	return NULL;
}

/* It is in the queue. */
static void mail_queued(struct http_request *req, const struct pgresult *r)
{
	cJSON *json = cJSON_CreateObject();

	(void)r;
	cJSON_AddBoolToObject(json, "accepted", 1);
	http_request_json(req, 200, json);
}

/* POST /api/mail/events/{provider}: into the queue as it came. Whether it is genuine is for the plugin to find out,
 * which has what it takes. */
void mail_event(struct http_request *req)
{
	const char *queue = mail_queue(control_of(req)), *body, *value;
	size_t len, i, n = sizeof mail_services / sizeof *mail_services;
	cJSON *headers;
	char *text;

	for (i = 0; i < n && strcmp(mail_services[i].provider, req->param[0]) != 0; i++)
		;
	if (queue == NULL || i == n) {
		http_request_error(
			req, 404, "not_found", "no queue with plugin = mailevents takes events of such a service");
		return;
	}
	body = req->body;
	len = req->body_len;
	if (len == 0 || strlen(body) != len ||
		(mail_services[i].headers[0] != NULL &&
			http_request_header(req, mail_services[i].headers[0]) == NULL)) {
		http_request_error(req, 400, "bad_event", "this is no event of that service");
		return;
	}
	headers = cJSON_CreateObject();
	for (size_t h = 0; h < 4 && mail_services[i].headers[h] != NULL; h++)
		if ((value = http_request_header(req, mail_services[i].headers[h])) != NULL &&
			http_text_is_utf8(value, strlen(value)))
			cJSON_AddStringToObject(headers, mail_services[i].headers[h], value);
	text = cJSON_PrintUnformatted(headers);
	const char *const params[4] = { queue, req->param[0], text, body };

	control_db_query(req, "SELECT pgmqd.queue_mail_event($1, $2, $3::jsonb, $4)", 4, params, mail_queued);
	cJSON_free(text);
	cJSON_Delete(headers);
}

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
