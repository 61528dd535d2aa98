/* test_backoff.c: the bounds, the growth and the spread of delays, and that no input overflows. */
#include "config.h"

#include "base/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* The greatest and the least delay of an attempt: random numbers that hit both ends. */
static void bounds(unsigned attempt, int64_t min, int64_t max, int64_t least, int64_t greatest)
{
	assert_int_equal(backoff_delay(attempt, min, max, 0), least);
	assert_int_equal(backoff_delay(attempt, min, max, (uint64_t)(greatest - least)), greatest);
	/* One more wraps round to the least again. */
	assert_int_equal(backoff_delay(attempt, min, max, (uint64_t)(greatest - least) + 1), least);
}

static void test_doubles_up_to_the_maximum(void **state)
{
	(void)state;
	bounds(1, 100, 30000, 50, 100);
	bounds(2, 100, 30000, 50, 200);
	bounds(3, 100, 30000, 50, 400);
	bounds(9, 100, 30000, 50, 25600);
	bounds(10, 100, 30000, 50, 30000);
	bounds(11, 100, 30000, 50, 30000);
	bounds(UINT32_MAX, 100, 30000, 50, 30000);
}

static void test_odd_arguments(void **state)
{
	(void)state;
	bounds(0, 100, 30000, 50, 100);
	bounds(5, 1000, 10, 500, 1000); /* a maximum below the minimum */
	bounds(1, 0, 0, 1, 1);
	bounds(1, -5, -7, 1, 1);
	bounds(3, 1, 100, 1, 4);
}

/* Four times as long each time, less a quarter at most; five attempts with the default settings outlast half an hour.
 */
static void test_retries(void **state)
{
	static const int64_t greatest[] = { 30000, 120000, 480000, 1920000, 3600000, 3600000 };
	int64_t least = 0;

	(void)state;
	for (unsigned i = 0; i < sizeof greatest / sizeof greatest[0]; i++) {
		assert_int_equal(backoff_retry(i + 1, 30000, 3600000, 0), greatest[i]);
		assert_int_equal(backoff_retry(i + 1, 30000, 3600000, (uint64_t)greatest[i] / 4), greatest[i] * 3 / 4);
		assert_int_equal(backoff_retry(i + 1, 30000, 3600000, (uint64_t)greatest[i] / 4 + 1), greatest[i]);
		least += i < 4 ? greatest[i] * 3 / 4 : 0;
	}
	assert_true(least > 30 * 60 * 1000);
	assert_int_equal(backoff_retry(UINT32_MAX, INT64_MAX, INT64_MAX, UINT64_MAX) > 0, 1);
	assert_int_equal(backoff_retry(0, -1, -1, UINT64_MAX), 1);
}

static void test_never_overflows(void **state)
{
	static const int64_t extremes[] = { INT64_MIN, -1, 0, 1, 2, 1000, INT64_MAX / 2, INT64_MAX - 1, INT64_MAX };
	static const uint64_t randoms[] = { 0, 1, UINT64_MAX / 2, UINT64_MAX };
	static const unsigned attempts[] = { 0, 1, 2, 62, 63, 64, 65, UINT32_MAX };
	size_t a, i, j, r;

	(void)state;
	for (a = 0; a < sizeof attempts / sizeof attempts[0]; a++)
		for (i = 0; i < sizeof extremes / sizeof extremes[0]; i++)
			for (j = 0; j < sizeof extremes / sizeof extremes[0]; j++)
				for (r = 0; r < sizeof randoms / sizeof randoms[0]; r++)
					assert_true(
						backoff_delay(attempts[a], extremes[i], extremes[j], randoms[r]) > 0);
}

static void test_random_differs_and_spreads(void **state)
{
	uint64_t ones = 0, zeros = 0, value;
	int i, low = 0;

	(void)state;
	for (i = 0; i < 200; i++) {
		value = backoff_random();
		ones |= value;
		zeros |= ~value;
		if (backoff_delay(10, 100, 30000, value) < 15000)
			low++;
	}
	assert_true(ones == UINT64_MAX);
	assert_true(zeros == UINT64_MAX);
	/* 100 are expected, and the bounds are ten standard deviations off. */
	assert_in_range(low, 30, 170);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_doubles_up_to_the_maximum),
		cmocka_unit_test(test_odd_arguments),
		cmocka_unit_test(test_retries),
		cmocka_unit_test(test_never_overflows),
		cmocka_unit_test(test_random_differs_and_spreads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
