/* test_replay.c: what `pgmqd replay` reads out of recorded mails, what it masks, and what it calls a difference. */
#include "config.h"

#include "cmd/replay/base64.h"
#include "cmd/replay/compare.h"
#include "cmd/replay/mail.h"
#include "cmd/replay/mask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A member of an object as text. */
static const char *text(const cJSON *o, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

/* Folded and encoded headers, parts within parts, both encodings; what differs in each run keeps its name alone. */
static void test_mail(void **state)
{
	static const char data[] =
		"Subject: =?UTF-8?B?0J7RgtGH?=\r\n =?utf-8?q?=D1=91=D1=82_1?=\r\nDate: Mon, 30 Nov 2026\r\n"
		"Content-Type: multipart/mixed; boundary=\"a b\"\r\n\r\npreamble\r\n--a b\r\n"
		"Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n"
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
		"one =3D t=\r\nwo\r\n--inner\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n--inner--\r\n--a b\r\n"
		"Content-Type: application/pdf; name=r.pdf\r\nContent-Disposition: attachment\r\n"
		"Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--a b--\r\n";
	cJSON *mail = mail_read(data, strlen(data)), *part = cJSON_GetObjectItemCaseSensitive(mail, "parts")->child;
	char *headers = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(mail, "headers"));

	(void)state;
	assert_string_equal(text(mail, "subject"), "Отчёт 1");
	assert_string_equal(text(mail, "text"), "one = two");
	assert_string_equal(text(mail, "html"), "<p>x</p>");
	assert_string_equal(text(part, "name"), "r.pdf");
	assert_int_equal(cJSON_GetObjectItemCaseSensitive(part, "size")->valueint, 4);
	assert_string_equal(headers, "[\"Date:\",\"Content-Type: multipart/mixed; boundary=\"]");
	free(headers);
	cJSON_Delete(mail);
}

/* Every beginning of a mail is read without harm. */
static void test_mail_cut(void **state)
{
	static const char data[] = "Subject: =?UTF-8?B?0J7?=\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
				   "Content-Transfer-Encoding: quoted-printable\n\na=4=\n--b--\n";

	(void)state;
	for (size_t n = 0; n <= strlen(data); n++) {
		char *copy = malloc(n + 1);

		memcpy(copy, data, n);
		cJSON_Delete(mail_read(copy, n));
		free(copy);
	}
}

static void test_base64(void **state)
{
	(void)state;
	for (size_t n = 0; n < 9; n++) {
		size_t back;
		char *coded = base64_encode("\0\xff"
					    "abcdefg",
			     n),
		     *data = base64_decode(coded, strlen(coded), &back);

		assert_int_equal(back, n);
		assert_memory_equal(data,
			"\0\xff"
			"abcdefg",
			n);
		free(coded);
		free(data);
	}
}

/* Texts of the message become their names, also as HTML has them; addresses and long numbers go wherever they come
 * from. */
static void test_mask(void **state)
{
	static const struct {
		const char *from, *personal;
	} rows[] = {
		{ "Dear Anna Petrova,", "Dear ‹name›," },
		{ "<b>A &amp; B</b>", "<b>‹clinic›</b>" },
		{ "write to help@example.test or +7 (900) 123-45-67", "write to ‹mail› or ‹number›" },
		{ "report_ready 2026 #123456", "report_ready 2026 #123456" },
		{ "", "" },
	};
	struct mask *m = mask_new(
		"{\"template\": \"report_ready\", \"v\": {\"name\": \"Anna Petrova\", \"clinic\": \"A & B\"}}");
	char *s;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		s = mask_personal(m, rows[i].from);
		assert_string_equal(s, rows[i].personal);
		free(s);
	}
	s = mask_random(
		m, "id 6f1c2e34-1234-4abc-8def-0123456789ab at 2026-11-30T10:00:00Z, 0123456789abcdef0, 2026-11-30");
	assert_string_equal(s, "id ‹uuid› at ‹time›, ‹token›, 2026-11-30");
	free(s);
	mask_free(m);
}

/* Collects differences as text. */
static void found(void *arg, const struct compare_change *c)
{
	char *all = arg;

	sprintf(all + strlen(all), "%s: %s > %s\n", c->kind, c->from, c->to);
}

/* The differences between two records. */
static void check(const char *new, const char *old, const char *expected)
{
	struct mask *m = mask_new("{\"name\": \"Anna\"}");
	cJSON *a = cJSON_Parse(new), *b = cJSON_Parse(old);
	char all[1000] = "";

	assert_non_null(a);
	assert_non_null(b);
	compare_records(m, false, a, b, found, all);
	assert_string_equal(all, expected);
	cJSON_Delete(a);
	cJSON_Delete(b);
	mask_free(m);
}

#define DONE "{\"outcome\": {\"outcome\": \"done\"}, \"effects\": ["

#define HTTP(body) DONE "{\"kind\": \"http\", \"url\": \"http://a\", \"body\": \"" body "\"}]}"

static void test_compare(void **state)
{
	(void)state;
	check(DONE "]}", DONE "]}", "");
	check("{\"outcome\": {\"outcome\": \"fail\", \"reason\": \"no Anna\"}, \"effects\": []}", DONE "]}",
		"outcome: done > fail: no ‹name›\n");
	check(DONE "{\"kind\": \"mail\", \"data\": \"Subject: for Anna now\\n\\nx\"}]}",
		DONE "{\"kind\": \"mail\", \"data\": \"Subject: of Anna now\\n\\nx\"}]}", "mail subject: of > for\n");
	check(HTTP("{\\\"n\\\": {\\\"b\\\": 2}}"), HTTP("{\\\"n\\\": {\\\"b\\\": 1, \\\"c\\\": 3}}"),
		"request n b: 1 > 2\nrequest n c: 3 > \n");
	check(DONE "{\"kind\": \"statement\", \"sql\": \"s\", \"answer\": \"ok\"}]}", DONE "]}", "statements: 0 > 1\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mail),
		cmocka_unit_test(test_mail_cut),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_mask),
		cmocka_unit_test(test_compare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
