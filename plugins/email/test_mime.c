/* test_mime.c: a mail's bytes: their headers and encodings, that they are the same each time, and fit for any
 * server. */
#include "config.h"

#include "header.h"
#include "mime.h"
#include "reply.h"

#include <gmime/gmime.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SEED "0123456789abcdef0123456789abcdef0123456789abcdef"

static struct recipient ivan = { .mailbox = { .address = (char *)"ivan@example.test" } };
static const struct recipients only_ivan = { &ivan, 1 };

static const struct mime_mail simple = {
	.from = "noreply@example.test",
	.from_name = "Little Otter",
	.rcpt = &only_ivan,
	.subject = "Hello",
	.text = "One.\n.two\n",
	.message_id = "id@example.test",
	.seed = SEED,
	.date = 1780000000,
};

/* Composes, checks what holds for every mail, and returns the text. */
static char *compose(const struct mime_mail *mail)
{
	const char *error = NULL;
	size_t len = 0, line = 0;
	char *bytes = mime_compose(mail, &len, &error), *text;

	if (bytes == NULL)
		fail_msg("%s", error);
	for (size_t i = 0; i < len; i++) {
		assert_in_range((unsigned char)bytes[i], 1, 127);
		if (bytes[i] == '\n')
			assert_true(i > 0 && bytes[i - 1] == '\r');
		line = bytes[i] == '\n' ? 0 : line + 1;
		assert_true(line <= 79);
	}
	text = g_strndup(bytes, len);
	g_free(bytes);
	return text;
}

/* Appends what a Q word holds. */
static void decode_q(GString *out, const char *text, const char *end)
{
	for (; text < end; text++) {
		if (*text == '=') {
			g_string_append_c(
				out, (char)(g_ascii_xdigit_value(text[1]) << 4 | g_ascii_xdigit_value(text[2])));
			text += 2;
		} else {
			g_string_append_c(out, *text == '_' ? ' ' : *text);
		}
	}
}

/* Decodes encoded words; what stands between two of them is dropped. (GMime's own decoder loses words.) */
static char *decode_words(const char *value)
{
	GString *out = g_string_new(NULL);
	bool after_word = false;

	while (*value != '\0') {
		const char *word = strstr(value, "=?UTF-8?"), *end = word != NULL ? strstr(word + 10, "?=") : NULL;

		if (end == NULL) {
			g_string_append(out, value);
			break;
		}
		if (!after_word || strspn(value, " ") != (size_t)(word - value))
			g_string_append_len(out, value, word - value);
		if (word[8] == 'Q') {
			decode_q(out, word + 10, end);
		} else {
			char *base64 = g_strndup(word + 10, (gsize)(end - word - 10));
			gsize len;
			guchar *text = g_base64_decode(base64, &len);

			g_string_append_len(out, (const char *)text, (gssize)len);
			g_free(text);
			g_free(base64);
		}
		value = end + 2;
		after_word = true;
	}
	return g_string_free(out, FALSE);
}

/* A header's value, unfolded and decoded; NULL when it is not there exactly once. */
static char *header_value(const char *mail, const char *name)
{
	char *head = g_strndup(mail, (gsize)(strstr(mail, "\r\n\r\n") - mail + 2)),
	     **lines = g_strsplit(head, "\r\n", -1), *out = NULL;
	size_t n = strlen(name);
	int found = 0;

	for (char **l = lines; *l != NULL; l++) {
		GString *value;

		if (g_ascii_strncasecmp(*l, name, n) != 0 || (*l)[n] != ':')
			continue;
		found++;
		value = g_string_new(*l + n + 2);
		while (l[1] != NULL && (l[1][0] == ' ' || l[1][0] == '\t'))
			g_string_append(value, *++l);
		g_free(out);
		out = decode_words(value->str);
		g_string_free(value, TRUE);
	}
	g_strfreev(lines);
	g_free(head);
	if (found != 1)
		g_clear_pointer(&out, g_free);
	return out;
}

/* Checks one header of a mail. */
static void assert_header(const char *mail, const char *name, const char *want)
{
	char *got = header_value(mail, name);

	if (got == NULL)
		fail_msg("%s: not there, or not once:\n%s", name, mail);
	assert_string_equal(got, want);
	g_free(got);
}

/* The smallest mail, byte by byte. */
static void golden(void **state)
{
	struct mime_mail mail = simple;
	char *bytes;

	(void)state;
	mail.extra[0].name = "Auto-Submitted";
	mail.extra[0].value = "auto-generated";
	mail.nextra = 1;
	mail.reply_to = "help@example.test";
	bytes = compose(&mail);
	assert_string_equal(bytes, "From: Little Otter <noreply@example.test>\r\n"
				   "Reply-To: help@example.test\r\n"
				   "To: ivan@example.test\r\n"
				   "Subject: Hello\r\n"
				   "Date: Thu, 28 May 2026 20:26:40 +0000\r\n"
				   "Message-ID: <id@example.test>\r\n"
				   "Auto-Submitted: auto-generated\r\n"
				   "MIME-Version: 1.0\r\n"
				   "Content-Type: text/plain; charset=utf-8\r\n"
				   "Content-Transfer-Encoding: quoted-printable\r\n"
				   "\r\n"
				   "One.\r\n"
				   ".two\r\n");
	g_free(bytes);
}

/* Text, HTML and attachments in their order, the same bytes again, other ones for another seed. */
static void tree(void **state)
{
	static unsigned char pdf[] = "%PDF";
	struct email_attachment files[] = { { .filename = (char *)"Отчёт.pdf",
						    .content_type = (char *)"application/pdf",
						    .content = pdf,
						    .len = 4 },
		{ .filename = (char *)"b.txt", .content_type = (char *)"text/plain", .content = pdf } };
	struct mime_mail mail = simple;
	char *first, *second, *third;
	const char *at;

	(void)state;
	mail.html = "<p>Здравствуйте</p>";
	mail.attachments = files;
	mail.nattachments = 2;
	first = compose(&mail);
	second = compose(&mail);
	assert_string_equal(first, second);
	mail.seed = "f" SEED;
	third = compose(&mail);
	assert_string_not_equal(first, third);

	at = first;
	for (const char *const *want =
			(const char *const[]){ "multipart/mixed", "multipart/alternative", "text/plain; charset=utf-8",
				"text/html; charset=utf-8", "application/pdf", "JVBERg==", "text/plain", NULL };
		*want != NULL; want++) {
		at = strstr(at, *want);
		assert_non_null(at);
		at++;
	}
	assert_non_null(strstr(first, "filename*=UTF-8''%D0%9E%D1%82%D1%87%D1%91%D1%82.pdf"));
	assert_non_null(strstr(first, "name=\"=?UTF-8?B?0J7RgtGH0ZHRgi5wZGY=?=\""));
	assert_non_null(strstr(first, "filename=b.txt"));
	g_free(first), g_free(second), g_free(third);
}

/* Subjects that must come back as they went in, in words and lines that are not too long. */
static void subjects(void **state)
{
	static const char *const rows[] = {
		"Ваша проверка завершена",
		"x",
		" leading and trailing ",
		"=?UTF-8?Q?hi?=",
		"a =?b?= c",
		"Отчёт за май готов: результаты обследования, рекомендации врача и запись на следующий приём",
		"🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦🦦"
		"🦦🦦🦦🦦🦦",
		"plain ASCII that is far too long for the seventy-six characters that one line of a header may have at "
		"most",
	};
	GString *accents = g_string_new(NULL), *letters = g_string_new(NULL), *endless = g_string_new("e");
	const char *grown[3];

	(void)state;
	for (int i = 0; i < 200; i++) {
		g_string_append(accents, "е\xcc\x88"); /* ё of two */
		g_string_append(letters, "Я");
		g_string_append(endless, "\xcc\x88");
	}
	grown[0] = accents->str, grown[1] = letters->str, grown[2] = endless->str;
	for (size_t i = 0; i < G_N_ELEMENTS(rows) + 3; i++) {
		struct mime_mail mail = simple;
		char *bytes, **words;

		mail.subject = i < G_N_ELEMENTS(rows) ? rows[i] : grown[i - G_N_ELEMENTS(rows)];
		bytes = compose(&mail);
		assert_header(bytes, "Subject", mail.subject);
		/* Each word is whole: it decodes to valid UTF-8, and an accent does not begin it. */
		words = g_strsplit(strstr(bytes, "Subject: "), "=?UTF-8?B?", -1);
		for (char **w = words + 1; words[0] != NULL && *w != NULL; w++) {
			char *end = strstr(*w, "?="), *text;
			gsize len;

			assert_true(end - *w + 12 <= 75);
			*end = '\0';
			text = (char *)g_base64_decode(*w, &len);
			assert_true(g_utf8_validate(text, (gssize)len, NULL));
			if (mail.subject == accents->str)
				assert_int_equal(len % 4, 0);
			g_free(text);
		}
		g_strfreev(words);
		g_free(bytes);
	}
	g_string_free(accents, TRUE);
	g_string_free(letters, TRUE);
	g_string_free(endless, TRUE);
}

/* Names of people, the nasty ones too: one mailbox comes out. */
static void mailboxes(void **state)
{
	static const char *const names[] = {
		"Иванов, \"Otter\" <x@y>",
		"O'Brien, \"Bob\" \\ Sons",
		"Ivan Petrov",
		"a@b.test",
		"Общество с ограниченной ответственностью «Маленькая Выдра и партнёры»",
		"(comment)",
		"A plain name that is so long that it cannot stand on the same line as the address behind it",
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		struct mime_mail mail = simple;
		InternetAddressList *list;
		InternetAddress *one;
		char *bytes, *value, *whole, *want;

		struct recipient named = { .mailbox = { (char *)names[i], ivan.mailbox.address } };
		const struct recipients to = { &named, 1 };

		mail.rcpt = &to;
		bytes = compose(&mail);
		whole = header_value(bytes, "To");
		value = strstr(bytes, "\r\nTo: ") + 6;
		value = g_strndup(value, (gsize)(strstr(value, "\r\nSubject:") - value));
		for (char *fold; (fold = strstr(value, "\r\n")) != NULL;)
			memmove(fold, fold + 2, strlen(fold + 2) + 1);
		list = internet_address_list_parse(NULL, value);
		assert_non_null(list);
		assert_int_equal(internet_address_list_length(list), 1);
		one = internet_address_list_get_address(list, 0);
		assert_string_equal(
			internet_address_mailbox_get_addr(INTERNET_ADDRESS_MAILBOX(one)), "ivan@example.test");
		want = g_strdup_printf("%s <ivan@example.test>", names[i]);
		if (strstr(value, "=?") != NULL)
			assert_string_equal(whole, want);
		else
			assert_string_equal(internet_address_get_name(one), names[i]);
		g_object_unref(list);
		g_free(value), g_free(whole), g_free(want);
		g_free(bytes);
	}
}

/* A part's text after decoding. */
static char *decoded_body(const char *mail)
{
	GMimeStream *in = g_mime_stream_mem_new_with_buffer(mail, strlen(mail)), *out = g_mime_stream_mem_new();
	GMimeParser *parser = g_mime_parser_new_with_stream(in);
	GMimeMessage *message = g_mime_parser_construct_message(parser, NULL);
	GByteArray *bytes = g_mime_stream_mem_get_byte_array(GMIME_STREAM_MEM(out));
	char *text;

	g_mime_data_wrapper_write_to_stream(
		g_mime_part_get_content(GMIME_PART(g_mime_message_get_mime_part(message))), out);
	text = g_strndup((const char *)bytes->data, bytes->len);
	g_object_unref(message), g_object_unref(parser), g_object_unref(in), g_object_unref(out);
	return text;
}

/* Texts arrive as they were but for their line ends, which are all CRLF, the last one included. */
static void bodies(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "a", "a\r\n" },
		{ ".\n.start\n.", ".\r\n.start\r\n.\r\n" },
		{ "bare\rcr, \r\ncrlf, \nlf\n.\n\r.\r", "bare\r\ncr, \r\ncrlf, \r\nlf\r\n.\r\n\r\n.\r\n" },
		{ "From x\n  indented  \ttab\t\n=3D = literal\n",
			"From x\r\n  indented  \ttab\t\r\n=3D = literal\r\n" },
		{ "Здравствуйте.\n.\n", "Здравствуйте.\r\n.\r\n" },
		{ "mostly ASCII, one ё\n", "mostly ASCII, one ё\r\n" },
		{ "--=_alt_" SEED "\n", "--=_alt_" SEED "\r\n" },
	};
	char *longest = g_strnfill(4000, 'x');

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows) + 1; i++) {
		struct mime_mail mail = simple;
		char *bytes, *got;

		mail.text = i < G_N_ELEMENTS(rows) ? rows[i].in : longest;
		bytes = compose(&mail);
		got = decoded_body(bytes);
		if (i < G_N_ELEMENTS(rows))
			assert_string_equal(got, rows[i].out);
		else
			assert_true(strlen(got) == 4002 && strncmp(got, longest, 4000) == 0);
		g_free(got);
		g_free(bytes);
	}
	g_free(longest);
}

/* Long texts too, wherever one piece of them ends and the next begins. */
static void long_bodies(void **state)
{
	static const char *const words[] = { "word =3D ", "Слово ", "." };

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
		struct mime_mail mail = simple;
		GString *in = g_string_new(NULL), *out = g_string_new(NULL);
		char *bytes, *got;

		for (size_t line = 0; line < 400; line++) {
			for (size_t n = 0; n < line % 37; n++) {
				g_string_append(in, words[i]);
				g_string_append(out, words[i]);
			}
			g_string_append(in, line % 3 == 0 ? "\n" : "\r\n");
			g_string_append(out, "\r\n");
		}
		mail.text = in->str;
		bytes = compose(&mail);
		got = decoded_body(bytes);
		assert_string_equal(got, out->str);
		g_free(got);
		g_free(bytes);
		g_string_free(in, TRUE);
		g_string_free(out, TRUE);
	}
}

/* A mail is the same whichever came before it, though parts of it are used again. */
static void one_after_another(void **state)
{
	static const char *const texts[] = { "Hello\n", "Здравствуйте\n" };
	char *first[4];

	(void)state;
	for (size_t i = 0; i < 12; i++) {
		struct mime_mail mail = simple;
		char *bytes;

		mail.text = texts[i * 5 % 4 % 2];
		mail.html = texts[i * 5 % 4 / 2];
		bytes = compose(&mail);
		if (i < 4) {
			first[i * 5 % 4] = bytes;
			continue;
		}
		mail.html = NULL;
		g_free(compose(&mail));
		assert_string_equal(bytes, first[i * 5 % 4]);
		g_free(bytes);
	}
	for (size_t i = 0; i < 4; i++) {
		assert_non_null(strstr(first[i], i % 2 != 0 ? "0JfQtNGA" : "Hello"));
		g_free(first[i]);
	}
}

/* A boundary cannot stand in a body, even when a text holds it. */
static void boundary(void **state)
{
	struct mime_mail mail = simple;
	const char *at;
	char *bytes;
	int found = 0;

	(void)state;
	mail.seed = SEED;
	mail.text = "--=_alt_0123456789abcdef0123456789abcdef01234567\n--=_alt_"
		    "0123456789abcdef0123456789abcdef01234567--\n";
	mail.html = mail.text;
	bytes = compose(&mail);
	for (at = bytes; (at = strstr(at, "\r\n--=_alt_")) != NULL; at++)
		found++;
	assert_int_equal(found, 3);
	g_free(bytes);
}

/* Characters that would end a header's line are refused even here. */
static void refused(void **state)
{
	struct mime_mail mail = simple;
	const char *error = NULL;
	size_t len;

	(void)state;
	mail.message_id = "id@example.test>\r\nBcc: <evil@example.test";
	assert_null(mime_compose(&mail, &len, &error));
	assert_non_null(error);
	mail = simple;
	mail.extra[0].name = "Content-Language";
	mail.extra[0].value = "ru\r\nBcc: x";
	mail.nextra = 1;
	assert_null(mime_compose(&mail, &len, &error));
}

/* Lists of parts that read alike when joined have different digests. */
static void digests(void **state)
{
	char *a = mime_digest((const char *const[]){ "ab", "c" }, 2),
	     *b = mime_digest((const char *const[]){ "a", "bc" }, 2);
	char *c = mime_digest((const char *const[]){ "ab", "c" }, 2),
	     *d = mime_digest((const char *const[]){ NULL, "1:c" }, 2);

	(void)state;
	assert_int_equal(strlen(a), 64);
	assert_string_equal(a, c);
	assert_string_not_equal(a, b);
	assert_string_not_equal(a, d);
	g_free(a), g_free(b), g_free(c), g_free(d);
}

static int setup(void **state)
{
	(void)state;
	mime_start();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	mime_stop();
	return 0;
}

/* Long ASCII is folded, not encoded; mostly ASCII is Q; what is not ASCII is base64. */
static void folding(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "Your appointment with Dr. Smith on 5 May 2026 at 14:30 is confirmed (room 3)",
			"Your appointment with Dr. Smith on 5 May 2026 at 14:30 is confirmed\n (room 3)" },
		{ "Your report, caf\xc3\xa9", "=?UTF-8?Q?Your_report=2C_caf=C3=A9?=" },
		{ "\xd0\x9e\xd1\x82\xd1\x87\xd1\x91\xd1\x82", "=?UTF-8?B?0J7RgtGH0ZHRgg==?=" },
		{ "=?UTF-8?Q?x?=", "=?UTF-8?Q?=3D=3FUTF-8=3FQ=3Fx=3F=3D?=" },
		{ "two  blanks", "two  blanks" },
		/* ASCII is never base64, whatever it consists of */
		{ "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
			"=?UTF-8?Q?=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28?=\n"
			" =?UTF-8?Q?=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28?=\n"
			" =?UTF-8?Q?=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28=28?=\n"
			" =?UTF-8?Q?=28=28=28=28=28=28=28=28=28=28=28=28=28?=" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *got = header_text(rows[i].text, strlen("Subject"));

		assert_string_equal(got, rows[i].want);
		g_free(got);
	}
	/* many blanks make no long line */
	char *blanks = g_strdup_printf("a%990sb", ""), *got = header_text(blanks, strlen("Subject"));

	for (const char *line = got; *line != '\0';
		line += line[strcspn(line, "\n")] ? strcspn(line, "\n") + 1 : strlen(line))
		assert_true(strcspn(line, "\n") <= 76);
	g_free(blanks), g_free(got);

	char *from = header_mailbox(
		"Balansity Health Check-ups Customer Support", "clinic@example.test", strlen("From"));

	assert_string_equal(from, "Balansity Health Check-ups Customer Support <clinic@example.test>");
	g_free(from);
}

/* Lines of quoted-printable have 76 characters at most, also where a line ends with a blank. */
static void quoted_lines(void **state)
{
	struct mime_mail mail = simple;
	GString *text = g_string_new(NULL);
	char *bytes, *line;

	(void)state;
	for (int n = 60; n < 160; n++) {
		for (int i = 0; i < n; i++)
			g_string_append_c(text, 'x');
		g_string_append(text, n % 3 == 0 ? " \n" : n % 3 == 1 ? "\t\n" : "\xc3\xa9 \n");
	}
	mail.text = text->str;
	bytes = compose(&mail);
	for (line = strstr(bytes, "\r\n\r\n") + 4; *line != '\0'; line = strstr(line, "\r\n") + 2) {
		size_t n = (size_t)(strstr(line, "\r\n") - line);

		assert_true(n <= 76);
		assert_true(n == 0 || (line[n - 1] != ' ' && line[n - 1] != '\t'));
	}
	g_free(bytes);
	g_string_free(text, TRUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden),
		cmocka_unit_test(folding),
		cmocka_unit_test(quoted_lines),
		cmocka_unit_test(tree),
		cmocka_unit_test(subjects),
		cmocka_unit_test(mailboxes),
		cmocka_unit_test(bodies),
		cmocka_unit_test(long_bodies),
		cmocka_unit_test(one_after_another),
		cmocka_unit_test(boundary),
		cmocka_unit_test(refused),
		cmocka_unit_test(digests),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
