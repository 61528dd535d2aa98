/* mail.c: what mail services tell of mails that were sent, and the link by which one unsubscribes. Both come from
 * outside. */
#include "config.h"

#include "http/route.h"

#include "base/xalloc.h"
#include "control/db.h"
#include "settings/settings.h"

#include <stdlib.h>
#include <string.h>

#define HTTPMAIL_BODY_MAX (512 * 1024)
#define HTTPMAIL_TOKEN_LEN 40

/* The services, and the headers of each that its signature needs; one without the first of them is nobody that we know.
 */
static const struct {
	const char *provider, *headers[4];
} httpmail_services[] = {
	{ "resend", { "svix-signature", "svix-id", "svix-timestamp" } },
	{ "sendgrid", { "X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp" } },
	{ "mailgun", { NULL } }, /* signs inside the body */
	{ "ses", { "x-amz-sns-message-type" } },
};

/* The queue whose plugin verifies what comes; NULL when there is none. */
static const char *httpmail_queue(const struct control *c)
{
	const struct settings *s = c->env->settings;

	for (size_t i = 0; i < s->nqueues; i++)
		if (strcmp(s->queues[i].plugin, "mailevents") == 0)
			return s->queues[i].name;
	return NULL;
}

/* It is in the queue. */
static void httpmail_queued(struct httpcall *call, const struct pgresult *r)
{
	cJSON *json = cJSON_CreateObject();

	(void)r;
	cJSON_AddBoolToObject(json, "accepted", 1);
	httpcall_json(call, HTTP_OK, json);
}

/* POST /api/mail/events/{provider}: into the queue as it came. Whether it is genuine is for the plugin to find out,
 * which has what it takes. */
static void httpmail_event(struct httpcall *call)
{
	const char *queue = httpmail_queue(call->control), *body, *value;
	size_t len, i, n = sizeof httpmail_services / sizeof *httpmail_services;
	cJSON *headers;
	char *text;

	for (i = 0; i < n && strcmp(httpmail_services[i].provider, call->param[0]) != 0; i++)
		;
	if (queue == NULL || i == n) {
		httpcall_error(call, HTTP_NOTFOUND, "not_found",
			"no queue with plugin = mailevents takes events of such a service");
		return;
	}
	body = httpcall_body(call, &len);
	if (len == 0 || len > HTTPMAIL_BODY_MAX || strlen(body) != len ||
		(httpmail_services[i].headers[0] != NULL &&
			httpcall_header(call, httpmail_services[i].headers[0]) == NULL)) {
		httpcall_error(call, HTTP_BADREQUEST, "bad_event", "this is no event of that service");
		return;
	}
	headers = cJSON_CreateObject();
	for (size_t h = 0; h < 4 && httpmail_services[i].headers[h] != NULL; h++)
		if ((value = httpcall_header(call, httpmail_services[i].headers[h])) != NULL)
			cJSON_AddStringToObject(headers, httpmail_services[i].headers[h], value);
	text = cJSON_PrintUnformatted(headers);
	const char *const params[4] = { queue, call->param[0], text, body };

	httpdb_query(call, "SELECT pgmqd.queue_mail_event($1, $2, $3::jsonb, $4)", 4, params, httpmail_queued);
	cJSON_free(text);
	cJSON_Delete(headers);
}

/* Whether it looks like one of our tokens; else 404. */
static bool httpmail_token(struct httpcall *call)
{
	const char *t = call->param[0];

	if (strspn(t, "0123456789abcdef") == HTTPMAIL_TOKEN_LEN && strlen(t) == HTTPMAIL_TOKEN_LEN)
		return true;
	httpcall_error(call, HTTP_NOTFOUND, "not_found", "this link is not one of ours");
	return false;
}

static const char httpmail_head[] =
	"<!doctype html><html lang=\"ru\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
	"content=\"width=device-width\">"
	"<meta name=\"robots\" content=\"noindex\"><title>Отписка · Unsubscribe</title>"
	"<style>body{font:16px/1.5 system-ui,sans-serif;max-width:32em;margin:4em auto;padding:0 1em}"
	"button{font:inherit;padding:.7em 1.4em}</style></head><body>";

/* GET: a page with a button, since programs that look at links must not unsubscribe anybody. */
static void httpmail_page(struct httpcall *call)
{
	char *page;

	if (!httpmail_token(call))
		return;
	page = xasprintf("%s<form method=\"post\"><p>Больше не присылать напоминания на этот адрес?</p>"
			 "<p lang=\"en\">No more reminders to this address?</p><button>Отписаться · "
			 "Unsubscribe</button></form></body></html>\n",
		httpmail_head);
	httpcall_add_header(
		call, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'");
	httpcall_add_header(call, "Referrer-Policy", "no-referrer");
	httpcall_text(call, HTTP_OK, "text/html; charset=utf-8", page);
	free(page);
}

/* The database has answered. */
static void httpmail_unsubscribed(struct httpcall *call, const struct pgresult *r)
{
	char *page;

	if (strcmp(PQgetvalue(r->res, 0, 0), "t") != 0) {
		httpcall_error(call, HTTP_NOTFOUND, "not_found", "this link is not one of ours");
		return;
	}
	page = xasprintf("%s<p>Готово: напоминаний больше не будет. Письма о записях, оплатах и отчётах приходят "
			 "по-прежнему.</p>"
			 "<p lang=\"en\">Done: no more reminders. Mails about appointments, payments and reports still "
			 "come.</p></body></html>\n",
		httpmail_head);
	httpcall_text(call, HTTP_OK, "text/html; charset=utf-8", page);
	free(page);
}

/* POST: by the button, or by a mail program (RFC 8058), which sends no cookies and follows no redirects. */
static void httpmail_unsubscribe(struct httpcall *call)
{
	const char *params[1] = { call->param[0] };

	if (httpmail_token(call))
		httpdb_query(call, "SELECT pgmqd.unsubscribe($1)", 1, params, httpmail_unsubscribed);
}

const struct httproute httpmail_routes[] = {
	{ EVHTTP_REQ_POST, "/api/mail/events/{provider}", HTTPROUTE_PUBLIC, httpmail_event },
	{ EVHTTP_REQ_GET, "/api/mail/unsubscribe/{token}", HTTPROUTE_PUBLIC, httpmail_page },
	{ EVHTTP_REQ_POST, "/api/mail/unsubscribe/{token}", HTTPROUTE_PUBLIC, httpmail_unsubscribe },
	{ 0 },
};
