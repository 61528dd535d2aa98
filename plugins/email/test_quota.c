/* test_quota.c: how fast mails may go out, on a clock of the test's own. */
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
	struct limits l = limits("smtp 10/s, ses 60/min, mailgun 36000/h");
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
	assert_int_equal(drain(&l, "mailgun", NULL, false), 10);
	assert_int_equal(drain(&l, "resend", NULL, false), 100000);
	limits_clear(&l);
}

/* Mails that wait for a moment take their tokens ahead, one after the other: none that comes later is before them. */
static void ahead(void **state)
{
	struct limits l = limits("smtp 10/s");
	bool capped;

	(void)state;
	l.here_ms = 1000;
	for (int i = 0; i < 10; i++)
		assert_int_equal(limits_take(&l, "smtp", NULL, NULL, false, now, day, MIDNIGHT, &capped), 0);
	for (int i = 1; i <= 9; i++)
		assert_in_range(
			-limits_take(&l, "smtp", NULL, NULL, false, now, day, MIDNIGHT, &capped), i * 100, i * 100 + 2);
	assert_in_range(limits_take(&l, "smtp", NULL, NULL, true, now, day, MIDNIGHT, &capped), 1000, 2000);
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

/* A server that takes `most` within a second. */
struct server {
	unsigned most, refused, accepted;
	gint64 taken[64];
};

/* Whether it takes a mail now. */
static bool takes(struct server *s)
{
	unsigned within = 0;

	for (unsigned i = 0; i < s->most; i++)
		within += s->taken[i] > now - SECOND;
	if (within >= s->most) {
		s->refused++;
		return false;
	}
	s->taken[s->accepted++ % s->most] = now;
	return true;
}

/* Gives it mails for so many seconds, as fast as the limits allow. */
static void run(struct limits *l, struct server *s, unsigned seconds)
{
	for (gint64 end = now + seconds * SECOND; now < end; now += SECOND / 200) {
		bool capped, news;

		if (limits_take(l, "ses", NULL, NULL, false, now, day, MIDNIGHT, &capped) > 0)
			continue;
		if (takes(s))
			limits_sent(l, "ses", now);
		else
			limits_slower(l, "ses", now, &news);
	}
}

/* Without a limit of our own, the server's is found out, kept to, and looked for again; few mails are refused. */
static void found(void **state)
{
	static const unsigned rates[] = { 1, 2, 5, 14, 50 };

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rates); i++) {
		struct limits l = limits("");
		struct server s = { .most = rates[i] };

		run(&l, &s, 300);
		if (s.refused * 20 > s.accepted + s.refused || s.accepted < rates[i] * 300 * 7 / 10)
			fail_msg("%u/s: %u refused, %u accepted", rates[i], s.refused, s.accepted);
		limits_clear(&l);
	}
}

/* A limit of the settings is lowered, and comes back. */
static void slower(void **state)
{
	struct limits l = limits("smtp 100/s");
	bool news;

	(void)state;
	assert_int_equal((int)limits_slower(&l, "smtp", now, &news), 50);
	assert_true(news);
	assert_int_equal((int)limits_slower(&l, "smtp", now + SECOND / 10, &news), 50);
	assert_false(news);
	now += 2 * SECOND;
	assert_in_range((int)limits_slower(&l, "smtp", now, &news), 25, 28);
	assert_int_equal(drain(&l, "smtp", NULL, false), 0);
	assert_in_range(limits_wait(&l, "smtp", false, now), 1000, 1100);
	now += 2 * SECOND;
	assert_in_range(drain(&l, "smtp", NULL, false), 2, 6);
	now += 660 * SECOND;
	drain(&l, "smtp", NULL, false);
	now += SECOND;
	assert_int_equal(drain(&l, "smtp", NULL, false), 100);
	limits_clear(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recipient),
		cmocka_unit_test(refused),
		cmocka_unit_test(rate),
		cmocka_unit_test(ahead),
		cmocka_unit_test(domains),
		cmocka_unit_test(bulk),
		cmocka_unit_test(cap),
		cmocka_unit_test(slower),
		cmocka_unit_test(found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
