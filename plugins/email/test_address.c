/* test_address.c: which addresses, host names and header texts the email plugin lets through. */
#include "config.h"

#include "address.h"

#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Addresses and what becomes of them. */
static void good_addresses(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "ivan@example.test", "ivan@example.test" },
		{ "Ivan.Petrov+clinic@mail.example.test", "Ivan.Petrov+clinic@mail.example.test" },
		{ "o'brien@example.test", "o'brien@example.test" },
		{ "a@b", "a@b" },
		{ "user@пример.рф", "user@xn--e1afmkfd.xn--p1ai" },
		{ "user@ПРИМЕР.рф", "user@xn--e1afmkfd.xn--p1ai" },
		{ "user@straße.example.test", "user@xn--strae-oqa.example.test" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *out;

		assert_null(address_parse(rows[i].in, &out));
		assert_string_equal(out, rows[i].out);
		g_free(out);
	}
}

/* Addresses that are refused, and a word of the reason. */
static void bad_addresses(void **state)
{
	static const struct {
		const char *in, *reason;
	} rows[] = {
		{ "", "empty" },
		{ "a@e.test>\r\nRCPT TO:<evil@e.test", "control character" },
		{ "a@e.test\r\n", "control character" },
		{ "a@e.test\n", "control character" },
		{ "a\tb@e.test", "control character" },
		{ "a\x7f@e.test", "control character" },
		{ "a@e.test>", "bare address" },
		{ "Ivan <a@e.test>", "space" },
		{ "<a@e.test>", "bare address" },
		{ " a@e.test", "space" },
		{ "a@e.test ", "space" },
		{ "\"a b\"@e.test", "space" },
		{ "\"ab\"@e.test", "not allowed" },
		{ "a,b@e.test", "not allowed" },
		{ "a(b)@e.test", "not allowed" },
		{ "ivan", "no @" },
		{ "a@b@e.test", "more than one @" },
		{ "@e.test", "before the @" },
		{ "a@", "after the @" },
		{ ".a@e.test", "dot" },
		{ "a.@e.test", "dot" },
		{ "a..b@e.test", "dot" },
		{ "почта@пример.рф", "outside ASCII" },
		{ "a@[127.0.0.1]", "IP address" },
		{ "a@-e.test", "not a domain name" },
		{ "a@e-.test", "not a domain name" },
		{ "a@e..test", "not a domain name" },
		{ "a@.test", "not a domain name" },
		{ "a@e.test.", "not a domain name" },
		{ "a@e_x.test", "not a domain name" },
		{ "a@e,test", "not a domain name" },
		{ "a@e\xc2\x85.test", "not a domain name" },
		{ "a@\xff\xfe.test", "UTF-8" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *out = (char *)1;
		const char *reason = address_parse(rows[i].in, &out);

		assert_non_null(reason);
		assert_non_null(strstr(reason, rows[i].reason));
		assert_null(out);
	}
}

/* The lengths that RFC 5321 allows, and one more. */
static void lengths(void **state)
{
	char *local64 = g_strnfill(64, 'l'), *local65 = g_strnfill(65, 'l');
	char *label = g_strnfill(63, 'd'), *label64 = g_strnfill(64, 'd');
	char *fits = g_strdup_printf("%s@%s.%s.%.61s", local64, label, label, label);
	char *over = g_strdup_printf("%s@%s.%s.%.62s", local64, label, label, label);
	char *local_over = g_strdup_printf("%s@e.test", local65), *label_over = g_strdup_printf("a@%s.test", label64);
	char *out;

	(void)state;
	assert_int_equal(strlen(fits), 254);
	assert_null(address_parse(fits, &out));
	g_free(out);
	assert_non_null(strstr(address_parse(over, &out), "254"));
	assert_non_null(strstr(address_parse(local_over, &out), "64"));
	assert_non_null(strstr(address_parse(label_over, &out), "domain"));
	g_free(local64), g_free(local65), g_free(label), g_free(label64);
	g_free(fits), g_free(over), g_free(local_over), g_free(label_over);
}

/* Mailboxes with and without a name. */
static void mailboxes(void **state)
{
	static const struct {
		const char *in, *name, *address;
	} rows[] = {
		{ "a@e.test", NULL, "a@e.test" },
		{ " a@e.test ", NULL, "a@e.test" },
		{ "Clinic <a@e.test>  ", "Clinic", "a@e.test" },
		{ "\"Clinic, The\" <a@e.test>", "Clinic, The", "a@e.test" },
		{ "<a@e.test>", NULL, "a@e.test" },
		{ "a@e.test b", NULL, NULL },
		{ "a@e.test, b@e.test", NULL, NULL },
		{ "Clinic < a@e.test>", NULL, NULL },
		{ " ", NULL, NULL },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *name, *address;
		const char *wrong = address_mailbox(rows[i].in, &name, &address);

		if ((wrong != NULL) != (rows[i].address == NULL) || g_strcmp0(name, rows[i].name) != 0 ||
			g_strcmp0(address, rows[i].address) != 0)
			fail_msg("\"%s\": %s", rows[i].in, wrong != NULL ? wrong : address);
		g_free(name), g_free(address);
	}
}

/* Texts of headers. */
static void header_texts(void **state)
{
	static const char *const good[] = { "", "Ваш отчёт готов 🦦", "\xc2\xa0",
		"100 % \"quoted\" <x@y>" };
	static const char *const bad[] = { "Привет\r\nBcc: evil@x.test", "a\nb", "a\rb", "a\tb", "a\x1b[0m", "a\x7f",
		"\xc2\x85", "\xe2\x80\xa8", "\xd0", "\xed\xa0\xbd", "\xc0\x80" };
	char *longest = g_strnfill(HEADER_TEXT_MAX, 'x'), *longer = g_strnfill(HEADER_TEXT_MAX + 1, 'x');

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
		assert_null(address_header_check(good[i]));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		assert_non_null(address_header_check(bad[i]));
	assert_null(address_header_check(longest));
	assert_non_null(address_header_check(longer));
	g_free(longest), g_free(longer);
}

/* Names of servers, as people write them. */
static void servers(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "mail.example.test", "mail.example.test" },
		{ "mail.example.test.", "mail.example.test." },
		{ "my_relay", "my_relay" },
		{ "smtp_1.example.test", "smtp_1.example.test" },
		{ "почта.пример.рф", "xn--80a1acny.xn--e1afmkfd.xn--p1ai" },
		{ "192.0.2.1", "192.0.2.1" },
		{ "::1", "::1" },
		{ "mail..example.test", NULL },
		{ ".", NULL },
		{ "a b", NULL },
		{ "a/b", NULL },
		{ "user@host", NULL },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		char *out = address_server(rows[i].in);

		if (g_strcmp0(out, rows[i].out) != 0)
			fail_msg("%s: %s", rows[i].in, out != NULL ? out : "refused");
		g_free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_addresses),
		cmocka_unit_test(bad_addresses),
		cmocka_unit_test(lengths),
		cmocka_unit_test(mailboxes),
		cmocka_unit_test(header_texts),
		cmocka_unit_test(servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
