/* test_sqlstate.c: what an error of the database means. */
#include "config.h"

#include "pg/sqlstate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Each kind of error has its class. */
static void test_classes(void **state)
{
	static const struct {
		const char *sqlstate;
		enum sqlstate_class ours, plugins;
	} cases[] = {
		{ "", SQLSTATE_CONNECTION, SQLSTATE_CONNECTION },
		{ "08006", SQLSTATE_CONNECTION, SQLSTATE_CONNECTION },
		{ "57P01", SQLSTATE_CONNECTION, SQLSTATE_CONNECTION },
		{ "25006", SQLSTATE_READ_ONLY, SQLSTATE_READ_ONLY },
		{ "42P01", SQLSTATE_STALE, SQLSTATE_PLUGIN },
		{ "26000", SQLSTATE_STALE, SQLSTATE_STALE },
		{ "55P03", SQLSTATE_LOCK, SQLSTATE_LOCK },
		{ "57014", SQLSTATE_LOCK, SQLSTATE_LOCK },
		{ "40001", SQLSTATE_LOCK, SQLSTATE_LOCK },
		{ "40P01", SQLSTATE_LOCK, SQLSTATE_LOCK },
		{ "40003", SQLSTATE_CONNECTION, SQLSTATE_CONNECTION },
		{ "42501", SQLSTATE_RIGHTS, SQLSTATE_PLUGIN },
		{ "53100", SQLSTATE_RESOURCES, SQLSTATE_RESOURCES },
		{ "53200", SQLSTATE_RESOURCES, SQLSTATE_RESOURCES },
		{ "58030", SQLSTATE_RESOURCES, SQLSTATE_RESOURCES },
		{ "22003", SQLSTATE_ROW_DATA, SQLSTATE_PLUGIN },
		{ "22021", SQLSTATE_ROW_DATA, SQLSTATE_PLUGIN },
		{ "23505", SQLSTATE_ROW_DATA, SQLSTATE_PLUGIN },
		{ "54000", SQLSTATE_ROW_DATA, SQLSTATE_PLUGIN },
		{ "P0001", SQLSTATE_ROW_DATA, SQLSTATE_PLUGIN },
		{ "XX000", SQLSTATE_OURS, SQLSTATE_PLUGIN },
		{ "42601", SQLSTATE_OURS, SQLSTATE_PLUGIN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(sqlstate_class(cases[i].sqlstate), cases[i].ours);
		assert_int_equal(sqlstate_class_plugin(cases[i].sqlstate), cases[i].plugins);
	}
}

/* A class either passes or blames a row, and has a name. */
static void test_policies(void **state)
{
	(void)state;
	for (int c = 0; c < SQLSTATE_NCLASSES; c++) {
		assert_true(sqlstate_passes((enum sqlstate_class)c) != sqlstate_blames_row((enum sqlstate_class)c));
		assert_non_null(sqlstate_class_name((enum sqlstate_class)c));
	}
}

/* An error that passes and comes again and again is looked into; less often where that finds nothing. */
static void test_insists(void **state)
{
	struct sqlstate_row row = SQLSTATE_ROW_NONE;
	int looks = 0;

	(void)state;
	assert_false(sqlstate_insists(&row, "42501"));
	assert_false(sqlstate_insists(&row, "42501"));
	assert_false(sqlstate_insists(&row, "")); /* a lost connection says nothing about rows */
	assert_true(sqlstate_insists(&row, "42501"));
	assert_false(sqlstate_insists(&row, "42501"));
	for (int i = 4; i < 300; i++)
		looks += sqlstate_insists(&row, "42501");
	assert_in_range(looks, 10, 13);
	assert_false(sqlstate_insists(&row, "53100")); /* another error begins anew */
	assert_false(sqlstate_insists(&row, "53100"));
	assert_true(sqlstate_insists(&row, "53100"));
}

/* What is not there and pgmqd migrate makes. */
static void test_unmigrated(void **state)
{
	(void)state;
	assert_true(sqlstate_is_unmigrated("42P01"));
	assert_true(sqlstate_is_unmigrated("3F000"));
	assert_false(sqlstate_is_unmigrated("42501"));
	assert_false(sqlstate_is_unmigrated("26000"));
	assert_false(sqlstate_is_unmigrated("99999"));
	assert_false(sqlstate_is_unmigrated(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_classes), cmocka_unit_test(test_policies),
		cmocka_unit_test(test_insists), cmocka_unit_test(test_unmigrated) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
