/* header.c: folds what is ASCII, and makes encoded words (RFC 2047) of what is not: UTF-8, 75 characters at most, never
 * a letter cut in two; in Q where that is shorter (mostly ASCII), else in base64. Filters score base64 without need.
 *
 * GMime's own encoder is not used for these: it lets words grow over the limit and recodes ASCII. */
#include "config.h"

#include "header.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

#define WORD_MAX 75
#define LINE_MAX_SOFT 76
#define WRAPPING 12 /* =?UTF-8?B? and ?= */

/* How many bytes of `text` a word of `room` characters holds, up to a place between two letters. Best at a multiple
 * of three, which needs no padding: GMime 3.2 as a reader loses all words after a padded one. Best of all after a
 * space as well, since other readers show a gap between two words of a name. */
static size_t word_bytes(const char *text, size_t room)
{
	size_t max = room > WRAPPING ? (room - WRAPPING) / 4 * 3 : 0, len = strlen(text), last = 0, letter = 0,
	       whole = 0, space = 0;

	if (len <= max)
		return len;
	for (const char *p = text; (size_t)(p - text) <= max; p = g_utf8_next_char(p)) {
		size_t n = (size_t)(p - text);

		last = n;
		/* An accent (a combining mark) stays with its letter, if there is an end to them. */
		if (g_unichar_ismark(g_utf8_get_char(p)))
			continue;
		letter = n;
		if (n % 3 == 0)
			whole = n;
		if (n % 3 == 0 && n > 0 && text[n - 1] == ' ')
			space = n;
	}
	return space > max / 2 ? space : whole > max / 2 ? whole : letter > max / 2 ? letter : last;
}

/* Whether a byte may stand in a Q word of a name, too. */
static bool q_plain(unsigned char c)
{
	return g_ascii_isalnum(c) || (c != 0 && strchr("!*+-/", c) != NULL);
}

/* How many characters a byte takes in Q. */
static size_t q_len(unsigned char c)
{
	return q_plain(c) || c == ' ' ? 1 : 3;
}

/* Whether Q is the shorter encoding; ASCII has no other. */
static bool prefers_q(const char *text)
{
	size_t n = 0, len = strlen(text);

	if (g_str_is_ascii(text))
		return true;
	for (const char *p = text; *p != '\0'; p++)
		n += q_len((unsigned char)*p);
	return n <= (len + 2) / 3 * 4;
}

/* How many bytes of `text` a Q word of `room` characters holds, up to a place between two letters. */
static size_t q_bytes(const char *text, size_t room)
{
	size_t max = room > WRAPPING ? room - WRAPPING : 0, used = 0, letter = 0;

	for (const char *p = text; *p != '\0';) {
		const char *next = g_utf8_next_char(p);

		if (!g_unichar_ismark(g_utf8_get_char(p)))
			letter = (size_t)(p - text);
		for (const char *b = p; b < next; b++)
			used += q_len((unsigned char)*b);
		if (used > max)
			return letter > 0 ? letter : (size_t)(p - text);
		p = next;
	}
	return strlen(text);
}

/* Appends one word; returns its length. */
static size_t append_word(GString *out, const char *text, size_t n, bool q)
{
	size_t before = out->len;

	if (q) {
		g_string_append(out, "=?UTF-8?Q?");
		for (size_t i = 0; i < n; i++) {
			unsigned char c = (unsigned char)text[i];

			if (c == ' ')
				g_string_append_c(out, '_');
			else if (q_plain(c))
				g_string_append_c(out, (char)c);
			else
				g_string_append_printf(out, "=%02X", c);
		}
	} else {
		char *base64 = g_base64_encode((const guchar *)text, n);

		g_string_append_printf(out, "=?UTF-8?B?%s", base64);
		g_free(base64);
	}
	g_string_append(out, "?=");
	return out->len - before;
}

/* Appends `text` as encoded words; `column` is how far the line has come. */
static size_t append_words(GString *out, const char *text, size_t column)
{
	bool q = prefers_q(text);

	while (*text != '\0') {
		size_t room = column < LINE_MAX_SOFT ? MIN(LINE_MAX_SOFT - column, WORD_MAX) : 0;
		size_t n = q ? q_bytes(text, room) : word_bytes(text, room);

		if (n == 0 || (n < strlen(text) && room < WORD_MAX / 2)) {
			/* Not worth it on this line. */
			g_string_append(out, "\n ");
			column = 1;
			n = q ? q_bytes(text, WORD_MAX) : word_bytes(text, WORD_MAX);
		}
		column += append_word(out, text, n, q);
		text += n;
		if (*text != '\0') {
			g_string_append(out, "\n ");
			column = 1;
		}
	}
	return column;
}

/* Whether `text` may stand in a header as it is: ASCII that no reader takes for an encoded word, and that can be folded
 * between its words, since each of them fits a line. */
static bool is_plain(const char *text)
{
	size_t len = strlen(text), word = 0;

	if (!g_str_is_ascii(text) || strstr(text, "=?") != NULL)
		return false;
	if (len > 0 && (text[0] == ' ' || text[len - 1] == ' '))
		return false;
	for (const char *p = text; *p != '\0'; p++) {
		word = *p == ' ' && p[1] != ' ' ? 0 : word + 1; /* no fold among blanks */
		if (word > LINE_MAX_SOFT - 6)
			return false;
	}
	return true;
}

/* Appends plain text, with a line break before the last blank that keeps a line short; returns the column. A blank
 * beside another one stays where it is: some readers make one of them. */
static size_t append_folded(GString *out, const char *text, size_t column)
{
	while (*text != '\0') {
		size_t n = 1 + strcspn(text + 1, " ");

		if (column + n > LINE_MAX_SOFT && text[0] == ' ' && text[1] != ' ' && column > 1) {
			g_string_append_c(out, '\n');
			column = 0;
		}
		g_string_append_len(out, text, (gssize)n);
		column += n;
		text += n;
	}
	return column;
}

char *header_text(const char *text, size_t name_len)
{
	GString *out = g_string_new(NULL);
	size_t column = name_len + 2;

	if (is_plain(text))
		append_folded(out, text, column);
	else
		append_words(out, text, column);
	return g_string_free(out, FALSE);
}

char *header_folded(const char *text, size_t name_len)
{
	GString *out = g_string_new(NULL);

	append_folded(out, text, name_len + 2);
	return g_string_free(out, FALSE);
}

/* Appends a plain name, quoted when it holds anything but letters, digits, spaces and hyphens; returns the column. */
static size_t append_name(GString *out, const char *name, size_t column)
{
	GString *s = g_string_new(NULL);
	bool quote = false;

	for (const char *p = name; *p != '\0'; p++)
		quote = quote || (!g_ascii_isalnum(*p) && *p != ' ' && *p != '-');
	if (quote)
		g_string_append_c(s, '"');
	for (const char *p = name; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			g_string_append_c(s, '\\');
		g_string_append_c(s, *p);
	}
	if (quote)
		g_string_append_c(s, '"');
	column = append_folded(out, s->str, column);
	g_string_free(s, TRUE);
	return column;
}

char *header_mailbox(const char *display, const char *address, size_t name_len)
{
	GString *out = g_string_new(NULL);
	size_t column = name_len + 2;

	if (display == NULL || display[0] == '\0') {
		g_string_append(out, address);
		return g_string_free(out, FALSE);
	}
	if (is_plain(display))
		column = append_name(out, display, column);
	else
		column = append_words(out, display, column);
	g_string_append(out, column + strlen(address) + 3 > LINE_MAX_SOFT ? "\n " : " ");
	g_string_append_printf(out, "<%s>", address);
	return g_string_free(out, FALSE);
}

char *header_word(const char *text)
{
	char *base64, *word;

	if (word_bytes(text, WORD_MAX) < strlen(text))
		return NULL;
	base64 = g_base64_encode((const guchar *)text, strlen(text));
	word = g_strdup_printf("=?UTF-8?B?%s?=", base64);
	g_free(base64);
	return word;
}
