/* test_parts.c: the parts and recipients of a mail that has more than a text and one recipient. */
#include "config.h"

#include "mime.h"

#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct recipient ivan = { .mailbox = { .address = (char *)"ivan@example.test" } };
static const struct recipients only_ivan = { &ivan, 1 };

static const struct mime_mail simple = {
	.from = "noreply@example.test",
	.rcpt = &only_ivan,
	.subject = "Hello",
	.text = "One.\n",
	.message_id = "id@example.test",
	.seed = "0123456789abcdef0123456789abcdef0123456789abcdef",
	.date = 1780000000,
};

/* Composes twice, to the same bytes, and returns the text. */
static char *compose(const struct mime_mail *mail)
{
	const char *error = NULL;
	size_t len = 0, again = 0;
	char *bytes = mime_compose(mail, &len, &error), *twice = mime_compose(mail, &again, &error), *text;

	if (bytes == NULL || twice == NULL)
		fail_msg("%s", error);
	assert_int_equal(len, again);
	assert_memory_equal(bytes, twice, len);
	text = g_strndup(bytes, len);
	g_free(bytes);
	g_free(twice);
	return text;
}

/* Whether the texts follow one another in the mail. */
static void assert_order(const char *mail, const char *const *texts)
{
	for (; *texts != NULL; texts++) {
		const char *at = strstr(mail, *texts);

		if (at == NULL)
			fail_msg("no \"%s\" in its place", *texts);
		mail = at + strlen(*texts);
	}
}

/* Several recipients: those of Bcc get it and are named nowhere; headers of the message's own. */
static void several(void **state)
{
	struct recipient list[] = { { { (char *)"Ivan", (char *)"ivan@example.test" }, RECIPIENT_TO },
		{ { NULL, (char *)"petr@example.test" }, RECIPIENT_TO },
		{ { (char *)"Ольга", (char *)"olga@example.test" }, RECIPIENT_CC },
		{ { NULL, (char *)"anna@example.test" }, RECIPIENT_BCC } };
	const struct recipients all = { list, G_N_ELEMENTS(list) };
	struct pair own[] = { { (char *)"X-Order", (char *)"№ 7" }, { (char *)"References", (char *)"<a@b> <c@d>" } };
	const struct pairs headers = { own, 2 };
	struct mime_mail mail = simple;
	char *bytes;

	(void)state;
	mail.rcpt = &all;
	mail.headers = &headers;
	mail.reply_to = "desk@example.test";
	mail.reply_name = "Desk";
	bytes = compose(&mail);
	assert_order(
		bytes, (const char *const[]){ "\r\nReply-To: Desk <desk@example.test>",
			       "\r\nTo: Ivan <ivan@example.test>,\r\n petr@example.test\r\n", "Cc: =?UTF-8?",
			       "<olga@example.test>\r\n", "X-Order: =?UTF-8?", "References: <a@b> <c@d>\r\n", NULL });
	assert_null(strstr(bytes, "anna"));
	g_free(bytes);
}

/* The tree of a mail with everything: the invitation is one of the alternatives, the image belongs to the HTML. */
static void everything(void **state)
{
	struct email_attachment list[] = {
		{ .filename = (char *)"a.pdf",
			.content_type = (char *)"application/pdf",
			.content = (unsigned char *)"x",
			.len = 1 },
		{ .filename = (char *)"l.png",
			.content_type = (char *)"image/png",
			.cid = (char *)"logo",
			.content = (unsigned char *)"y",
			.len = 1 },
		{ .filename = (char *)"invite.ics",
			.content_type = (char *)"text/calendar",
			.method = (char *)"REQUEST",
			.content = (unsigned char *)"z",
			.len = 1 },
	};
	struct mime_mail mail = simple;
	char *bytes;

	(void)state;
	mail.html = "<img src=\"cid:logo\">";
	mail.attachments = list;
	mail.nattachments = G_N_ELEMENTS(list);
	bytes = compose(&mail);
	assert_order(
		bytes, (const char *const[]){ "Content-Type: multipart/mixed", "Content-Type: multipart/alternative",
			       "Content-Type: text/plain", "Content-Type: multipart/related", "Content-Type: text/html",
			       "Content-Type: image/png", "Content-Disposition: inline", "Content-Id: <logo>",
			       "Content-Type: text/calendar; method=REQUEST; charset=utf-8",
			       "Content-Type: application/pdf", "Content-Disposition: attachment", NULL });
	g_free(bytes);
	/* Without HTML nothing shows the image: it is a file. */
	mail.html = NULL;
	bytes = compose(&mail);
	assert_order(
		bytes, (const char *const[]){ "multipart/mixed", "multipart/alternative", "text/plain", "text/calendar",
			       "application/pdf", "image/png", "Content-Disposition: attachment", NULL });
	assert_null(strstr(bytes, "related"));
	g_free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(several),
		cmocka_unit_test(everything),
	};
	int failed;

	mime_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	mime_stop();
	return failed;
}
