/* test_away.c: how long a receiver that does not answer is left alone. */
#include "config.h"

#include "away.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The interval grows from 1 s to the longest, and begins anew with the next outage. */
static void grows(void **state)
{
	struct away a = { .longest_ms = 300000 };
	int64_t now = 1000, expected = 1000;

	(void)state;
	for (int i = 0; i < 12; i++) {
		assert_int_equal(away_failed(&a, now, now + 10, 77 + i, 0), expected);
		assert_int_equal(a.since_us, 77);
		now += 10 + expected;
		expected = expected * 2 > 300000 ? 300000 : expected * 2;
	}
	assert_true(away_over(&a));
	assert_false(away_over(&a));
	assert_int_equal(away_failed(&a, now, now, 99, 0), 1000);
	assert_int_equal(a.since_us, 99);
}

/* Those that were under way together are one try. */
static void together(void **state)
{
	struct away a = { .longest_ms = 300000 };

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(away_failed(&a, 999, 1000 + i, 1, 0), 1000 - i);
	assert_int_equal(away_failed(&a, 2000, 2000, 1, 0), 2000);
}

/* The longest delay that the receiver asks for counts. */
static void asked(void **state)
{
	struct away a = { .longest_ms = 300000 };

	(void)state;
	assert_int_equal(away_failed(&a, 0, 1, 1, 120000), 120000);
	assert_int_equal(away_failed(&a, 0, 2, 1, 180000), 180000);
	assert_int_equal(away_failed(&a, 0, 3, 1, 60000), 179999);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(grows), cmocka_unit_test(together),
		cmocka_unit_test(asked) };

	return cmocka_run_group_tests_name("away", tests, NULL, NULL);
}
