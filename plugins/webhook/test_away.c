/* test_away.c: the wait for a receiver that does not answer: growing, with one try at a time. */
#include "config.h"

#include "away.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The interval grows from 5 s to 5 min, and one message tries at its end. */
static void grows(void **state)
{
	struct away a = { 0 };
	int64_t now = 1000, expected = 5000;
	bool begins;

	(void)state;
	assert_int_equal(away_wait(&a, now), 0);
	assert_int_equal(away_failed(&a, now, 0, &begins), 5000);
	assert_true(begins);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(away_wait(&a, now + expected - 1), 1);
		now += expected;
		assert_int_equal(away_wait(&a, now), 0);
		assert_true(away_wait(&a, now) > 0); /* the second one waits for the first */
		expected = expected * 2 > 300000 ? 300000 : expected * 2;
		assert_int_equal(away_failed(&a, now, 0, &begins), expected);
		assert_false(begins);
	}
	assert_true(away_over(&a));
	assert_false(away_over(&a));
	assert_int_equal(away_wait(&a, now), 0);
	assert_int_equal(away_failed(&a, now, 0, &begins), 5000); /* the next outage begins anew */
	assert_int_equal(a.since_ms, now);
}

/* Those that went out together are one try. */
static void together(void **state)
{
	struct away a = { 0 };
	bool begins;

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_int_equal(away_failed(&a, 1000 + i, 0, &begins), 5000 - i);
	assert_int_equal(a.since_ms, 1000);
}

/* What the receiver asks for counts, and a message that is taken back lets another one try. */
static void asked(void **state)
{
	struct away a = { 0 };
	bool begins;

	(void)state;
	assert_int_equal(away_failed(&a, 0, 120000, &begins), 120000);
	assert_int_equal(away_failed(&a, 0, 180000, &begins), 180000);
	assert_int_equal(away_wait(&a, 180000), 0);
	away_forget(&a);
	assert_int_equal(away_wait(&a, 180000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(grows), cmocka_unit_test(together),
		cmocka_unit_test(asked) };

	return cmocka_run_group_tests_name("away", tests, NULL, NULL);
}
