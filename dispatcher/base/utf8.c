/* utf8.c: text that others wrote: whether it is UTF-8, and made fit for the database and the log. */
#include "config.h"

#include "base/utf8.h"

#include <string.h>

size_t utf8_length(const unsigned char *s, size_t left)
{
	size_t n = s[0] < 0x80                   ? 1
	           : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
	           : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
	           : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
	                                         : 0;

	if (n == 0 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, and what is beyond Unicode */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
		(s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

bool utf8_is_valid(const char *text, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n)
		if ((n = utf8_length((const unsigned char *)text + i, len - i)) == 0)
			return false;
	return true;
}

/* Cleans a text in place. */
void utf8_clean(char *text, unsigned long max)
{
	size_t len = strlen(text), n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_length((unsigned char *)text + i, len - i);
		if (n > 0 && i + n > max) {
			text[i] = '\0';
			return;
		}
		if (n == 0 || (n == 1 && ((unsigned char)text[i] < ' ' || text[i] == 127))) {
			text[i] = n ? ' ' : '?';
			n = 1;
		}
	}
	if (len > max)
		text[max] = '\0';
}
