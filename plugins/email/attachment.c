/* attachment.c: reads attachments, and cleans what they are called. */
#include "config.h"

#include "attachment.h"

#include "field.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <string.h>

#define FILENAME_MAX_BYTES 180
#define URL_MAX 2000

/* What each byte of base64 stands for; 64: nothing; 65: white space, which counts for nothing. */
static const unsigned char *base64_values(void)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static unsigned char values[256];

	if (values[0] == 0) {
		memset(values, 64, sizeof(values));
		for (unsigned char i = 0; i < 64; i++)
			values[(unsigned char)digits[i]] = i;
		values['\r'] = values['\n'] = values[' '] = values['\t'] = 65;
	}
	return values;
}

/* Decodes base64 strictly: only its alphabet, white space, and padding at the end. false when it is something else. The
 * loop of the worker waits for this; GLib's decoder lets everything pass, and takes three times as long with a check.
 */
static bool decode_base64(const char *text, unsigned char **out, size_t *len)
{
	const unsigned char *values = base64_values(), *in = (const unsigned char *)text;
	unsigned char *data = g_malloc(strlen(text) / 4 * 3 + 3), *p = data;
	guint32 bits = 0;
	unsigned n = 0, padding = 0;

	for (;;) {
		unsigned char a, b, c, d;

		/* four at a time; the text's end is none of them */
		while (n == 0 && padding == 0 && (a = values[in[0]]) < 64 && (b = values[in[1]]) < 64 &&
			(c = values[in[2]]) < 64 && (d = values[in[3]]) < 64) {
			*p++ = (unsigned char)(a << 2 | b >> 4);
			*p++ = (unsigned char)(b << 4 | c >> 2);
			*p++ = (unsigned char)(c << 6 | d);
			in += 4;
		}
		if (*in == '\0')
			break;
		a = values[*in++];
		if (in[-1] == '=') {
			padding++;
		} else if (a < 64 && padding == 0) {
			bits = bits << 6 | a;
			if (++n == 4) {
				*p++ = (unsigned char)(bits >> 16);
				*p++ = (unsigned char)(bits >> 8);
				*p++ = (unsigned char)bits;
				n = 0;
			}
		} else if (a != 65) {
			padding = 4; /* never right */
			break;
		}
	}
	if (n == 3) {
		*p++ = (unsigned char)(bits >> 10);
		*p++ = (unsigned char)(bits >> 2);
	} else if (n == 2) {
		*p++ = (unsigned char)(bits >> 4);
	}
	if (padding != (4 - n) % 4 || n == 1) {
		g_free(data);
		return false;
	}
	*out = data;
	*len = (size_t)(p - data);
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

/* Takes "text/calendar; method=REQUEST; charset=utf-8" apart. */
static bool take_type(const char *text, struct email_attachment *a)
{
	char **words = g_strsplit(text, ";", -1);
	bool ok = words[0] != NULL && content_type_ok(g_strstrip(words[0]));

	for (char **w = words; ok && *++w != NULL;) {
		char *value = strchr(g_strstrip(*w), '='), **to = NULL;
		size_t n;

		if (value == NULL)
			break;
		*value++ = '\0';
		n = strlen(value);
		if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
			value[n - 1] = '\0';
			value++;
		}
		if (g_ascii_strcasecmp(*w, "method") == 0 && g_ascii_strcasecmp(words[0], "text/calendar") == 0)
			to = &a->method;
		else if (g_ascii_strcasecmp(*w, "charset") == 0)
			to = &a->charset;
		ok = to != NULL && *to == NULL && value[0] != '\0' && strlen(value) <= 40;
		for (const char *p = value; ok && *p != '\0'; p++)
			ok = g_ascii_isalnum(*p) || *p == '-' || *p == '_';
		if (ok)
			*to = g_strdup(value);
	}
	if (ok)
		a->content_type = g_strdup(words[0]);
	g_strfreev(words);
	return ok;
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

/* The last part of a URL's or a file's path; g_malloc'd, NULL when there is none. */
static char *name_of(const char *path)
{
	char *whole = g_strndup(path, strcspn(path, "?#")), *slash = strrchr(whole, '/');
	char *name = g_uri_unescape_string(slash != NULL ? slash + 1 : whole, "/");

	g_free(whole);
	if (name != NULL && (name[0] == '\0' || !g_utf8_validate(name, -1, NULL)))
		g_clear_pointer(&name, g_free);
	for (char *p = name; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '_';
	return name;
}

/* Reads where a content is to come from. */
static char *take_source(const cJSON *item, struct email_attachment *a)
{
	char *reason = field_header(item, "url", &a->url);

	if (reason == NULL)
		reason = field_header(item, "path", &a->path);
	if (reason != NULL)
		return reason;
	if ((field_member(item, "content") != NULL) + (a->url != NULL) + (a->path != NULL) != 1)
		return g_strdup("it must have one of content, url and path");
	if (a->url != NULL && (strlen(a->url) > URL_MAX || !g_str_is_ascii(a->url) || strchr(a->url, ' ') != NULL))
		return g_strdup("url: it is no URL");
	if (a->path != NULL && (a->path[0] == '/' || strchr(a->path, '/') == NULL || strstr(a->path, "..") != NULL))
		return g_strdup("path: it must be BUCKET/FILE");
	return NULL;
}

/* Reads the name: the message's, or that of the source. */
static char *take_name(const cJSON *item, struct email_attachment *a)
{
	char *name = NULL, *reason = field_header(item, "filename", &name);

	if (reason == NULL && name == NULL && (a->url != NULL || a->path != NULL))
		name = name_of(a->url != NULL ? a->url : a->path);
	if (reason == NULL && name == NULL && a->method != NULL)
		name = g_strdup("invite.ics");
	if (reason == NULL && name == NULL)
		reason = g_strdup("filename: it is missing");
	if (reason == NULL)
		a->filename = clean_filename(name);
	g_free(name);
	return reason;
}

/* Reads the name by which the HTML shows it. */
static char *take_cid(const cJSON *item, struct email_attachment *a)
{
	char *reason = field_string(item, "cid", &a->cid);

	if (reason != NULL || a->cid == NULL)
		return reason;
	if (strlen(a->cid) > 100)
		return g_strdup("cid: it is longer than 100 bytes");
	for (const char *p = a->cid; *p != '\0'; p++)
		if (!g_ascii_isalnum(*p) && strchr("._@+-", *p) == NULL)
			return g_strdup("cid: only letters, digits and . _ @ + - may stand there");
	return NULL;
}

char *attachment_take(const cJSON *item, size_t *room, struct email_attachment *a)
{
	const cJSON *content;
	char *type = NULL, *reason;

	if (!cJSON_IsObject(item))
		return g_strdup("it must be an object with filename and content");
	if ((reason = field_string(item, "content_type", &type)) == NULL && type != NULL && !take_type(type, a))
		reason = g_strdup(
			"content_type: it must be a type such as application/pdf or text/calendar; method=REQUEST");
	g_free(type);
	if (reason != NULL || (reason = take_source(item, a)) != NULL || (reason = take_name(item, a)) != NULL ||
		(reason = take_cid(item, a)) != NULL)
		return reason;
	content = field_member(item, "content");
	if (content == NULL)
		return NULL;
	if (!cJSON_IsString(content))
		return g_strdup("content: it must be a string in base64");
	if (!decode_base64(content->valuestring, &a->content, &a->len))
		return g_strdup("content: it is not valid base64");
	if (a->content_type == NULL)
		a->content_type = g_strdup("application/octet-stream");
	if (a->len > *room)
		return g_strdup("content: the attachments are larger than max_message_bytes allows");
	*room -= a->len;
	return NULL;
}

void attachment_fill(struct email_attachment *a, const void *content, size_t len, const char *type)
{
	a->content = g_malloc(len + 1);
	memcpy(a->content, content, len);
	a->len = len;
	if (a->content_type != NULL)
		return;
	if (!take_type(type, a)) {
		g_clear_pointer(&a->charset, g_free);
		a->content_type = g_strdup("application/octet-stream");
	}
	/* An invitation asks its reader to act: only a message makes one, not a server. */
	g_clear_pointer(&a->method, g_free);
}

char *attachment_type(const struct email_attachment *a)
{
	const char *charset = a->charset != NULL ? a->charset : a->method != NULL ? "utf-8" : NULL;

	return g_strconcat(a->content_type, a->method != NULL ? "; method=" : "", a->method != NULL ? a->method : "",
		charset != NULL ? "; charset=" : "", charset != NULL ? charset : "", NULL);
}

void attachment_clear(struct email_attachment *a)
{
	g_free(a->filename);
	g_free(a->content_type);
	g_free(a->charset);
	g_free(a->method);
	g_free(a->cid);
	g_free(a->url);
	g_free(a->path);
	g_free(a->content);
	memset(a, 0, sizeof(*a));
}
