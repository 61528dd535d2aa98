/* header.c: encoded words (RFC 2047): always UTF-8 in base64, 75 characters at most, never a letter cut in two.
 *
 * GMime's own encoder is not used for these: it lets words grow over the limit and recodes ASCII. */
#include "config.h"

#include "header.h"

#include <glib.h>
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

/* Appends `text` as encoded words; `column` is how far the line has come. */
static size_t append_words(GString *out, const char *text, size_t column)
{
	while (*text != '\0') {
		size_t room = column < LINE_MAX_SOFT ? MIN(LINE_MAX_SOFT - column, WORD_MAX) : 0;
		size_t n = word_bytes(text, room);
		char *base64;

		if (n == 0 || (n < strlen(text) && room < WORD_MAX / 2)) {
			/* Not worth it on this line. */
			g_string_append(out, "\n ");
			column = 1;
			n = word_bytes(text, WORD_MAX);
		}
		base64 = g_base64_encode((const guchar *)text, n);
		g_string_append_printf(out, "=?UTF-8?B?%s?=", base64);
		column += strlen(base64) + WRAPPING;
		g_free(base64);
		text += n;
		if (*text != '\0') {
			g_string_append(out, "\n ");
			column = 1;
		}
	}
	return column;
}

/* Whether `text` may stand in a header as it is, in `room` characters. */
static int is_plain(const char *text, size_t room)
{
	size_t len = strlen(text);

	return len <= room && g_str_is_ascii(text) && strstr(text, "=?") == NULL &&
	       (len == 0 || (text[0] != ' ' && text[len - 1] != ' '));
}

char *header_text(const char *text, size_t name_len)
{
	GString *out = g_string_new(NULL);
	size_t column = name_len + 2;

	if (is_plain(text, LINE_MAX_SOFT - column))
		g_string_append(out, text);
	else
		append_words(out, text, column);
	return g_string_free(out, FALSE);
}

/* Appends a plain name, quoted when it holds anything but letters, digits, spaces and hyphens. */
static size_t append_name(GString *out, const char *name)
{
	size_t before = out->len;
	int quote = 0;

	for (const char *p = name; *p != '\0'; p++)
		quote |= !g_ascii_isalnum(*p) && *p != ' ' && *p != '-';
	if (quote)
		g_string_append_c(out, '"');
	for (const char *p = name; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			g_string_append_c(out, '\\');
		g_string_append_c(out, *p);
	}
	if (quote)
		g_string_append_c(out, '"');
	return out->len - before;
}

char *header_mailbox(const char *display, const char *address, size_t name_len)
{
	GString *out = g_string_new(NULL);
	size_t column = name_len + 2;

	if (display == NULL || display[0] == '\0') {
		g_string_append(out, address);
		return g_string_free(out, FALSE);
	}
	if (is_plain(display, (LINE_MAX_SOFT - column) / 2))
		column += append_name(out, display);
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
