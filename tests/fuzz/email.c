/* email.c: fuzz target: a message's body, read by the email plugin and made a mail: nothing but the headers that are
 * meant, in lines that end in CRLF, comes out. */
#include "config.h"

#include "address.h"
#include "message.h"
#include "mime.h"
#include "reply.h"

#include <cjson/cJSON.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM 4096
#define SEED "0123456789abcdef0123456789abcdef0123456789abcdef"

/* The header of the mail: known names, each once; folded lines begin with a blank. */
static void check_header(const char *mail)
{
	static const char *const known[] = { "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version",
		"Content-Type", "Content-Language", "Content-Transfer-Encoding", "Auto-Submitted",
		"X-Auto-Response-Suppress", "Content-Disposition", "Cc" };
	unsigned seen[G_N_ELEMENTS(known)] = { 0 };

	for (const char *line = mail; strncmp(line, "\r\n", 2) != 0;) {
		const char *end = strstr(line, "\r\n"), *colon = strchr(line, ':');
		size_t i;

		if (end == NULL)
			abort();
		if (*line != ' ' && *line != '\t') {
			for (i = 0; i < G_N_ELEMENTS(known); i++)
				if (colon != NULL && (size_t)(colon - line) == strlen(known[i]) &&
					g_ascii_strncasecmp(line, known[i], strlen(known[i])) == 0)
					break;
			/* The message may set others, as long as they are none of these; field.c says which. */
			if (i == G_N_ELEMENTS(known)
					? colon == NULL || memchr(line, ' ', (size_t)(colon - line)) != NULL
					: ++seen[i] > 1)
				abort();
		}
		line = end + 2;
	}
}

/* What goes over the wire: seven bits, no bare CR or LF, no line too long, and one end. */
static void check_bytes(const char *mail, size_t len)
{
	size_t line = 0, n;
	char *wire = reply_stuff_dots(mail, len, &n), *end;

	for (size_t i = 0; i < len; i++) {
		if (mail[i] <= 0 || (mail[i] == '\n' && (i == 0 || mail[i - 1] != '\r')) ||
			(mail[i] == '\r' && (i + 1 == len || mail[i + 1] != '\n')))
			abort();
		line = mail[i] == '\n' ? 0 : line + 1;
		if (line > 999)
			abort();
	}
	end = g_strrstr_len(wire, (gssize)n, "\r\n.\r\n");
	if (end == NULL || end + 5 != wire + n || strstr(wire, "\r\n.\r\n") != end)
		abort();
	g_free(wire);
}

/* Parses, composes twice, and looks at what came out. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int started;
	char *text = g_strndup((const char *)data, size), *reason;
	cJSON *json = cJSON_ParseWithOpts(text, NULL, 1);
	struct email_message m;

	if (!started++)
		mime_start();
	reason = message_parse(json, text, ROOM, false, &m);
	if (reason == NULL) {
		struct mime_mail mail = { .from = "noreply@example.test",
			.from_name = "Little Otter",
			.rcpt = &m.rcpt,
			.reply_to = m.reply_to.address,
			.reply_name = m.reply_to.name,
			.headers = &m.headers,
			.subject = m.subject != NULL ? m.subject : "S",
			.text = m.text,
			.html = m.html,
			.message_id = "id@example.test",
			.seed = SEED,
			.date = 1780000000,
			.attachments = m.attachments,
			.nattachments = m.nattachments };
		const char *error = NULL;
		size_t len = 0, again = 0;
		char *one, *two;

		if (mail.text == NULL && mail.html == NULL)
			mail.text = m.template;
		for (size_t i = 0; i < m.nattachments; i++)
			if (m.attachments[i].content == NULL)
				attachment_fill(&m.attachments[i], "x", 1, "text/plain");
		if (m.rcpt.n == 0 || (one = mime_compose(&mail, &len, &error)) == NULL)
			abort();
		two = mime_compose(&mail, &again, &error);
		if (len != again || memcmp(one, two, len) != 0)
			abort();
		check_bytes(one, len);
		check_header(one);
		g_free(one);
		g_free(two);
	} else if (strpbrk(reason, "\r\n") != NULL) {
		abort();
	}
	g_free(reason);
	message_clear(&m);
	cJSON_Delete(json);
	g_free(text);
	return 0;
}
