/* mailgun.c: the provider Mailgun: POST /v3/DOMAIN/messages.mime, the whole mail as a file of a form. */
#include "config.h"

#include "address.h"
#include "options.h"
#include "provider.h"

#include <cjson/cJSON.h>
#include <string.h>

/* A key and a domain, which becomes part of the address. */
static char *mailgun_check(const struct email *h)
{
	char *reason = provider_check_url("mailgun_url", h->mailgun_url);

	if (reason != NULL)
		return reason;
	if (h->mailgun_key == NULL || h->mailgun_key[0] == '\0')
		return g_strdup("mailgun_api_key (MAILGUN_API_KEY) is missing");
	if (h->mailgun_domain == NULL || !address_host_ok(h->mailgun_domain))
		return g_strdup("mailgun_domain (MAILGUN_DOMAIN): it must be the name of a domain");
	return NULL;
}

/* One field of the form. */
static void add_field(GString *body, const char *boundary, const char *head, const char *value, size_t len)
{
	g_string_append_printf(body, "--%s\r\nContent-Disposition: form-data; %s\r\n\r\n", boundary, head);
	g_string_append_len(body, value, (gssize)len);
	g_string_append(body, "\r\n");
}

/* One field that is a text. */
static void add_text(GString *body, const char *boundary, const char *name, const char *value)
{
	char *head = g_strdup_printf("name=\"%s\"", name);

	add_field(body, boundary, head, value, strlen(value));
	g_free(head);
}

/* The form is ours, not libcurl's: that one's boundaries are random, and this one is the same at the next attempt. */
static void mailgun_request(const struct email *h, const struct provider_mail *mail, struct provider_request *q)
{
	const struct mime_mail *m = mail->parts;
	char *boundary = g_strdup_printf("pgmqd-%.48s", m->seed);
	char *type = g_strdup_printf("multipart/form-data; boundary=%s", boundary);

	provider_url(q, h->mailgun_url);
	g_string_append_printf(q->url, "/v3/%s/messages.mime", h->mailgun_domain);
	q->user = "api";
	q->pass = h->mailgun_key;
	provider_add_header(q, "Content-Type", type);
	provider_add_header(q, "Expect", "");
	/* Whom it goes to; who is shown stands in the mail. */
	for (size_t i = 0; i < m->rcpt->n; i++)
		add_text(q->body, boundary, "to", m->rcpt->list[i].mailbox.address);
	for (size_t i = 0; m->tags != NULL && i < m->tags->n; i++)
		add_text(q->body, boundary, "o:tag", m->tags->list[i].name);
	for (size_t i = 0; m->metadata != NULL && i < m->metadata->n; i++) {
		char *name = g_strconcat("v:", m->metadata->list[i].name, NULL);

		add_text(q->body, boundary, name, m->metadata->list[i].value);
		g_free(name);
	}
	add_text(q->body, boundary, "v:pgmqd_key", mail->key);
	add_field(q->body, boundary, "name=\"message\"; filename=\"message.mime\"\r\nContent-Type: message/rfc822",
		mail->bytes, mail->len);
	g_string_append_printf(q->body, "--%s--\r\n", boundary);
	g_free(boundary);
	g_free(type);
}

/* {"id": "<...>", "message": "Queued. Thank you."} */
static void mailgun_judge(const struct provider_reply *reply, struct mail_result *result)
{
	const char *id = provider_text(reply->json, "id");
	size_t n = strlen(id);

	if (result->is == MAIL_SENT && n > 0)
		result->id = id[0] == '<' && id[n - 1] == '>' ? g_strndup(id + 1, n - 2) : g_strdup(id);
	/* A domain that was made a moment ago is not known everywhere yet. */
	if (reply->status == 404)
		result->is = MAIL_AWAY;
}

/* GET BASE/v3/domains/DOMAIN: the domain's settings. */
static void mailgun_probe(const struct email *h, struct provider_request *q)
{
	provider_url(q, h->mailgun_url);
	g_string_append_printf(q->url, "/v3/domains/%s", h->mailgun_domain);
	q->user = "api";
	q->pass = h->mailgun_key;
}

const struct provider provider_mailgun = {
	.name = "mailgun",
	.check = mailgun_check,
	.request = mailgun_request,
	.judge = mailgun_judge,
	.probe = mailgun_probe,
};
