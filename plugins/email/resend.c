/* resend.c: the provider Resend: POST /emails, the mail taken apart, with an idempotency key. */
#include "config.h"

#include "options.h"
#include "provider.h"

#include <cjson/cJSON.h>
#include <string.h>

/* The key is all that it needs. */
static char *resend_check(const struct email *h)
{
	char *reason = provider_check_url("resend_url", h->resend_url);

	if (reason != NULL)
		return reason;
	return h->resend_key == NULL || h->resend_key[0] == '\0'
	               ? g_strdup("resend_api_key (RESEND_API_KEY) is missing")
	               : NULL;
}

/* The list of attachments. */
static void add_attachments(cJSON *json, const struct mime_mail *m)
{
	cJSON *list = cJSON_AddArrayToObject(json, "attachments");

	for (size_t i = 0; i < m->nattachments; i++) {
		cJSON *item = cJSON_CreateObject();
		char *content = provider_base64(m->attachments[i].content, m->attachments[i].len);
		char *type = attachment_type(&m->attachments[i]);

		cJSON_AddStringToObject(item, "filename", m->attachments[i].filename);
		cJSON_AddStringToObject(item, "content", content);
		cJSON_AddStringToObject(item, "content_type", type);
		if (mime_is_inline(m, &m->attachments[i]))
			cJSON_AddStringToObject(item, "content_id", m->attachments[i].cid);
		g_free(type);
		cJSON_AddItemToArray(list, item);
		g_free(content);
	}
}

/* The lists of recipients, `Name <address>`. */
static void add_recipients(cJSON *json, const struct recipients *r)
{
	static const char *const keys[RECIPIENT_KINDS] = { "to", "cc", "bcc" };
	cJSON *lists[RECIPIENT_KINDS] = { NULL };

	for (size_t i = 0; i < r->n; i++) {
		enum recipient_kind kind = r->list[i].kind;
		char *one = provider_mailbox(r->list[i].mailbox.name, r->list[i].mailbox.address);

		if (lists[kind] == NULL)
			lists[kind] = cJSON_AddArrayToObject(json, keys[kind]);
		cJSON_AddItemToArray(lists[kind], cJSON_CreateString(one));
		g_free(one);
	}
}

/* Tags are names with values here; a word without one gets "true". */
static void add_tags(cJSON *json, const struct pairs *p)
{
	cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "tags");

	if (p == NULL || p->n == 0)
		return;
	if (list == NULL)
		list = cJSON_AddArrayToObject(json, "tags");
	for (size_t i = 0; i < p->n; i++) {
		cJSON *item = cJSON_CreateObject();

		cJSON_AddStringToObject(item, "name", p->list[i].name);
		cJSON_AddStringToObject(item, "value", p->list[i].value != NULL ? p->list[i].value : "true");
		cJSON_AddItemToArray(list, item);
	}
}

/* POST BASE/emails. */
static void resend_request(const struct email *h, const struct provider_mail *mail, struct provider_request *q)
{
	const struct mime_mail *m = mail->parts;
	cJSON *json = cJSON_CreateObject(), *headers;
	char *from = provider_mailbox(m->from_name, m->from), *text;

	cJSON_AddStringToObject(json, "from", from);
	add_recipients(json, m->rcpt);
	cJSON_AddStringToObject(json, "subject", m->subject);
	if (m->html != NULL)
		cJSON_AddStringToObject(json, "html", m->html);
	if (m->text != NULL)
		cJSON_AddStringToObject(json, "text", m->text);
	if (m->reply_to != NULL) {
		char *reply = provider_mailbox(m->reply_name, m->reply_to);

		cJSON_AddStringToObject(json, "reply_to", reply);
		g_free(reply);
	}
	add_tags(json, m->tags);
	add_tags(json, m->metadata);
	headers = cJSON_AddObjectToObject(json, "headers");
	for (size_t i = 0; i < m->nextra; i++)
		cJSON_AddStringToObject(headers, m->extra[i].name, m->extra[i].value);
	for (size_t i = 0; m->headers != NULL && i < m->headers->n; i++)
		cJSON_AddStringToObject(headers, m->headers->list[i].name, m->headers->list[i].value);
	/* It makes a Message-ID of its own; this one is there to find the mail by, and keeps mail programs from
	 * threading. */
	cJSON_AddStringToObject(headers, "X-Entity-Ref-ID", m->message_id);
	if (m->nattachments > 0)
		add_attachments(json, m);

	provider_url(q, h->resend_url);
	g_string_append(q->url, "/emails");
	provider_bearer(q, h->resend_key);
	provider_add_header(q, "Content-Type", "application/json");
	provider_add_header(q, "Idempotency-Key", mail->key);
	text = cJSON_PrintUnformatted(json);
	g_string_assign(q->body, text);
	cJSON_free(text);
	cJSON_Delete(json);
	g_free(from);
}

/* Errors by name: {"statusCode", "name", "message"}. */
static void resend_judge(const struct provider_reply *reply, struct mail_result *result)
{
	static const struct provider_error errors[] = {
		{ "rate_limit_exceeded", MAIL_SLOWER },
		{ "daily_quota_exceeded", MAIL_QUOTA },
		{ "monthly_quota_exceeded", MAIL_CONFIG },
		{ "concurrent_idempotent_requests", MAIL_LATER },
		{ "missing_api_key", MAIL_CONFIG },
		{ "restricted_api_key", MAIL_CONFIG },
		{ "invalid_api_key", MAIL_CONFIG },
		{ "invalid_from_address", MAIL_CONFIG },
	};
	const char *name = provider_text(reply->json, "name"), *id = provider_text(reply->json, "id");

	if (result->is == MAIL_SENT) {
		result->id = id[0] != '\0' ? g_strdup(id) : NULL;
		return;
	}
	provider_by_name(errors, G_N_ELEMENTS(errors), name, result);
	/* The same key with another text: the first one probably went out, so nobody may try again with another key. */
	if (strcmp(name, "invalid_idempotent_request") == 0) {
		result->is = MAIL_UNKNOWN;
		result->hold = true;
	}
}

/* GET BASE/domains: a key that may only send is refused by name. */
static void resend_probe(const struct email *h, struct provider_request *q)
{
	provider_url(q, h->resend_url);
	g_string_append(q->url, "/domains");
	provider_bearer(q, h->resend_key);
}

const struct provider provider_resend = {
	.name = "resend",
	.idempotent = true,
	.check = resend_check,
	.request = resend_request,
	.judge = resend_judge,
	.probe = resend_probe,
};
