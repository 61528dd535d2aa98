/* reply.c: the parser of SMTP replies, their form for people, and dot-stuffing. */
#include "config.h"

#include "reply.h"

#include <glib.h>
#include <string.h>

/* Copies an enhanced status code (RFC 3463) that `text` begins with; returns its length with the blank after it, or
 * 0. */
static size_t enhanced_code(int code, const char *text, size_t len, char out[12])
{
	size_t i = 0, start, parts = 0;

	if (len == 0 || text[0] != '0' + code / 100)
		return 0;
	while (parts < 3) {
		for (start = i; i < len && i - start < 3 && g_ascii_isdigit(text[i]); i++)
			;
		if (i == start || (parts == 0 && i != 1))
			return 0;
		if (++parts < 3 && (i >= len || text[i++] != '.'))
			return 0;
	}
	if (i < len && text[i] != ' ')
		return 0;
	memcpy(out, text, i);
	out[i] = '\0';
	return i < len ? i + 1 : i;
}

/* Adds a line's text to the reply's, controls replaced, as far as there is room. */
static void add_text(struct reply_parser *p, const char *text, size_t len)
{
	char *out = p->reply.text;

	if (len > 0 && p->text_len > 0 && p->text_len < REPLY_TEXT_MAX)
		out[p->text_len++] = ' ';
	for (size_t i = 0; i < len && p->text_len < REPLY_TEXT_MAX; i++) {
		unsigned char c = (unsigned char)text[i];

		out[p->text_len++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
	}
	out[p->text_len] = '\0';
}

/* Takes one line without its end. COMPLETE for a last line, MORE for one with a hyphen. */
static enum reply_status take_line(struct reply_parser *p, const char *line, size_t len)
{
	char enhanced[12] = "";
	bool more = false;
	size_t skip;
	int code;

	if (len < 3 || line[0] < '2' || line[0] > '5' || !g_ascii_isdigit(line[1]) || !g_ascii_isdigit(line[2]))
		return REPLY_BROKEN;
	if (len > 3 && line[3] != ' ' && line[3] != '-')
		return REPLY_BROKEN;
	code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
	if (p->lines > 0 && code != p->reply.code)
		return REPLY_BROKEN;
	if (++p->lines > REPLY_LINES_MAX)
		return REPLY_BROKEN;
	p->reply.code = code;
	if (len > 3) {
		more = line[3] == '-';
		line += 4;
		len -= 4;
	} else {
		len = 0;
	}
	skip = enhanced_code(code, line, len, enhanced);
	if (skip > 0 && p->reply.enhanced[0] == '\0')
		memcpy(p->reply.enhanced, enhanced, sizeof(enhanced));
	add_text(p, line + skip, len - skip);
	return more ? REPLY_MORE : REPLY_COMPLETE;
}

enum reply_status reply_feed(struct reply_parser *p, const char *data, size_t len, size_t *used)
{
	if (p->lines == 0 && p->len == 0) {
		memset(&p->reply, 0, sizeof(p->reply));
		p->text_len = 0;
	}
	for (size_t i = 0; i < len; i++) {
		enum reply_status status;
		size_t n = p->len;

		if (data[i] != '\n') {
			if (n == sizeof(p->line))
				goto broken;
			p->line[p->len++] = data[i];
			continue;
		}
		if (n > 0 && p->line[n - 1] == '\r')
			n--;
		p->len = 0;
		/* some servers put an empty line in front of a reply; the reply behind it is what counts */
		if (n == 0 && p->lines == 0 && p->blanks++ < REPLY_BLANKS_MAX)
			continue;
		status = take_line(p, p->line, n);
		if (status == REPLY_MORE)
			continue;
		if (status == REPLY_BROKEN)
			goto broken;
		p->lines = p->blanks = 0;
		*used = i + 1;
		return REPLY_COMPLETE;
	}
	*used = len;
	return REPLY_MORE;
broken:
	*used = len;
	return REPLY_BROKEN;
}

bool reply_from_line(struct reply *r, const char *line, size_t len)
{
	struct reply_parser *p = g_new0(struct reply_parser, 1);
	bool ok;

	while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		len--;
	ok = take_line(p, line, len) != REPLY_BROKEN;
	if (ok)
		*r = p->reply;
	g_free(p);
	return ok;
}

/* Whether `c` can be part of a bare address, for finding addresses in free text. */
static bool address_char(unsigned char c)
{
	return c > 0x20 && c != 0x7f && strchr("<>()[]{},;:\"'", c) == NULL;
}

/* Replaces each occurrence of `word` (whatever its case) that stands alone. */
static void hide_word(GString *s, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; n > 0 && i + n <= s->len;) {
		bool left = i == 0 || !g_ascii_isalnum(s->str[i - 1]);
		bool right = i + n == s->len || !g_ascii_isalnum(s->str[i + n]);

		if (!left || !right || g_ascii_strncasecmp(s->str + i, word, n) != 0) {
			i++;
			continue;
		}
		g_string_erase(s, (gssize)i, (gssize)n);
		g_string_insert(s, (gssize)i, "[address]");
		i += strlen("[address]");
	}
}

/* Replaces everything that has the form of an address. */
static void hide_addresses(GString *s)
{
	char *at;
	size_t from = 0;

	while ((at = strchr(s->str + from, '@')) != NULL) {
		size_t start = (size_t)(at - s->str), end = start + 1;

		while (start > from && address_char((unsigned char)s->str[start - 1]))
			start--;
		while (end < s->len && address_char((unsigned char)s->str[end]))
			end++;
		if (end - start == 1) {
			from = end;
			continue;
		}
		g_string_erase(s, (gssize)start, (gssize)(end - start));
		g_string_insert(s, (gssize)start, "[address]");
		from = start + strlen("[address]");
	}
}

char *reply_redact(const char *text, const char *recipient)
{
	char *valid = g_utf8_make_valid(text, -1);
	GString *s = g_string_new(valid);

	g_free(valid);
	for (size_t i = 0; i < s->len; i++)
		if ((unsigned char)s->str[i] < 0x20 || s->str[i] == 0x7f)
			s->str[i] = ' ';
	if (recipient != NULL) {
		char *local = g_strndup(recipient, strcspn(recipient, "@"));

		hide_word(s, recipient);
		hide_addresses(s);
		/* Short names ("me", "no") are words of ordinary sentences as well. */
		if (strlen(local) >= 3)
			hide_word(s, local);
		/* A domain can be a person's own. */
		if (recipient[strlen(local)] == '@')
			hide_word(s, recipient + strlen(local) + 1);
		g_free(local);
	} else {
		hide_addresses(s);
	}
	return g_string_free(s, FALSE);
}

char *reply_describe(const struct reply *r, const char *recipient)
{
	char *text = reply_redact(r->text, recipient);
	char *all = g_strdup_printf("%d%s%s%s%s", r->code, r->enhanced[0] != '\0' ? " " : "", r->enhanced,
		text[0] != '\0' ? " " : "", text);

	g_free(text);
	return all;
}

char *reply_stuff_dots(const char *data, size_t len, size_t *out_len)
{
	const char *end = data + len;
	/* Nothing but dots and bare line ends, at worst; pages that are not written to cost nothing. */
	char *out = g_malloc(len * 2 + 6), *p = out;
	bool line_start = true;

	while (data < end) {
		const char *lf = memchr(data, '\n', (size_t)(end - data)), *stop = lf != NULL ? lf : end;
		const char *cr = memchr(data, '\r', (size_t)(stop - data));
		size_t run = (size_t)((cr != NULL ? cr : stop) - data);

		if (run > 0 && data[0] == '.')
			*p++ = '.';
		memcpy(p, data, run);
		p += run;
		data += run;
		line_start = data < end;
		if (!line_start)
			break;
		/* A bare CR or LF is made a full line end here too: what one server takes for the end of a mail and the
		 * next does not is how mails are smuggled. */
		data += data[0] == '\r' && data + 1 < end && data[1] == '\n' ? 2 : 1;
		*p++ = '\r';
		*p++ = '\n';
	}
	if (!line_start) {
		*p++ = '\r';
		*p++ = '\n';
	}
	memcpy(p, ".\r\n", 4);
	*out_len = (size_t)(p + 3 - out);
	return out;
}
