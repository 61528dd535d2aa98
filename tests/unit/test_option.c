/* test_option.c: every option type, good and bad values, printing, comparing and guessing. */
#include "config.h"

#include "settings/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct handle {
	const char *name, *password, *url, *mode;
	int tls;
	uint64_t count, size;
	int64_t wait;
};

#define ROW(n, t, d, c)                                                                                                \
	{                                                                                                              \
		.name = #n, .type = (t), .offset = offsetof(struct handle, n), .def = (d), .doc = "A test.",           \
		.choices = (c)                                                                                         \
	}
static const struct pgmqd_option table[] = {
	ROW(name, PGMQD_STRING, NULL, NULL),
	ROW(password, PGMQD_SECRET, NULL, NULL),
	ROW(url, PGMQD_URL, NULL, NULL),
	ROW(mode, PGMQD_ENUM, "require", "off|require|verify_full"),
	ROW(tls, PGMQD_BOOL, "yes", NULL),
	ROW(count, PGMQD_UINT, "7", NULL),
	ROW(size, PGMQD_BYTES, "64kB", NULL),
	ROW(wait, PGMQD_DURATION, "250ms", NULL),
	{ 0 },
};

/* Sets an option that has to be accepted. */
static void good(struct handle *h, const char *name, const char *text)
{
	char *error = option_set(option_find(table, name), h, text);

	if (error)
		fail_msg("%s = %s: %s", name, text, error);
}

/* Sets an option that has to be refused with a sentence that has `part` in it, and leaves the handle as it is. */
static void bad(struct handle *h, const char *name, const char *text, const char *part)
{
	struct handle before = *h;
	char *error = option_set(option_find(table, name), h, text);

	if (!error)
		fail_msg("%s = %s was accepted", name, text);
	if (!strstr(error, part) || strncmp(error, name, strlen(name)) != 0)
		fail_msg("%s = %s: \"%s\" does not say \"%s\"", name, text, error, part);
	free(error);
	assert_memory_equal(&before, h, sizeof(before));
}

/* What an option prints as. */
static void prints(const struct handle *h, const char *name, const char *expected)
{
	char *text = option_print(option_find(table, name), h);

	assert_string_equal(text, expected);
	free(text);
}

static void test_defaults(void **state)
{
	struct handle h = { 0 };

	(void)state;
	option_defaults(table, &h);
	assert_null(h.name);
	assert_null(h.password);
	assert_string_equal(h.mode, "require");
	assert_int_equal(h.tls, 1);
	assert_int_equal(h.count, 7);
	assert_int_equal(h.size, 65536);
	assert_int_equal(h.wait, 250);
	option_free(table, &h);
	assert_null(h.mode);
}

static void test_strings(void **state)
{
	struct handle h = { 0 };

	(void)state;
	good(&h, "name", "first");
	good(&h, "name", "second"); /* the first must not leak */
	assert_string_equal(h.name, "second");
	good(&h, "name", "");
	assert_string_equal(h.name, "");
	good(&h, "password", "hunter2");
	prints(&h, "password", "(set)");
	prints(&h, "url", "");
	option_free(table, &h);
}

static void test_bool(void **state)
{
	static const char *const yes[] = { "yes", "true", "on", "1", "YES", "True" }, *const no[] = { "no", "false",
		"off", "0", "Off" };
	struct handle h = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		h.tls = 0;
		good(&h, "tls", yes[i]);
		assert_int_equal(h.tls, 1);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		h.tls = 1;
		good(&h, "tls", no[i]);
		assert_int_equal(h.tls, 0);
	}
	bad(&h, "tls", "maybe", "\"maybe\" is not a yes or no");
	bad(&h, "tls", "", "empty");
	bad(&h, "tls", "2", "yes or no");
}

static void test_uint(void **state)
{
	struct handle h = { 0 };

	(void)state;
	good(&h, "count", "18446744073709551615");
	assert_true(h.count == UINT64_MAX);
	prints(&h, "count", "18446744073709551615");
	bad(&h, "count", "18446744073709551616", "whole number");
	bad(&h, "count", "99999999999999999999999999", "whole number");
	bad(&h, "count", "-1", "\"-1\" is not a whole number");
	bad(&h, "count", "+1", "whole number");
	bad(&h, "count", "1.5", "\"1.5\" is not a whole number");
	bad(&h, "count", "0x10", "whole number");
	bad(&h, "count", " 1", "whole number");
	bad(&h, "count", "ten", "whole number");
}

static void test_duration(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
		const char *printed;
	} cases[] = {
		{ "250ms", 250, "250ms" },
		{ "30s", 30000, "30s" },
		{ "30", 30000, "30s" },
		{ "5min", 300000, "5min" },
		{ "3h", 10800000, "3h" },
		{ "7d", 604800000, "7d" },
		{ "0", 0, "0" },
		{ "0ms", 0, "0" },
		{ "1 h", 3600000, "1h" },
		{ "90s", 90000, "90s" },
		{ "120s", 120000, "2min" },
		{ "36500d", INT64_C(3153600000000), "36500d" },
	};
	struct handle h = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		good(&h, "wait", cases[i].text);
		assert_true(h.wait == cases[i].ms);
		prints(&h, "wait", cases[i].printed);
	}
	bad(&h, "wait", "30x", "\"30x\" is not a duration (write 250ms, 30s, 5min, 3h or 7d)");
	bad(&h, "wait", "5m", "duration"); /* minutes or months? */
	bad(&h, "wait", "s", "duration");
	bad(&h, "wait", "-1s", "duration");
	bad(&h, "wait", "1s2", "duration");
	bad(&h, "wait", "36501d", "duration");
	bad(&h, "wait", "18446744073709551615d", "duration");
	bad(&h, "wait", "18446744073709551617ms", "duration");
	bad(&h, "wait", "", "empty");
}

static void test_bytes(void **state)
{
	struct handle h = { 0 };

	(void)state;
	good(&h, "size", "512");
	assert_int_equal(h.size, 512);
	prints(&h, "size", "512");
	good(&h, "size", "5mb");
	assert_int_equal(h.size, 5 << 20);
	prints(&h, "size", "5MB");
	good(&h, "size", "1 GB");
	assert_int_equal(h.size, 1 << 30);
	good(&h, "size", "0");
	prints(&h, "size", "0");
	bad(&h, "size", "5k", "size");
	bad(&h, "size", "18446744073709551615kB", "size");
	bad(&h, "size", "17179869184GB", "size"); /* 2^64 to the byte */
}

static void test_url(void **state)
{
	static const char *const fine[] = { "http://a", "https://api.example.test",
		"HTTPS://api.example.test:8443/v1?x=1#y", "http://[::1]:80/", "http://[::1]",
		"https://u:p@example.test/", "http://127.0.0.1:65535?x", "https://example.test./x" };
	static const char *const wrong[] = { "ftp://example.test", "example.test", "http://", "http:///x",
		"https://:80/", "http://a:/", "http://a:b/", "http://a:65536/", "http://a b/", "http://[::1",
		"http://[]/", "http://a\nb", "javascript:alert(1)", "http://u@/", "http://[::1]x/",
		"https://a..example.test/", "https://.example.test/", "https://a../x" };
	struct handle h = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		good(&h, "url", fine[i]);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		bad(&h, "url", wrong[i], "URL");
	option_free(table, &h);
}

static void test_enum(void **state)
{
	struct handle h = { 0 };

	(void)state;
	good(&h, "mode", "VERIFY_FULL");
	assert_string_equal(h.mode, "verify_full"); /* in the table's own spelling, so that strcmp() will do */
	bad(&h, "mode", "verify", "\"verify\" is none of the choices (write off, require or verify_full)");
	bad(&h, "mode", "off|require", "none of the choices");
	bad(&h, "mode", "", "(write off, require or verify_full)");
	option_free(table, &h);
}

static void test_secrets_are_not_told(void **state)
{
	struct handle h = { 0 };
	char *error = option_set(option_find(table, "url"), &h, "ftp://ivan:hunter2@example.test/");

	(void)state;
	assert_non_null(error);
	assert_null(strstr(error, "hunter2"));
	free(error);
}

static void test_unknown_type(void **state)
{
	struct pgmqd_option row = { .name = "odd", .type = 99 };
	struct handle h = { 0 };
	char *error = option_set(&row, &h, "x");

	(void)state;
	assert_non_null(strstr(error, "odd"));
	free(error);
	assert_string_equal(option_type_name(&row), "unknown");
	assert_string_equal(option_type_name(option_find(table, "wait")), "duration");
}

static void test_equal(void **state)
{
	struct handle a = { 0 }, b = { 0 };

	(void)state;
	option_defaults(table, &a);
	option_defaults(table, &b);
	for (const struct pgmqd_option *row = table; row->name; row++)
		assert_true(option_equal(row, &a, &b));
	good(&a, "name", "x");
	assert_false(option_equal(option_find(table, "name"), &a, &b)); /* one of the two has none */
	good(&b, "name", "x");
	assert_true(option_equal(option_find(table, "name"), &a, &b));
	good(&b, "name", "y");
	assert_false(option_equal(option_find(table, "name"), &a, &b));
	good(&a, "wait", "1s");
	assert_false(option_equal(option_find(table, "wait"), &a, &b));
	good(&a, "tls", "no");
	assert_false(option_equal(option_find(table, "tls"), &a, &b));
	option_free(table, &a);
	option_free(table, &b);
}

/* The guess for a name, or "". */
static const char *guess(const char *name)
{
	struct option_guess g = { 0 };

	option_guess(&g, table, name);
	return g.name ? g.name : "";
}

static void test_guess(void **state)
{
	struct option_guess g = { 0 };
	char longest[500];

	(void)state;
	assert_string_equal(guess("pasword"), "password");
	assert_string_equal(guess("Password"), "password");
	assert_string_equal(guess("passwrod"), "password"); /* swapped */
	assert_string_equal(guess("coutn"), "count");
	assert_string_equal(guess("wiat"), "wait");
	assert_string_equal(guess("nothing_like_it"), "");
	assert_string_equal(guess("xyz"), "");
	assert_string_equal(guess(""), "");
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_string_equal(guess(longest), "");
	option_guess_word(&g, "render", "rendr");
	option_guess_word(&g, "run", "rendr");
	assert_string_equal(g.name, "render");
	assert_int_equal(g.distance, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_bool),
		cmocka_unit_test(test_uint),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_enum),
		cmocka_unit_test(test_secrets_are_not_told),
		cmocka_unit_test(test_unknown_type),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_guess),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
