/* mail.c: takes a recorded mail apart: folded and encoded headers, parts within parts, base64 and quoted-printable. It
 * reads what our own plugins and well-made mail libraries write, and never fails: what it does not know stays as it is.
 */
#include "config.h"

#include "cmd/replay/mail.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "base/xalloc.h"
#include "cmd/replay/base64.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX 8

/* A piece of the mail. */
struct span {
	const char *p, *end;
};

/* Whether the line at `p` is empty. */
static bool is_blank(const struct span *s)
{
	return s->p < s->end && (*s->p == '\n' || (*s->p == '\r' && s->p + 1 < s->end && s->p[1] == '\n'));
}

/* Cuts the next line off. */
static struct span next_line(struct span *s)
{
	const char *lf = memchr(s->p, '\n', (size_t)(s->end - s->p));
	struct span line = { s->p, lf ? lf : s->end };

	s->p = lf ? lf + 1 : s->end;
	if (line.end > line.p && line.end[-1] == '\r')
		line.end--;
	return line;
}

/* The next header as one line, "Name: value", malloc'd; NULL at the end of the head, which is passed over. */
static char *next_header(struct span *s)
{
	char *text = NULL;
	size_t len = 0;

	if (s->p >= s->end)
		return NULL;
	if (is_blank(s)) {
		next_line(s);
		return NULL;
	}
	do {
		struct span line = next_line(s);
		size_t n = (size_t)(line.end - line.p);

		text = xrealloc(text, len + n + 1, 1);
		memcpy(text + len, line.p, n);
		len += n;
		text[len] = '\0';
	} while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'));
	return text;
}

/* Decodes quoted-printable; in a header "_" is a blank. Malloc'd. */
static char *decode_quoted(const char *p, size_t len, bool header, size_t *n)
{
	char *data = xmalloc(len + 1);

	*n = 0;
	for (size_t i = 0; i < len; i++) {
		if (p[i] == '=' && i + 2 < len && isxdigit((unsigned char)p[i + 1]) &&
			isxdigit((unsigned char)p[i + 2])) {
			const char digits[3] = { p[i + 1], p[i + 2], '\0' };

			data[(*n)++] = (char)strtoul(digits, NULL, 16);
			i += 2;
		} else if (p[i] == '=' && i + 1 < len && (p[i + 1] == '\n' || p[i + 1] == '\r')) {
			i += p[i + 1] == '\r' && i + 2 < len && p[i + 2] == '\n' ? 2 : 1;
		} else {
			data[(*n)++] = header && p[i] == '_' ? ' ' : p[i];
		}
	}
	data[*n] = '\0';
	return data;
}

/* Decodes one encoded word, =?UTF-8?B?...?=, at `p`; NULL when it is none. */
static char *decode_word(const char *p, const char **after)
{
	const char *how = strncmp(p, "=?", 2) == 0 ? strchr(p + 2, '?') : NULL, *text = how && how[1] ? how + 3 : NULL,
		   *end = text && how[2] == '?' ? strstr(text, "?=") : NULL;
	size_t n;

	if (!end)
		return NULL;
	*after = end + 2;
	return toupper((unsigned char)how[1]) == 'B' ? base64_decode(text, (size_t)(end - text), &n)
	                                             : decode_quoted(text, (size_t)(end - text), true, &n);
}

/* A header with its encoded words decoded; malloc'd. */
static char *decode_header(const char *text)
{
	char *out = xmalloc(strlen(text) + 1), *word;
	const char *after;
	size_t len = 0;
	bool was_word = false;

	while (*text) {
		const char *next = text + strspn(text, " \t");

		if (was_word && (word = decode_word(next, &after)) != NULL)
			text = next; /* blanks between encoded words are not part of the text */
		else if ((word = decode_word(text, &after)) == NULL) {
			out[len++] = *text++;
			was_word = false;
			continue;
		}
		memcpy(out + len, word, strlen(word));
		len += strlen(word);
		free(word);
		text = after;
		was_word = true;
	}
	out[len] = '\0';
	return out;
}

/* The value of a parameter, boundary="...", of a header; malloc'd, or NULL. */
static char *parameter(const char *header, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = header ? strchr(header, ';') : NULL; p; p = strchr(p + 1, ';')) {
		const char *q = p + 1 + strspn(p + 1, " \t");

		if (strncasecmp(q, name, len) != 0 || (q[len] != '=' && q[len] != '*'))
			continue;
		q = strchr(q, '=') + 1;
		return *q == '"' ? xstrndup(q + 1, strcspn(q + 1, "\"")) : xstrndup(q, strcspn(q, "; \t"));
	}
	return NULL;
}

/* The headers of a part that matter. */
struct head {
	char *type, *encoding, *disposition;
};

/* Whether a header has another value in each run. */
static bool differs_always(const char *header)
{
	static const char *const names[] = { "Date:", "Message-ID:", "DKIM-Signature:", "Received:" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strncasecmp(header, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* The header without the boundary, which differs in each run. */
static void add_header(cJSON *headers, const char *header)
{
	const char *colon = strchr(header, ':');
	char *shown = decode_header(header), *boundary = strcasestr(shown, "boundary=");

	if (differs_always(header) && colon)
		shown[colon + 1 - header] = '\0';
	else if (boundary)
		boundary[strlen("boundary=")] = '\0';
	cJSON_AddItemToArray(headers, cJSON_CreateString(shown));
	free(shown);
}

/* Reads a head; the mail's own headers go to `mail`. */
static struct head read_head(struct span *s, cJSON *mail)
{
	struct head h = { 0 };
	char *line;

	while ((line = next_header(s)) != NULL) {
		char **to = strncasecmp(line, "Content-Type:", 13) == 0                ? &h.type
		            : strncasecmp(line, "Content-Transfer-Encoding:", 26) == 0 ? &h.encoding
		            : strncasecmp(line, "Content-Disposition:", 20) == 0       ? &h.disposition
		                                                                       : NULL;

		if (mail && strncasecmp(line, "Subject:", 8) == 0) {
			char *subject = decode_header(line + 8 + strspn(line + 8, " \t"));

			cJSON_AddStringToObject(mail, "subject", subject);
			free(subject);
		} else if (mail) {
			add_header(cJSON_GetObjectItemCaseSensitive(mail, "headers"), line);
		}
		if (to) {
			free(*to);
			*to = xstrdup(strchr(line, ':') + 1 + strspn(strchr(line, ':') + 1, " \t"));
		}
		free(line);
	}
	return h;
}

/* Adds what is neither the text nor the HTML. */
static void add_part(cJSON *mail, const struct head *h, const char *data, size_t len)
{
	cJSON *part = cJSON_CreateObject();
	char *type = h->type ? xstrndup(h->type, strcspn(h->type, "; \t")) : xstrdup("text/plain"),
	     *name = parameter(h->disposition, "filename"), hash[20];

	if (!name)
		name = parameter(h->type, "name");
	snprintf(hash, sizeof(hash), "%016" PRIx64, hash_add(HASH_START, data, len));
	cJSON_AddStringToObject(part, "type", type);
	if (name)
		cJSON_AddStringToObject(part, "name", name);
	cJSON_AddNumberToObject(part, "size", (double)len);
	cJSON_AddStringToObject(part, "hash", hash);
	if (strcasecmp(type, "application/pdf") == 0) {
		char *content = base64_encode(data, len);

		cJSON_AddStringToObject(part, "content_base64", content);
		free(content);
	}
	cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(mail, "parts"), part);
	free(type);
	free(name);
}

/* Takes a part that has no parts. */
static void take_leaf(cJSON *mail, const struct head *h, struct span body)
{
	size_t len = (size_t)(body.end - body.p);
	char *data = h->encoding && strcasestr(h->encoding, "base64") ? base64_decode(body.p, len, &len)
	             : h->encoding && strcasestr(h->encoding, "quoted-printable")
	                     ? decode_quoted(body.p, len, false, &len)
	                     : xstrndup(body.p, len);
	bool attached = h->disposition && strncasecmp(h->disposition, "attachment", 10) == 0;
	const char *kind = h->type && strncasecmp(h->type, "text/html", 9) == 0      ? "html"
	                   : !h->type || strncasecmp(h->type, "text/plain", 10) == 0 ? "text"
	                                                                             : NULL;

	if (kind && !attached && !cJSON_HasObjectItem(mail, kind) && utf8_is_valid(data, len))
		cJSON_AddStringToObject(mail, kind, data);
	else
		add_part(mail, h, data, len);
	free(data);
}

/* Takes a body apart. */
static void take_body(cJSON *mail, const struct head *h, struct span body, int depth)
{
	char *boundary = h->type && strncasecmp(h->type, "multipart/", 10) == 0 ? parameter(h->type, "boundary") : NULL;
	struct span part = { NULL, NULL };
	size_t len = boundary ? strlen(boundary) : 0;

	if (!boundary || depth >= DEPTH_MAX) {
		take_leaf(mail, h, body);
		free(boundary);
		return;
	}
	while (body.p < body.end) {
		struct span line = next_line(&body);

		if ((size_t)(line.end - line.p) < len + 2 || strncmp(line.p, "--", 2) != 0 ||
			strncmp(line.p + 2, boundary, len) != 0)
			continue;
		if (part.p) {
			struct head inner;

			part.end = line.p;
			if (part.end > part.p && part.end[-1] == '\n')
				part.end--;
			if (part.end > part.p && part.end[-1] == '\r')
				part.end--;
			inner = read_head(&part, NULL);
			take_body(mail, &inner, part, depth + 1);
			free(inner.type);
			free(inner.encoding);
			free(inner.disposition);
		}
		part.p = body.p;
	}
	free(boundary);
}

cJSON *mail_read(const char *data, size_t len)
{
	struct span all = { data, data + len };
	cJSON *mail = cJSON_CreateObject();
	struct head h;

	cJSON_AddArrayToObject(mail, "headers");
	cJSON_AddArrayToObject(mail, "parts");
	h = read_head(&all, mail);
	take_body(mail, &h, all, 0);
	free(h.type);
	free(h.encoding);
	free(h.disposition);
	return mail;
}
