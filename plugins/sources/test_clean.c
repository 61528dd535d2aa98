/* test_clean.c: escapes that jsonb does not take. */
#include "config.h"

#include "clean.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Only what cannot be stored changes. */
static void escapes(void **state)
{
	static const char *const cases[][2] = { { "{\"a\": \"b\\u0000c\"}", "{\"a\": \"b\\ufffdc\"}" },
		{ "\"\\\\u0000\"", "\"\\\\u0000\"" }, { "\"\\\\\\u0000\"", "\"\\\\\\ufffd\"" },
		{ "\"\\ud83d\\ude00\"", "\"\\ud83d\\ude00\"" }, { "\"\\ud83d\"", "\"\\ufffd\"" },
		{ "\"\\ude00\"", "\"\\ufffd\"" }, { "\"\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ud83d\\ude00\"" },
		{ "\"\\ud83d\\u0041\"", "\"\\ufffd\\u0041\"" }, { "\"\\n\\u00e9\"", "\"\\n\\u00e9\"" },
		{ "[1, 2]", "[1, 2]" } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[100];

		strcpy(text, cases[i][0]);
		clean_escapes(text);
		assert_string_equal(text, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(escapes) };

	return cmocka_run_group_tests_name("clean", tests, NULL, NULL);
}
