/* base64.c: base64 as mails and JSON have it. */
#include "config.h"

#include "cmd/replay/base64.h"

#include "base/xalloc.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *data, size_t len)
{
	const unsigned char *p = data;
	char *text = xmalloc((len + 2) / 3 * 4 + 1), *to = text;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t three = (uint32_t)p[i] << 16 | (i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0) |
		                 (i + 2 < len ? p[i + 2] : 0);

		*to++ = digits[three >> 18];
		*to++ = digits[three >> 12 & 63];
		*to++ = i + 1 < len ? digits[three >> 6 & 63] : '=';
		*to++ = i + 2 < len ? digits[three & 63] : '=';
	}
	*to = '\0';
	return text;
}

char *base64_decode(const char *text, size_t len, size_t *n)
{
	char *data = xmalloc(len / 4 * 3 + 4);
	uint32_t bits = 0;
	unsigned have = 0;

	*n = 0;
	for (size_t i = 0; i < len; i++) {
		const char *digit = text[i] ? strchr(digits, text[i]) : NULL;

		if (!digit)
			continue;
		bits = bits << 6 | (uint32_t)(digit - digits);
		have += 6;
		if (have >= 8) {
			have -= 8;
			data[(*n)++] = (char)(bits >> have);
		}
	}
	data[*n] = '\0';
	return data;
}
