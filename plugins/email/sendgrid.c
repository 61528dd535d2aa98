/* sendgrid.c: the provider SendGrid: POST /v3/mail/send, the mail taken apart. */
#include "config.h"

#include "options.h"
#include "provider.h"

#include <cjson/cJSON.h>
#include <string.h>

/* The key is all that it needs. */
static char *sendgrid_check(const struct email *h)
{
	char *reason = provider_check_url("sendgrid_url", h->sendgrid_url);

	if (reason != NULL)
		return reason;
	return h->sendgrid_key == NULL || h->sendgrid_key[0] == '\0'
	               ? g_strdup("sendgrid_api_key (SENDGRID_API_KEY) is missing")
	               : NULL;
}

/* {"email", "name"}. */
static cJSON *person(const char *name, const char *address)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "email", address);
	if (name != NULL && name[0] != '\0')
		cJSON_AddStringToObject(json, "name", name);
	return json;
}

/* Adds a text to `content`; plain must stand before HTML. */
static void add_content(cJSON *list, const char *type, const char *value)
{
	cJSON *item;

	if (value == NULL)
		return;
	item = cJSON_CreateObject();
	cJSON_AddStringToObject(item, "type", type);
	/* It takes no empty text. */
	cJSON_AddStringToObject(item, "value", value[0] != '\0' ? value : " ");
	cJSON_AddItemToArray(list, item);
}

/* The list of attachments. */
static void add_attachments(cJSON *json, const struct mime_mail *m)
{
	cJSON *list = cJSON_AddArrayToObject(json, "attachments");

	for (size_t i = 0; i < m->nattachments; i++) {
		const struct email_attachment *a = &m->attachments[i];
		cJSON *item = cJSON_CreateObject();
		char *content = provider_base64(a->content, a->len), *type = attachment_type(a);
		bool shown = mime_is_inline(m, a);

		cJSON_AddStringToObject(item, "content", content);
		cJSON_AddStringToObject(item, "type", type);
		cJSON_AddStringToObject(item, "filename", a->filename);
		cJSON_AddStringToObject(item, "disposition", shown ? "inline" : "attachment");
		if (shown)
			cJSON_AddStringToObject(item, "content_id", a->cid);
		g_free(type);
		cJSON_AddItemToArray(list, item);
		g_free(content);
	}
}

/* The lists of recipients. */
static void add_recipients(cJSON *json, const struct recipients *r)
{
	static const char *const keys[RECIPIENT_KINDS] = { "to", "cc", "bcc" };
	cJSON *lists[RECIPIENT_KINDS] = { NULL };

	for (size_t i = 0; i < r->n; i++) {
		enum recipient_kind kind = r->list[i].kind;

		if (lists[kind] == NULL)
			lists[kind] = cJSON_AddArrayToObject(json, keys[kind]);
		cJSON_AddItemToArray(lists[kind], person(r->list[i].mailbox.name, r->list[i].mailbox.address));
	}
}

/* Tags are its categories; metadata go beside our key, and events carry both. */
static void add_labels(cJSON *json, cJSON *args, const struct mime_mail *m)
{
	cJSON *list;

	for (size_t i = 0; m->metadata != NULL && i < m->metadata->n; i++)
		cJSON_AddStringToObject(args, m->metadata->list[i].name, m->metadata->list[i].value);
	if (m->tags == NULL || m->tags->n == 0)
		return;
	list = cJSON_AddArrayToObject(json, "categories");
	for (size_t i = 0; i < m->tags->n; i++)
		cJSON_AddItemToArray(list, cJSON_CreateString(m->tags->list[i].name));
}

/* POST BASE/v3/mail/send. */
static void sendgrid_request(const struct email *h, const struct provider_mail *mail, struct provider_request *q)
{
	const struct mime_mail *m = mail->parts;
	cJSON *json = cJSON_CreateObject(), *one = cJSON_CreateObject(), *list, *headers, *args;
	char *text, *id;

	cJSON_AddItemToArray(cJSON_AddArrayToObject(json, "personalizations"), one);
	add_recipients(one, m->rcpt);
	/* There is no idempotency key: this one is for whoever has to find out what became of a mail. Events carry it.
	 */
	args = cJSON_AddObjectToObject(one, "custom_args");
	cJSON_AddStringToObject(args, "pgmqd_key", mail->key);
	add_labels(json, args, m);
	cJSON_AddItemToObject(json, "from", person(m->from_name, m->from));
	if (m->reply_to != NULL)
		cJSON_AddItemToObject(json, "reply_to", person(m->reply_name, m->reply_to));
	cJSON_AddStringToObject(json, "subject", m->subject);
	list = cJSON_AddArrayToObject(json, "content");
	add_content(list, "text/plain", m->text);
	add_content(list, "text/html", m->html);
	if (m->nattachments > 0)
		add_attachments(json, m);
	headers = cJSON_AddObjectToObject(json, "headers");
	id = g_strdup_printf("<%s>", m->message_id);
	cJSON_AddStringToObject(headers, "Message-ID", id);
	for (size_t i = 0; i < m->nextra; i++)
		cJSON_AddStringToObject(headers, m->extra[i].name, m->extra[i].value);
	for (size_t i = 0; m->headers != NULL && i < m->headers->n; i++)
		cJSON_AddStringToObject(headers, m->headers->list[i].name, m->headers->list[i].value);

	provider_url(q, h->sendgrid_url);
	g_string_append(q->url, "/v3/mail/send");
	provider_bearer(q, h->sendgrid_key);
	provider_add_header(q, "Content-Type", "application/json");
	text = cJSON_PrintUnformatted(json);
	g_string_assign(q->body, text);
	cJSON_free(text);
	cJSON_Delete(json);
	g_free(id);
}

/* 202 with an empty body; the id is in a header, and so is the end of a pause. */
static void sendgrid_judge(const struct provider_reply *reply, struct mail_result *result)
{
	const cJSON *errors = cJSON_GetObjectItemCaseSensitive(reply->json, "errors");
	const char *id = provider_header(reply, "X-Message-Id"),
		   *field = provider_text(cJSON_GetArrayItem(errors, 0), "field");

	if (result->is == MAIL_SENT) {
		result->id = id[0] != '\0' ? g_strdup(id) : NULL;
	} else if (result->is == MAIL_SLOWER) {
		gint64 reset = g_ascii_strtoll(provider_header(reply, "X-RateLimit-Reset"), NULL, 10);

		if (reset > 0)
			result->delay_ms = reset * 1000 - g_get_real_time() / 1000;
	} else if (reply->status == 404 || reply->status == 405) {
		result->is = MAIL_CONFIG; /* of the address, not of the mail */
	} else if (reply->status == 400 && strncmp(field, "from", 4) == 0) {
		result->is = MAIL_CONFIG; /* our own sender is wrong in every mail */
	}
}

/* GET BASE/v3/scopes: what the key may do. */
static void sendgrid_probe(const struct email *h, struct provider_request *q)
{
	provider_url(q, h->sendgrid_url);
	g_string_append(q->url, "/v3/scopes");
	provider_bearer(q, h->sendgrid_key);
}

const struct provider provider_sendgrid = {
	.name = "sendgrid",
	.check = sendgrid_check,
	.request = sendgrid_request,
	.judge = sendgrid_judge,
	.probe = sendgrid_probe,
};
