/* reply.c: fuzz target: the first byte says in pieces of what size the rest, a mail server's bytes, reaches the parser;
 * each reply in it is told without controls and without the recipient. */
#include "config.h"

#include "reply.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A reply as it may reach a log. */
static void check_reply(const struct reply *r)
{
	char *text = reply_describe(r, "ivan.petrov@example.test"), *lower;

	if (r->code < 200 || r->code > 599 || strlen(r->text) > REPLY_TEXT_MAX ||
		strlen(r->enhanced) >= sizeof(r->enhanced))
		abort();
	for (const char *p = text; *p; p++)
		if ((*p > 0 && *p < 0x20) || *p == 0x7f)
			abort();
	lower = g_ascii_strdown(text, -1);
	if (!g_utf8_validate(text, -1, NULL) || strstr(lower, "ivan.petrov@example") != NULL)
		abort();
	g_free(lower);
	g_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct reply_parser p;
	struct reply whole;
	size_t piece, at = 1, n;
	char *wire;

	if (size < 1)
		return 0;
	piece = data[0] + (size_t)1;
	memset(&p, 0, sizeof(p));
	while (at < size) {
		size_t used = (size_t)-1, len = MIN(piece, size - at);
		enum reply_status status = reply_feed(&p, (const char *)data + at, len, &used);

		if (status == REPLY_BROKEN)
			break;
		if (used > len || used == 0 || (status == REPLY_MORE && used != len))
			abort();
		at += used;
		if (status == REPLY_COMPLETE)
			check_reply(&p.reply);
	}
	if (reply_from_line(&whole, (const char *)data + 1, size - 1))
		check_reply(&whole);
	wire = reply_stuff_dots((const char *)data + 1, size - 1, &n);
	for (size_t i = 0; i < n; i++) {
		if ((wire[i] == '\n') != (i > 0 && wire[i - 1] == '\r') ||
			(wire[i] == '.' && i >= 1 && wire[i - 1] == '\n' && i + 1 < n && wire[i + 1] == '\r' &&
				i + 3 != n))
			abort();
	}
	if (n < 3 || memcmp(wire + n - 3, ".\r\n", 3) != 0)
		abort();
	g_free(wire);
	return 0;
}
