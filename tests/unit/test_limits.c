/* test_limits.c: the limits of a queue out of its section, and what is wrong with them. */
#include "config.h"

#include "settings/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

/* The limits of a section that has to be good. */
static struct limits limits_of(struct queue_settings q)
{
	struct limits l;

	assert_null(limits_read(&q, &l));
	return l;
}

static void test_none(void **state)
{
	struct limits l = limits_of((struct queue_settings){ .prefetch = 5, .ordered = ORDERED_GROUP });

	(void)state;
	assert_false(limits_any(&l));
}

static void test_rates(void **state)
{
	struct limits l = limits_of((struct queue_settings){ .rate = "600/min" });

	(void)state;
	/* a tenth of a second is taken off the burst */
	assert_true(limits_any(&l) && l.rate == 10 && l.burst == 9 && !l.rate_by_key && !l.rate_here && !l.key);
	l = limits_of((struct queue_settings){
		.rate = "36/h", .rate_burst = 5, .rate_key = "header:to", .rate_scope = RATE_PROCESS });
	assert_true(l.rate == 0.01 && l.burst > 4.9 && l.burst <= 5 && l.rate_by_key && l.rate_here);
	assert_string_equal(l.key, "header:to");
	l = limits_of((struct queue_settings){ .rate = "1/d", .rate_burst = 30 });
	assert_true(l.burst > 29.9 && l.burst <= 30);
	l = limits_of((struct queue_settings){ .rate = "1000000/s" });
	assert_true(l.rate == 1000000);
	l = limits_of((struct queue_settings){ .rate = "1/d" });
	assert_true(l.rate > 0 && l.burst == 1);
	l = limits_of((struct queue_settings){ .rate = "100/s", .rate_burst = 3 });
	assert_true(l.burst == 1.5);
	l = limits_of((struct queue_settings){ .rate = "100/s", .rate_burst = 1 });
	assert_true(l.burst == 1);
	l = limits_of((struct queue_settings){ .rate = "0.25/s" });
	assert_true(l.rate == 0.25 && l.burst == 1);
	l = limits_of((struct queue_settings){ .rate = "1.5 / min" });
	assert_true(l.rate == 0.025);
}

static void test_places(void **state)
{
	struct limits l = limits_of((struct queue_settings){
		.max_in_flight_cluster = 7, .concurrency = 2, .concurrency_key = "body:/a/b" });

	(void)state;
	assert_true(l.at_once == 7 && l.of_a_key == 2 && l.rate == 0);
	assert_string_equal(l.key, "body:/a/b");
	l = limits_of((struct queue_settings){
		.max_in_flight_cluster = 100000, .concurrency = 100000, .concurrency_key = "header:x" });
	assert_true(l.at_once == 100000 && l.of_a_key == 100000);
	l = limits_of((struct queue_settings){ .fair_by = "header:to" });
	assert_true(limits_any(&l) && l.fair && !l.of_a_key && !l.at_once && !l.leaves_one);
	l = limits_of((struct queue_settings){ .fair_by = "header:to", .max_in_flight = 4, .batch = 1 });
	assert_true(l.leaves_one);
	l = limits_of((struct queue_settings){ .fair_by = "header:to", .max_in_flight = 3, .batch = 1 });
	assert_false(l.leaves_one);
	l = limits_of((struct queue_settings){ .fair_by = "header:to", .max_in_flight = 10, .batch = 10 });
	assert_false(l.leaves_one);
	l = limits_of((struct queue_settings){ .max_in_flight = 10, .rate = "1/s", .rate_key = "header:to" });
	assert_false(l.leaves_one);
	assert_string_equal(l.key, "header:to");
}

static void test_errors(void **state)
{
	static const struct {
		struct queue_settings q;
		const char *error;
	} bad[] = {
		{ { .rate = "10" }, "rate: \"10\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "0.03/d" }, "rate: \"0.03/d\" is less than one in 30 days" },
		{ { .rate = "0.0/s" }, "rate: \"0.0/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = ".5/s" }, "rate: \".5/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "1e3/s" }, "rate: \"1e3/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "-1/s" }, "rate: \"-1/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "10/sec" }, "rate: \"10/sec\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "0/s" }, "rate: \"0/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "10/m" }, "rate: \"10/m\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "1000001/s" }, "rate: \"1000001/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate = "1/s", .rate_key = "header:" }, "rate_key: \"header:\" is not header:NAME or body:/PATH" },
		{ { .max_in_flight_cluster = 100001 }, "max_in_flight_cluster and concurrency are 100000 at most" },
		{ { .max_in_flight_cluster = 1, .prefetch = 1 },
			"prefetch has to be 0 in a queue with limits: what is claimed ahead would count" },
		{ { .rate = "99999999/s" }, "rate: \"99999999/s\" is not like 10/s (or /min, /h, /d)" },
		{ { .rate_key = "header:x" }, "rate_burst, rate_key and rate_scope are of no use without a rate" },
		{ { .rate_scope = RATE_PROCESS }, "rate_burst, rate_key and rate_scope are of no use without a rate" },
		{ { .rate = "1/d", .rate_burst = 31 }, "rate_burst = 31 is more than the rate gives in 30 days" },
		{ { .rate = "1/s", .rate_key = "customer" },
			"rate_key: \"customer\" is not header:NAME or body:/PATH" },
		{ { .rate = "1/s", .rate_key = "body:/" }, "rate_key: \"body:/\" is not header:NAME or body:/PATH" },
		{ { .concurrency = 2 }, "concurrency and concurrency_key belong together" },
		{ { .concurrency_key = "header:x" }, "concurrency and concurrency_key belong together" },
		{ { .concurrency = 200000, .concurrency_key = "header:x" },
			"max_in_flight_cluster and concurrency are 100000 at most" },
		{ { .rate = "1/s", .rate_key = "header:x", .concurrency = 1, .concurrency_key = "header:y" },
			"concurrency_key: a queue has one key, and \"header:y\" is another one than \"header:x\"" },
		{ { .rate = "1/s", .rate_key = "header:x", .fair_by = "header:y" },
			"fair_by: a queue has one key, and \"header:y\" is another one than \"header:x\"" },
		{ { .rate = "1/s", .prefetch = 1 },
			"prefetch has to be 0 in a queue with limits: what is claimed ahead would count" },
		{ { .ordered = ORDERED_GROUP, .concurrency = 1, .concurrency_key = "header:x" },
			"ordered = group has its own key, the header group: take out either it or the other key" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct limits l;
		char *error = limits_read(&bad[i].q, &l);

		assert_non_null(error);
		assert_string_equal(error, bad[i].error);
		free(error);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
