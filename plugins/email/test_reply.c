/* test_reply.c: SMTP replies in any number of pieces, what they mean for a mail, what of them may be told, and
 * dot-stuffing. */
#include "config.h"

#include "reply.h"
#include "verdict.h"

#include <curl/curl.h>
#include <errno.h>
#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Feeds `text` in two pieces, cut at `cut`; the status after the last byte. */
static enum reply_status feed_cut(struct reply_parser *p, const char *text, size_t cut)
{
	size_t len = strlen(text), used = 0;
	enum reply_status status = REPLY_MORE;

	memset(p, 0, sizeof(*p));
	if (cut > 0) {
		status = reply_feed(p, text, cut, &used);
		if (status != REPLY_MORE)
			return status;
		assert_int_equal(used, cut);
	}
	status = reply_feed(p, text + cut, len - cut, &used);
	if (status == REPLY_COMPLETE)
		assert_int_equal(used, len - cut);
	return status;
}

/* Well-formed replies come out the same wherever they are cut. */
static void replies(void **state)
{
	static const struct {
		const char *in;
		int code;
		const char *enhanced, *text;
	} rows[] = {
		{ "250 2.0.0 Ok: queued as 4F\r\n", 250, "2.0.0", "Ok: queued as 4F" },
		{ "250\r\n", 250, "", "" },
		{ "250 \r\n", 250, "", "" },
		{ "\r\n250 2.0.0 Ok\r\n", 250, "2.0.0", "Ok" },
		{ "\r\n\n\r\n250-a\r\n250 b\r\n", 250, "", "a b" },
		{ "354 go ahead\n", 354, "", "go ahead" },
		{ "554-5.7.1 one\r\n554-5.7.1 two\r\n554 5.7.1 three\r\n", 554, "5.7.1", "one two three" },
		{ "550-\r\n550 5.1.1\r\n", 550, "5.1.1", "" },
		{ "550 5.1.10 long\r\n", 550, "5.1.10", "long" },
		{ "550 4.1.1 another class\r\n", 550, "", "4.1.1 another class" },
		{ "550 5.1 is no code\r\n", 550, "", "5.1 is no code" },
		{ "550 5.1.1234 neither\r\n", 550, "", "5.1.1234 neither" },
		{ "450 4.2.0 a\x01\x1b"
		  "b\r\n",
			450, "4.2.0", "a  b" },
	};
	struct reply_parser p;

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		for (size_t cut = 0; cut < strlen(rows[i].in); cut++) {
			assert_int_equal(feed_cut(&p, rows[i].in, cut), REPLY_COMPLETE);
			assert_int_equal(p.reply.code, rows[i].code);
			assert_string_equal(p.reply.enhanced, rows[i].enhanced);
			assert_string_equal(p.reply.text, rows[i].text);
		}
}

/* Three replies in one piece, as PIPELINING brings them, and once more byte by byte. */
static void several(void **state)
{
	static const char in[] = "250 2.1.0 a\r\n550-5.1.1 b\r\n550 5.1.1 c\r\n354 d\r\n25";
	static const int codes[] = { 250, 550, 354 };
	struct reply_parser p = { .len = 0 };
	size_t at = 0, used, found = 0;

	(void)state;
	while (reply_feed(&p, in + at, sizeof(in) - 1 - at, &used) == REPLY_COMPLETE) {
		assert_int_equal(p.reply.code, codes[found++]);
		at += used;
	}
	assert_int_equal(found, 3);
	assert_int_equal(p.len, 2);

	memset(&p, 0, sizeof(p));
	found = 0;
	for (at = 0; at < sizeof(in) - 1; at++)
		if (reply_feed(&p, in + at, 1, &used) == REPLY_COMPLETE) {
			assert_int_equal(p.reply.code, codes[found]);
			assert_string_equal(p.reply.text, found == 1 ? "b c" : found == 0 ? "a" : "d");
			found++;
		}
	assert_int_equal(found, 3);
}

/* Lines that are not SMTP. */
static void broken(void **state)
{
	static const char *const rows[] = { "hello\r\n", "25\r\n", "\r\n\n\n\n", "2x0 a\r\n", "250_a\r\n", "150 a\r\n",
		"650 a\r\n", "250-a\r\n251 b\r\n", "250-a\r\nhello\r\n" };
	struct reply_parser p;

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		for (size_t cut = 0; cut < strlen(rows[i]); cut++)
			assert_int_equal(feed_cut(&p, rows[i], cut), REPLY_BROKEN);
}

/* Lines and numbers of lines end somewhere. */
static void limits(void **state)
{
	struct reply_parser p = { .len = 0 };
	GString *s = g_string_new("250 ");
	size_t used;

	(void)state;
	while (s->len < REPLY_LINE_MAX - 1)
		g_string_append_c(s, 'x');
	g_string_append(s, "\r\n");
	assert_int_equal(reply_feed(&p, s->str, s->len, &used), REPLY_COMPLETE);
	assert_int_equal(strlen(p.reply.text), REPLY_TEXT_MAX);
	g_string_insert(s, 4, "xx");
	memset(&p, 0, sizeof(p));
	assert_int_equal(reply_feed(&p, s->str, s->len, &used), REPLY_BROKEN);

	g_string_truncate(s, 0);
	for (int i = 1; i < REPLY_LINES_MAX; i++)
		g_string_append(s, "250-x\r\n");
	g_string_append(s, "250 x\r\n");
	memset(&p, 0, sizeof(p));
	assert_int_equal(reply_feed(&p, s->str, s->len, &used), REPLY_COMPLETE);
	g_string_prepend(s, "250-x\r\n");
	memset(&p, 0, sizeof(p));
	assert_int_equal(reply_feed(&p, s->str, s->len, &used), REPLY_BROKEN);
	g_string_free(s, TRUE);
}

/* No address gets through to a log or a dead letter. */
static void redaction(void **state)
{
	static const struct {
		const char *in, *recipient, *out;
	} rows[] = {
		{ "<ivan.petrov@example.test>: no such user", "ivan.petrov@example.test", "<[address]>: no such user" },
		{ "user ivan.petrov is unknown (IVAN.PETROV)", "ivan.petrov@example.test",
			"user [address] is unknown ([address])" },
		{ "from a@b.test to c@d.test", "x@y.test", "from [address] to [address]" },
		{ "no mailbox here, told me@home", "me@example.test", "no mailbox here, told [address]" },
		{ "me and some", "me@example.test", "me and some" },
		{ "ivanov is not ivan", "ivan@example.test", "ivanov is not [address]" },
		{ "почта@пример.рф: нет", NULL, "[address]: нет" },
		{ "a @ b", NULL, "a @ b" },
		{ "@", NULL, "@" },
		{ "a@@b", NULL, "[address]" },
		{ "line\r\nbreak\x1b[m", NULL, "line  break [m" },
		{ "", "a@b.test", "" },
		{ "bad \xff byte", NULL, "bad \xef\xbf\xbd byte" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *out = reply_redact(rows[i].in, rows[i].recipient);

		assert_string_equal(out, rows[i].out);
		g_free(out);
	}
}

/* A reply for people. */
static void description(void **state)
{
	struct reply r = { .code = 550, .enhanced = "5.1.1", .text = "ivan@example.test unknown" };
	char *out = reply_describe(&r, "ivan@example.test");

	(void)state;
	assert_string_equal(out, "550 5.1.1 [address] unknown");
	g_free(out);
	memset(&r, 0, sizeof(r));
	r.code = 250;
	out = reply_describe(&r, NULL);
	assert_string_equal(out, "250");
	g_free(out);
}

/* One line, as libcurl shows them while it connects. */
static void single_lines(void **state)
{
	struct reply r;

	(void)state;
	assert_true(reply_from_line(&r, "250-PIPELINING\r\n", 16));
	assert_int_equal(r.code, 250);
	assert_string_equal(r.text, "PIPELINING");
	assert_true(reply_from_line(&r, "535 5.7.8 no\r\n", 14));
	assert_string_equal(r.enhanced, "5.7.8");
	assert_false(reply_from_line(&r, "\r\n", 2));
	assert_false(reply_from_line(&r, "nonsense\r\n", 10));
}

/* Mails as they follow 354. */
static void dots(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "", ".\r\n" },
		{ "a\r\n", "a\r\n.\r\n" },
		{ "a", "a\r\n.\r\n" },
		{ ".", "..\r\n.\r\n" },
		{ ".\r\n", "..\r\n.\r\n" },
		{ "..\r\n", "...\r\n.\r\n" },
		{ "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\r\n.b\r\n.", "a\r\n..b\r\n..\r\n.\r\n" },
		{ "a.\r\n.b.c\r\n", "a.\r\n..b.c\r\n.\r\n" },
		/* Line ends that some servers take for the end of the mail. */
		{ "a\n.\nb", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\r.\rb", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\r\n.\rb", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n" },
		{ "a\r\r\n.", "a\r\n\r\n..\r\n.\r\n" },
		{ "\r\n\r\n", "\r\n\r\n.\r\n" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		size_t len;
		char *out = reply_stuff_dots(rows[i].in, strlen(rows[i].in), &len);

		assert_string_equal(out, rows[i].out);
		assert_int_equal(len, strlen(rows[i].out));
		g_free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies),
		cmocka_unit_test(several),
		cmocka_unit_test(broken),
		cmocka_unit_test(limits),
		cmocka_unit_test(redaction),
		cmocka_unit_test(description),
		cmocka_unit_test(single_lines),
		cmocka_unit_test(dots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
