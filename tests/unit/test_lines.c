/* test_lines.c: texts of several lines, identifiers in SQL, and the statements that a connection refuses. */
#include "config.h"

#include "base/lines.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "pg/statement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void test_next_skips_empty_lines(void **state)
{
	char text[] = "\none\n\n\ntwo\n", *rest = text, *none = NULL;

	(void)state;
	assert_string_equal(lines_next(&rest), "one");
	assert_string_equal(lines_next(&rest), "two");
	assert_null(lines_next(&rest));
	assert_null(lines_next(&rest));
	assert_null(lines_next(&none));
}

static void test_add_keeps_each_line_once(void **state)
{
	char *text = NULL;

	(void)state;
	assert_false(lines_has(NULL, "a"));
	lines_add(&text, "ab");
	lines_add(&text, "a");
	lines_add(&text, "ab");
	lines_add(&text, "b");
	assert_string_equal(text, "ab\na\nb");
	assert_true(lines_has(text, "a"));
	assert_false(lines_has(text, "abc"));
	free(text);
}

static void test_identifier(void **state)
{
	char *plain = sqltext_identifier("pgmqd"), *odd = sqltext_identifier("a\"; drop \"b");

	(void)state;
	assert_string_equal(plain, "\"pgmqd\"");
	assert_string_equal(odd, "\"a\"\"; drop \"\"b\"");
	free(plain);
	free(odd);
}

static void test_transaction_control_is_recognised(void **state)
{
	static const char *const control[] = { "BEGIN", "begin;", " \n; /* a /* b */ c */ -- d\nStart transaction",
		"COMMIT", "end", "rollback to x", "ABORT", "savepoint a", "RELEASE a", "prepare /**/ transaction 'x'" };
	static const char *const plain[] = { "", "--", "/*", "select 1", "beginning", "end_of_day()",
		"prepare x as select 1", "update t set a = 'commit'", "WITH a AS (SELECT 1) SELECT" };

	(void)state;
	for (size_t i = 0; i < sizeof(control) / sizeof(*control); i++)
		assert_true(statement_is_transaction_control(control[i]));
	for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++)
		assert_false(statement_is_transaction_control(plain[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_next_skips_empty_lines),
		cmocka_unit_test(test_add_keeps_each_line_once),
		cmocka_unit_test(test_identifier),
		cmocka_unit_test(test_transaction_control_is_recognised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
