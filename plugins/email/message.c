/* message.c: reads a queue's message {"to", "subject", "template", "variables", ...} and refuses what cannot be
 * sent. */
#include "config.h"

#include "message.h"

#include "address.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define ATTACHMENTS_MAX 20
#define FILENAME_MAX_BYTES 180

/* A key's value, NULL when it is absent or null. */
static const cJSON *member(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

/* Copies an optional string; an empty one counts as not given. Returns a reason when it is something else. */
static char *take_string(const cJSON *object, const char *key, char **out)
{
	const cJSON *item = member(object, key);

	if (item == NULL)
		return NULL;
	if (!cJSON_IsString(item))
		return g_strdup_printf("%s: it must be a string", key);
	if (!g_utf8_validate(item->valuestring, -1, NULL))
		return g_strdup_printf("%s: it is not valid UTF-8", key);
	if (item->valuestring[0] != '\0')
		*out = g_strdup(item->valuestring);
	return NULL;
}

/* The same for a text that goes into a header. */
static char *take_header(const cJSON *object, const char *key, char **out)
{
	char *reason = take_string(object, key, out);
	const char *wrong;

	if (reason == NULL && *out != NULL && (wrong = address_header_check(*out)) != NULL)
		reason = g_strdup_printf("%s: %s", key, wrong);
	return reason;
}

/* The same for an address; *out is its ASCII form. */
static char *take_address(const cJSON *object, const char *key, char **out)
{
	char *text = NULL, *reason = take_string(object, key, &text);
	const char *wrong;

	if (reason == NULL && text != NULL && (wrong = address_parse(text, out)) != NULL)
		reason = g_strdup_printf("%s: %s", key, wrong);
	g_free(text);
	return reason;
}

/* Takes a language tag, ru or ru-RU (ru_RU is read as that); it becomes part of a path, so nothing else will do. */
static char *take_lang(const cJSON *object, const char *where, char **out)
{
	char *reason = take_string(object, "lang", out);
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

/* Decodes base64 strictly: only its alphabet, line breaks, and padding at the end. false when it is something else. */
static bool decode_base64(const char *text, unsigned char **out, size_t *len)
{
	size_t digits = 0, padding = 0;

	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '\r' || *p == '\n' || *p == ' ' || *p == '\t')
			continue;
		if (*p == '=') {
			padding++;
			continue;
		}
		if (padding > 0 || (!g_ascii_isalnum(*p) && *p != '+' && *p != '/'))
			return false;
		digits++;
	}
	if (padding > 2 || (digits + padding) % 4 != 0)
		return false;
	*out = g_base64_decode(text, len);
	return true;
}

/* Whether `s` is type/subtype of two tokens and can be an attachment. */
static bool content_type_ok(const char *s)
{
	const char *slash = strchr(s, '/');

	if (slash == NULL || slash == s || slash[1] == '\0' || strlen(s) > 127)
		return false;
	for (const char *p = s; *p != '\0'; p++)
		if (p != slash && !g_ascii_isalnum(*p) && strchr("!#$&-^_.+", *p) == NULL)
			return false;
	/* These two would have to be parsed by us as mail inside the mail. */
	return g_ascii_strncasecmp(s, "multipart/", 10) != 0 && g_ascii_strncasecmp(s, "message/", 8) != 0;
}

/* Whether `c` steers the direction of text: "invoice-<U+202E>fdp.exe" shows as another name. */
static bool steers_direction(gunichar c)
{
	return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f ||
	       c == 0x061c;
}

/* The last component of a name, without tricks, cut to a length that every file system takes, its extension kept. */
static char *clean_filename(const char *name)
{
	const char *base = name, *dot;
	GString *s = g_string_new(NULL);

	for (const char *p = name; *p != '\0'; p++)
		if (*p == '/' && p[1] != '\0')
			base = p + 1;
	for (const char *p = base; *p != '\0'; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		if (!steers_direction(c))
			g_string_append_unichar(s, c == '/' || c == '\\' ? '_' : c);
	}
	if (s->len > FILENAME_MAX_BYTES) {
		char *extension;
		size_t keep;

		dot = strrchr(s->str, '.');
		extension = g_strdup(dot != NULL && strlen(dot) <= 16 ? dot : "");
		keep = FILENAME_MAX_BYTES - strlen(extension);
		while (keep > 0 && ((unsigned char)s->str[keep] & 0xc0) == 0x80)
			keep--;
		g_string_truncate(s, keep);
		g_string_append(s, extension);
		g_free(extension);
	}
	if (s->len == 0 || strcmp(s->str, ".") == 0 || strcmp(s->str, "..") == 0)
		g_string_assign(s, "attachment");
	return g_string_free(s, FALSE);
}

/* Reads one attachment into *a; *room is what its content may still take. */
static char *take_attachment(const cJSON *item, size_t *room, struct email_attachment *a)
{
	const cJSON *content;
	char *name = NULL, *reason;

	if (!cJSON_IsObject(item))
		return g_strdup("it must be an object with filename and content");
	if ((reason = take_header(item, "filename", &name)) != NULL) {
		g_free(name);
		return reason;
	}
	if (name == NULL)
		return g_strdup("filename: it is missing");
	a->filename = clean_filename(name);
	g_free(name);
	if ((reason = take_string(item, "content_type", &a->content_type)) != NULL)
		return reason;
	if (a->content_type == NULL)
		a->content_type = g_strdup("application/octet-stream");
	if (!content_type_ok(a->content_type))
		return g_strdup("content_type: it must be a type such as application/pdf");
	content = member(item, "content");
	if (content == NULL || !cJSON_IsString(content))
		return g_strdup("content: it must be a string in base64");
	if (!decode_base64(content->valuestring, &a->content, &a->len))
		return g_strdup("content: it is not valid base64");
	if (a->len > *room)
		return g_strdup("content: the attachments are larger than max_message_bytes allows");
	*room -= a->len;
	return NULL;
}

/* Reads the list of attachments. */
static char *take_attachments(const cJSON *json, size_t max_bytes, struct email_message *m)
{
	const cJSON *list = member(json, "attachments"), *item;
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
		char *reason = take_attachment(item, &room, a);

		if (reason != NULL) {
			char *where = g_strdup_printf("attachments[%zu]: %s", m->nattachments - 1, reason);

			g_free(reason);
			return where;
		}
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

/* A key that is one of ours but for upper and lower case, such as "To": whoever wrote it meant something that would not
 * happen. With `strict` so is every key that is none of ours; its name may be anything, so it is not repeated. */
static char *refuse_keys(const cJSON *json, bool strict)
{
	/* priority is of queue_email_task(), and nothing here looks at it */
	static const char *const known[] = { "to", "to_name", "reply_to", "key", "subject", "template", "text", "html",
		"variables", "lang", "attachments", "class", "expires_at", "priority" };
	const cJSON *item;

	cJSON_ArrayForEach(item, json)
	{
		bool ours = false;

		for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
			if (g_ascii_strcasecmp(item->string, known[i]) == 0 && strcmp(item->string, known[i]) != 0)
				return g_strdup_printf("%s: keys are in lower case; write %s", item->string, known[i]);
			ours = ours || strcmp(item->string, known[i]) == 0;
		}
		if (strict && !ours)
			return g_strdup(
				"there is a key that no mail has, and strict_keys = yes; the keys are to, to_name, "
				"reply_to, key, subject, "
				"template, text, html, variables, lang, attachments, class, expires_at and priority");
	}
	return NULL;
}

/* What goes into the mail: a template, or its own text with its own subject. */
static char *take_content(const cJSON *json, struct email_message *m)
{
	const cJSON *variables = member(json, "variables");
	char *reason;

	if ((reason = take_header(json, "subject", &m->subject)) != NULL ||
		(reason = take_string(json, "template", &m->template)) != NULL ||
		(reason = take_string(json, "text", &m->text)) != NULL ||
		(reason = take_string(json, "html", &m->html)) != NULL)
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

/* What kind of mail it is, and until when it is of use. */
static char *take_kind(const cJSON *json, struct email_message *m)
{
	char *text = NULL, *reason = take_string(json, "class", &m->kind);

	if (reason == NULL && m->kind != NULL && strcmp(m->kind, "transactional") != 0 &&
		strcmp(m->kind, "reminder") != 0)
		reason = g_strdup("class: it must be transactional or reminder");
	if (reason == NULL && (reason = take_string(json, "expires_at", &text)) == NULL && text != NULL) {
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
	if ((reason = refuse_keys(json, strict)) != NULL || (reason = take_address(json, "to", &m->to)) != NULL)
		return reason;
	if (m->to == NULL)
		return g_strdup("to: it is missing");
	if ((reason = take_header(json, "to_name", &m->to_name)) != NULL ||
		(reason = take_address(json, "reply_to", &m->reply_to)) != NULL ||
		(reason = take_header(json, "key", &m->key)) != NULL || (reason = take_content(json, m)) != NULL ||
		(reason = take_kind(json, m)) != NULL)
		return reason;
	return take_attachments(json, max_bytes, m);
}

void message_clear(struct email_message *m)
{
	for (size_t i = 0; i < m->nattachments; i++) {
		g_free(m->attachments[i].filename);
		g_free(m->attachments[i].content_type);
		g_free(m->attachments[i].content);
	}
	g_free(m->attachments);
	g_free(m->to);
	g_free(m->to_name);
	g_free(m->reply_to);
	g_free(m->subject);
	g_free(m->template);
	g_free(m->text);
	g_free(m->html);
	g_free(m->lang);
	g_free(m->key);
	g_free(m->kind);
	memset(m, 0, sizeof(*m));
}
