/* text.c: text in a URL: percent-encoding, and UTF-8. */
#include "config.h"

#include "http/text.h"

#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

/* The length of the UTF-8 character at `s`, of which `left` bytes are there; 0: it is none. */
static size_t http_text_char(const unsigned char *s, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 4;

	if ((s[0] >= 0x80 && s[0] < 0xc2) || s[0] > 0xf4 || n > left)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < n; i++, low = 0x80, high = 0xbf)
		if (s[i] < low || s[i] > high)
			return 0;
	return n;
}

bool http_text_is_utf8(const char *text, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n)
		if ((n = http_text_char((const unsigned char *)text + i, len - i)) == 0)
			return false;
	return true;
}

/* The value of a hex digit, or -1. */
static int http_text_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A copy without percent-encoding, of *n bytes and a NUL; NULL when a % is not followed by two hex digits. */
static char *http_text_bytes(const char *text, size_t len, bool form, size_t *n)
{
	char *out = xmalloc(len + 1);

	*n = 0;
	for (size_t i = 0; i < len; i++) {
		int high, low;

		if (text[i] != '%') {
			out[(*n)++] = form && text[i] == '+' ? ' ' : text[i];
			continue;
		}
		high = len - i > 2 ? http_text_hex(text[i + 1]) : -1;
		low = len - i > 2 ? http_text_hex(text[i + 2]) : -1;
		if (high < 0 || low < 0) {
			free(out);
			return NULL;
		}
		out[(*n)++] = (char)(high * 16 + low);
		i += 2;
	}
	out[*n] = '\0';
	return out;
}

bool http_text_is_encoded(const char *text, size_t len)
{
	size_t n;
	char *plain = http_text_bytes(text, len, false, &n);
	bool good = plain != NULL && http_text_is_utf8(plain, n);

	free(plain);
	return good;
}

char *http_text_decode(const char *text, size_t len, bool form)
{
	size_t n;
	char *plain = http_text_bytes(text, len, form, &n);

	if (plain != NULL && strlen(plain) == n && http_text_is_utf8(plain, n))
		return plain;
	free(plain);
	return NULL;
}
