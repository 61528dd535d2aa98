/* message.c: reads a queue's message {"to", "subject", "template", "variables", ...} and refuses what cannot be
 * sent. */
#include "config.h"

#include "message.h"

#include "keys.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define ATTACHMENTS_MAX 20

/* Takes a language tag, ru or ru-RU (ru_RU is read as that); it becomes part of a path, so nothing else will do. */
static char *take_lang(const cJSON *object, const char *where, char **out)
{
	char *reason = field_string(object, "lang", out);
	size_t part = 0;

	if (reason != NULL || *out == NULL) {
		char *prefixed = reason != NULL ? g_strdup_printf("%s%s", where, reason) : NULL;

		g_free(reason);
		return prefixed;
	}
	for (char *p = *out; *p != '\0'; p++) {
		if (*p == '_')
			*p = '-';
		if (*p == '-' ? part == 0 : !g_ascii_isalnum(*p) || part >= 8)
			return g_strdup_printf("%slang: it must be a language tag like ru or en-GB", where);
		part = *p == '-' ? 0 : part + 1;
	}
	return part == 0 || strlen(*out) > 35
	               ? g_strdup_printf("%slang: it must be a language tag like ru or en-GB", where)
	               : NULL;
}

/* Reads the list of attachments. */
static char *take_attachments(const cJSON *json, size_t max_bytes, struct email_message *m)
{
	const cJSON *list = field_member(json, "attachments"), *item;
	size_t room = max_bytes;
	int count;

	if (list == NULL)
		return NULL;
	if (!cJSON_IsArray(list))
		return g_strdup("attachments: it must be a list");
	count = cJSON_GetArraySize(list);
	if (count > ATTACHMENTS_MAX)
		return g_strdup_printf("attachments: more than %d", ATTACHMENTS_MAX);
	m->attachments = g_new0(struct email_attachment, (gsize)count);
	cJSON_ArrayForEach(item, list)
	{
		struct email_attachment *a = &m->attachments[m->nattachments++];
		char *reason = attachment_take(item, &room, a);

		if (reason != NULL)
			return field_at(reason, "attachments[%zu]: ", m->nattachments - 1);
	}
	return NULL;
}

/* Whether the raw JSON text has an escaped NUL: cJSON would silently end the string there. */
static bool has_nul_escape(const char *raw)
{
	for (const char *p = raw; (p = strchr(p, '\\')) != NULL; p += 2) {
		if (strncmp(p, "\\u0000", 6) == 0)
			return true;
		if (p[1] == '\0')
			break;
	}
	return false;
}

/* The mail's text: a template, or its own with its own subject. */
static char *take_content(const cJSON *json, struct email_message *m)
{
	const cJSON *variables = field_member(json, "variables");
	char *reason;

	if ((reason = field_header(json, "subject", &m->subject)) != NULL ||
		(reason = field_string(json, "template", &m->template)) != NULL ||
		(reason = field_string(json, "text", &m->text)) != NULL ||
		(reason = field_string(json, "html", &m->html)) != NULL)
		return reason;
	if (variables != NULL && !cJSON_IsObject(variables))
		return g_strdup("variables: it must be an object");
	m->variables = variables;
	if ((reason = take_lang(json, "", &m->lang)) != NULL)
		return reason;
	if (m->lang == NULL && variables != NULL && (reason = take_lang(variables, "variables.", &m->lang)) != NULL)
		return reason;
	if (m->template == NULL && m->text == NULL && m->html == NULL)
		return g_strdup("template: it is missing, and there is no text or html instead");
	if (m->template == NULL && m->subject == NULL)
		return g_strdup("subject: it is missing, and there is no template that has one");
	return NULL;
}

/* The kind of the mail, and until when it is of use. */
static char *take_kind(const cJSON *json, struct email_message *m)
{
	char *text = NULL, *reason = field_string(json, "class", &m->kind);

	if (reason == NULL && m->kind != NULL && strcmp(m->kind, "transactional") != 0 &&
		strcmp(m->kind, "reminder") != 0)
		reason = g_strdup("class: it must be transactional or reminder");
	if (reason == NULL && (reason = field_string(json, "expires_at", &text)) == NULL && text != NULL) {
		GTimeZone *utc = g_time_zone_new_utc();
		GDateTime *at = g_date_time_new_from_iso8601(text, utc);

		if (at == NULL)
			reason = g_strdup("expires_at: it must be a time like 2026-05-28T20:26:40Z");
		else
			m->expires_at = g_date_time_to_unix(at);
		if (at != NULL)
			g_date_time_unref(at);
		g_time_zone_unref(utc);
	}
	g_free(text);
	return reason;
}

char *message_parse(const cJSON *json, const char *raw, size_t max_bytes, bool strict, struct email_message *m)
{
	char *reason;

	memset(m, 0, sizeof(*m));
	if (json == NULL)
		return g_strdup("the message is not valid JSON");
	if (!cJSON_IsObject(json))
		return g_strdup("the message must be a JSON object");
	if (has_nul_escape(raw))
		return g_strdup("the message has a NUL character (\\u0000) in a string");
	if ((reason = keys_check(json, strict)) != NULL || (reason = recipients_take(json, &m->rcpt)) != NULL ||
		(reason = field_mailbox(json, "from", &m->from)) != NULL ||
		(reason = field_mailbox(json, "reply_to", &m->reply_to)) != NULL ||
		(reason = field_headers(json, &m->headers)) != NULL || (reason = field_tags(json, &m->tags)) != NULL ||
		(reason = field_metadata(json, &m->metadata)) != NULL ||
		(reason = field_header(json, "key", &m->key)) != NULL || (reason = take_content(json, m)) != NULL ||
		(reason = take_kind(json, m)) != NULL)
		return reason;
	return take_attachments(json, max_bytes, m);
}

void message_clear(struct email_message *m)
{
	for (size_t i = 0; i < m->nattachments; i++)
		attachment_clear(&m->attachments[i]);
	g_free(m->attachments);
	recipients_clear(&m->rcpt);
	field_mailbox_clear(&m->from);
	field_mailbox_clear(&m->reply_to);
	field_pairs_clear(&m->headers);
	field_pairs_clear(&m->tags);
	field_pairs_clear(&m->metadata);
	g_free(m->subject);
	g_free(m->template);
	g_free(m->text);
	g_free(m->html);
	g_free(m->lang);
	g_free(m->key);
	g_free(m->kind);
	memset(m, 0, sizeof(*m));
}
