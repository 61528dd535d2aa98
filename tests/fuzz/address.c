/* address.c: fuzz target: the first byte picks an address, a host, a header's text or a mailbox. No CR comes out, no LF
 * but in a fold, nothing but ASCII; and an address that was taken is taken again. */
#include "config.h"

#include "address.h"
#include "header.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts unless the value can stand in a header: lines of a mail, each but the first begun by a blank and none of
 * blanks alone. */
static void check_value(const char *value, size_t name_len)
{
	size_t line = name_len + 2;

	for (const char *p = value; *p; p++) {
		if ((*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
			abort();
		if (*p == '\n' && ((p[1] != ' ' && p[1] != '\t') || strspn(p + 1, " \t") == strcspn(p + 1, "\n")))
			abort();
		line = *p == '\n' ? 0 : line + 1;
		if (line > 998)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text, *out = NULL, *again = NULL, *value;
	const char *wrong;
	size_t name_len;

	if (size < 2)
		return 0;
	name_len = data[1] % 32;
	text = g_strndup((const char *)data + 2, size - 2);
	switch (data[0] % 4) {
	case 0:
		wrong = address_parse(text, &out);
		if ((wrong == NULL) != (out != NULL))
			abort();
		if (out != NULL) {
			if (strlen(out) > ADDRESS_MAX || strpbrk(out, "\r\n <>,;:\"()[]\\") != NULL ||
				strchr(out, '@') != strrchr(out, '@') || !address_host_ok(strrchr(out, '@') + 1) ||
				address_parse(out, &again) != NULL || strcmp(out, again) != 0)
				abort();
			value = header_mailbox(NULL, out, name_len);
			check_value(value, name_len);
			g_free(value);
		}
		break;
	case 1:
		if (address_host_ok(text) && (strpbrk(text, "\r\n @_") != NULL || strlen(text) > 253))
			abort();
		break;
	case 2:
		if (address_header_check(text) == NULL) {
			value = header_text(text, name_len);
			check_value(value, name_len);
			g_free(value);
		}
		break;
	default:
		if (address_header_check(text) == NULL) {
			value = header_mailbox(text, "ivan@example.test", name_len);
			check_value(value, name_len);
			if (strstr(value, "ivan@example.test") == NULL)
				abort();
			g_free(value);
			value = header_word(text);
			if (value != NULL && (strpbrk(value, "\r\n ") != NULL || strlen(value) > 75))
				abort();
			g_free(value);
		}
	}
	g_free(again);
	g_free(out);
	g_free(text);
	return 0;
}
