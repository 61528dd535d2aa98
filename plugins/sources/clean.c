/* clean.c: JSON of others, made fit for jsonb. */
#include "config.h"

#include "clean.h"

#include <stdlib.h>
#include <string.h>

#define ESCAPE 6 /* characters of \uXXXX */

/* The code of the escape \uXXXX at p; -1 when there is none. */
static long escape_code(const char *p)
{
	char digits[5] = "";

	if (p[0] != '\\' || p[1] != 'u' || strspn(p + 2, "0123456789abcdefABCDEF") < 4)
		return -1;
	memcpy(digits, p + 2, 4);
	return strtol(digits, NULL, 16);
}

void clean_escapes(char *json)
{
	for (char *p = json; (p = strchr(p, '\\')) != NULL;) {
		long code = escape_code(p), next = code < 0 ? -1 : escape_code(p + ESCAPE);

		if (code < 0) {
			p += p[1] != '\0' ? 2 : 1;
			continue;
		}
		if (code >= 0xd800 && code < 0xdc00 && next >= 0xdc00 && next < 0xe000) {
			p += 2 * ESCAPE; /* a whole pair */
			continue;
		}
		if (code == 0 || (code >= 0xd800 && code < 0xe000))
			memcpy(p + 2, "fffd", 4);
		p += ESCAPE;
	}
}
