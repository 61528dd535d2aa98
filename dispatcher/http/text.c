/* text.c: text in a URL: UTF-8 in percent-encoding. */
#include "config.h"

#include "http/text.h"

#include "base/utf8.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

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

char *http_text_decode(const char *text, size_t len, bool form)
{
	size_t n;
	char *plain = http_text_bytes(text, len, form, &n);

	if (plain != NULL && strlen(plain) == n && utf8_is_valid(plain, n))
		return plain;
	free(plain);
	return NULL;
}

bool http_text_is_encoded(const char *text, size_t len)
{
	char *plain = http_text_decode(text, len, false);
	bool good = plain != NULL;

	free(plain);
	return good;
}
