/* test_email_quota.c: how fast mails may go out, on a clock of the test's own. */
#include "config.h"

#include "quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND G_USEC_PER_SEC
#define MIDNIGHT 5000

static gint64 now; /* of the tests' clock, µs */
static int64_t day;

/* Reads limits that must be good. */
static struct limits limits(const char *text)
{
	struct limits l = { 0 };

	now = 1000 * SECOND;
	day = 20000;
	assert_null(limits_parse(&l, text));
	return l;
}

/* Takes as many as there are now; returns how many. */
static unsigned drain(struct limits *l, const char *provider, const char *domain, bool bulk)
{
	bool capped;
	unsigned n = 0;

	while (n < 100000 && limits_take(l, provider, domain, NULL, bulk, now, day, MIDNIGHT, &capped) == 0)
		n++;
	return n;
}

static void refused(void **state)
{
	static const char *const bad[] = { "smtp", "smtp 5", "smtp 5/y", "smtp 0/s", "smtp -1/s", "pigeon 5/s",
		"Gmail.com 5/s", "* 5/d", "5/s", "recipient 5/s", "smtp 5/s 6/s" };

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		struct limits l = { 0 };
		char *reason = limits_parse(&l, bad[i]);

		if (reason == NULL)
			fail_msg("%s is taken", bad[i]);
		g_free(reason);
		limits_clear(&l);
	}
}

/* One recipient's day is over; others go on, and so does the next day. What was refused costs nobody anything. */
static void recipient(void **state)
{
	struct limits l = limits("recipient 3/d, smtp 8/d");
	const char *const to[] = { "a@e.test", "a@e.test", "a@e.test", "a@e.test", "b@e.test", "a@e.test" };
	bool capped;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(limits_take(&l, "smtp", "e.test", to[i], false, now, day, MIDNIGHT, &capped),
			i == 3 || i == 5 ? MIDNIGHT : 0);
		assert_false(capped);
	}
	assert_int_equal(limits_take(&l, "smtp", "e.test", "c@e.test", true, now, day, MIDNIGHT, &capped), 0);
	assert_int_equal(drain(&l, "smtp", NULL, false), 3);
	day++;
	assert_int_equal(limits_take(&l, "smtp", "e.test", "a@e.test", false, now, day, MIDNIGHT, &capped), 0);
	assert_int_equal(g_hash_table_size(l.buckets), 2); /* yesterday's recipients are forgotten */
	limits_clear(&l);
}

/* A burst, then the rate; another provider has its own. */
static void rate(void **state)
{
	struct limits l = limits("smtp 10/s, ses 60/min");
	bool capped;

	(void)state;
	assert_int_equal(drain(&l, "smtp", NULL, false), 10);
	assert_in_range(limits_take(&l, "smtp", NULL, NULL, false, now, day, MIDNIGHT, &capped), 190,
		210); /* the one that ended drain() is before it */
	assert_in_range(limits_take(&l, "smtp", NULL, NULL, false, now, day, MIDNIGHT, &capped), 290, 310);
	now += SECOND / 2;
	assert_int_equal(drain(&l, "smtp", NULL, false), 5);
	assert_int_equal(drain(&l, "ses", NULL, false), 2);
	now += 2 * SECOND;
	assert_int_equal(drain(&l, "ses", NULL, false), 2);
	assert_int_equal(drain(&l, "resend", NULL, false), 100000);
	limits_clear(&l);
}

/* A domain's limit takes nothing from the provider when it is what stops the mail. */
static void domains(void **state)
{
	struct limits l = limits("smtp 10/s, gmail.com 3/s, * 2/s");

	(void)state;
	assert_int_equal(drain(&l, "smtp", "gmail.com", false), 3);
	assert_int_equal(drain(&l, "smtp", "mail.example.test", false), 2);
	assert_int_equal(drain(&l, "smtp", "other.example.test", false), 2);
	assert_int_equal(drain(&l, "smtp", NULL, false), 3);
	limits_clear(&l);
}

/* Bulk leaves half of the burst, and a tenth of the day. */
static void bulk(void **state)
{
	struct limits l = limits("smtp 10/s, smtp 20/d, ses 2/s");

	(void)state;
	assert_int_equal(drain(&l, "smtp", NULL, true), 5);
	assert_int_equal(drain(&l, "smtp", NULL, false), 5);
	now += SECOND;
	assert_int_equal(drain(&l, "smtp", NULL, true), 5);
	now += SECOND;
	assert_int_equal(drain(&l, "smtp", NULL, true), 3); /* 18 of 20 */
	assert_int_equal(drain(&l, "smtp", NULL, false), 2);
	assert_int_equal(drain(&l, "ses", NULL, true), 1);
	assert_int_equal(drain(&l, "ses", NULL, false), 1);
	limits_clear(&l);
}

/* The day's cap, and the next day. */
static void cap(void **state)
{
	struct limits l = limits("smtp 3/d");
	bool capped;

	(void)state;
	assert_int_equal(drain(&l, "smtp", NULL, false), 3);
	assert_int_equal(limits_take(&l, "smtp", NULL, NULL, false, now, day, MIDNIGHT, &capped), MIDNIGHT);
	assert_true(capped);
	day++;
	assert_int_equal(drain(&l, "smtp", NULL, false), 3);
	limits_clear(&l);
}

/* Too fast: half of it, once for all answers of a moment; then a tenth of the whole back every minute. */
static void throttled(void **state)
{
	struct limits l = limits("smtp 100/s");

	(void)state;
	assert_int_equal((int)limits_halve(&l, "smtp", now), 50);
	assert_int_equal((int)limits_halve(&l, "smtp", now + SECOND / 10), 50);
	now += 2 * SECOND;
	assert_int_equal((int)limits_halve(&l, "smtp", now), 25);
	assert_int_equal(drain(&l, "smtp", NULL, false), 0);
	now += SECOND;
	assert_in_range(drain(&l, "smtp", NULL, false), 25, 26);
	for (int i = 0; i < 8 * 60; i++) {
		now += SECOND;
		drain(&l, "smtp", NULL, false);
	}
	now += SECOND;
	assert_int_equal(drain(&l, "smtp", NULL, false), 100);
	limits_clear(&l);
}

/* Without a limit, the rate at which it was too fast is halved, and forgotten when it has come back. */
static void found(void **state)
{
	struct limits l = limits("");
	bool capped;

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(limits_take(&l, "ses", NULL, NULL, false, now, day, MIDNIGHT, &capped), 0);
		now += SECOND / 50;
	}
	assert_in_range(limits_halve(&l, "ses", now), 20, 30);
	assert_int_equal(drain(&l, "ses", NULL, false), 0);
	now += 10 * 60 * SECOND;
	assert_int_equal(drain(&l, "ses", NULL, false), 100000);
	limits_clear(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recipient),
		cmocka_unit_test(refused),
		cmocka_unit_test(rate),
		cmocka_unit_test(domains),
		cmocka_unit_test(bulk),
		cmocka_unit_test(cap),
		cmocka_unit_test(throttled),
		cmocka_unit_test(found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
