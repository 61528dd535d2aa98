/* test_cron.c: cron expressions: reading, names, errors, and next times compared with a walk over all minutes, in many
 * zones. */
#include "config.h"

#include "base/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* "2026-03-29 01:59" as UTC. */
static int64_t utc(const char *text)
{
	struct tm tm = { .tm_isdst = 0 };

	assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
	return timegm(&tm);
}

/* The next time as text. */
static const char *next(const char *expression, const char *zone, const char *after)
{
	static char buf[40];
	struct cron c;
	char *error = cron_parse(&c, expression);
	int64_t due;
	time_t t;
	struct tm tm;

	if (error) {
		print_message("%s\n", error);
		free(error);
		fail();
	}
	due = cron_next(&c, zone, utc(after));
	if (due == -1)
		return "never";
	t = (time_t)due;
	gmtime_r(&t, &tm);
	strftime(buf, sizeof(buf), "%Y-%m-%d %H:%M", &tm);
	return buf;
}

static void test_plain(void **state)
{
	(void)state;
	assert_string_equal(next("*/5 * * * *", "UTC", "2026-11-21 10:00"), "2026-11-21 10:05");
	assert_string_equal(next("0 * * * *", "UTC", "2026-11-21 10:00"), "2026-11-21 11:00");
	assert_string_equal(next("0 3 * * *", "UTC", "2026-11-21 03:00"), "2026-11-22 03:00");
	assert_string_equal(next("0 3 * * *", "Europe/Moscow", "2026-11-21 03:00"), "2026-11-22 00:00");
	assert_string_equal(next("15,45 9-17/4 * * mon-FRI", "UTC", "2026-11-21 00:00"), "2026-11-23 09:15");
	assert_string_equal(next("0 0 1 jan *", "UTC", "2026-11-21 00:00"), "2027-01-01 00:00");
	assert_string_equal(next("0 0 29 2 *", "UTC", "2026-11-21 00:00"), "2028-02-29 00:00");
	assert_string_equal(next("* * 29 2 *", "UTC", "2026-11-21 00:00"), "2028-02-29 00:00");
	assert_string_equal(next("0 0 13 * 5", "UTC", "2026-11-21 00:00"), "2026-11-27 00:00"); /* either day */
	assert_string_equal(next("0 0 * * 7", "UTC", "2026-11-21 00:00"), "2026-11-22 00:00");
	assert_string_equal(next("0 0 * * 5-7", "UTC", "2026-11-21 00:00"), "2026-11-22 00:00");
	assert_string_equal(next("10/20 0 * * *", "UTC", "2026-11-21 00:00"), "2026-11-21 00:10");
	assert_string_equal(next("@weekly", "UTC", "2026-11-21 00:00"), "2026-11-22 00:00");
	assert_string_equal(next(" 0\t0  1 1 * ", "UTC", "2026-11-21 00:00"), "2027-01-01 00:00");
}

static void test_dst(void **state)
{
	(void)state;
	/* Berlin, 2026-03-29: 02:00 CET becomes 03:00 CEST at 01:00 UTC */
	assert_string_equal(next("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00"), "2026-03-29 01:00");
	assert_string_equal(next("30 2 * * *", "Europe/Berlin", "2026-03-29 01:00"), "2026-03-30 00:30");
	assert_string_equal(next("0,30 2 * * *", "Europe/Berlin", "2026-03-29 01:00"), "2026-03-30 00:00"); /* once */
	assert_string_equal(next("0 3 * * *", "Europe/Berlin", "2026-03-28 12:00"), "2026-03-29 01:00");
	assert_string_equal(next("0 * * * *", "Europe/Berlin", "2026-03-29 00:00"), "2026-03-29 01:00");
	assert_string_equal(next("*/30 2 * * *", "Europe/Berlin", "2026-03-28 12:00"),
		"2026-03-30 00:00"); /* an interval: nothing is made up for */
	/* 2026-10-25: 03:00 CEST becomes 02:00 CET at 01:00 UTC */
	assert_string_equal(next("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00"), "2026-10-25 00:30");
	assert_string_equal(next("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30"), "2026-10-26 01:30");
	assert_string_equal(next("30 * * * *", "Europe/Berlin", "2026-10-25 00:30"), "2026-10-25 01:30");
	assert_string_equal(next("*/30 2 * * *", "Europe/Berlin", "2026-10-25 00:30"), "2026-10-25 01:00");
	/* half an hour (Lord Howe), midnight itself (Beirut, 2026-03-29), a whole day (Apia, 2011-12-30) */
	assert_string_equal(next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00"), "2026-10-03 15:30");
	assert_string_equal(next("0 0 * * *", "Asia/Beirut", "2026-03-28 12:00"), "2026-03-28 22:00");
	assert_string_equal(next("0 12 30 12 *", "Pacific/Apia", "2011-12-01 00:00"), "2011-12-30 10:00");
}

static void test_errors(void **state)
{
	static const char *const bad[] = { "0,75 * * * *", "* * 1,-31/2 * *", "5,7-3 * * * *", "", "* * * *",
		"* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8",
		"5-1 * * * *", "*/0 * * * *", "*/ * * * *", "1,, * * * *", "1, * * * *", ", * * * *", "- * * * *",
		"1- * * * *", "x * * * *", "* * * janx *", "1.5 * * * *", "+1 * * * *", "@reboot", "@", "0 0 30 2 *",
		"0 0 31 4,6 *", "99999999999 * * * *", "*/99 * * * *", "1 2 3 4 5x" };
	struct cron c;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char *error = cron_parse(&c, bad[i]);

		if (!error)
			print_message("taken: \"%s\"\n", bad[i]);
		assert_non_null(error);
		free(error);
	}
	assert_true(cron_zone_exists("Europe/Moscow"));
	assert_true(cron_zone_exists("UTC"));
	assert_false(cron_zone_exists("Europe/Nowhere"));
	assert_false(cron_zone_exists("../../etc/passwd"));
	assert_false(cron_zone_exists("/etc/passwd"));
	assert_false(cron_zone_exists(""));
}

/* ---- against a walk over all minutes ---- */

struct sets {
	bool minute[60], hour[24], dom[32], month[13], dow[7], any[5];
};

/* A random field: its values and its text. */
static void make_field(bool *set, int min, int max, bool *any, char *text)
{
	int kind = rand() % 4, n = 0;

	*any = false;
	for (int v = min; v <= max; v++)
		set[v] = false;
	if (kind == 0) { /* all, or each n-th */
		int step = rand() % 2 ? 1 : 1 + rand() % 20;

		if (step > max)
			step = max;
		*any = true;
		for (int v = min; v <= max; v += step)
			set[v] = true;
		sprintf(text, step == 1 ? "*" : "*/%d", step);
		return;
	}
	if (kind == 1) { /* a range */
		int from = min + rand() % (max - min + 1), to = from + rand() % (max - from + 1), step = 1 + rand() % 3;

		if (step > max)
			step = max;
		for (int v = from; v <= to; v += step)
			set[v] = true;
		sprintf(text, "%d-%d/%d", from, to, step);
		return;
	}
	for (int i = 0; i < 1 + rand() % 3; i++) { /* a list */
		int v = min + rand() % (max - min + 1);

		set[v] = true;
		n += sprintf(text + n, "%s%d", i ? "," : "", v);
	}
}

/* Whether a minute on the wall (as if UTC) is asked for. */
static bool asked_for(const struct sets *s, int64_t wall)
{
	time_t t = (time_t)wall;
	struct tm tm;
	bool dom, dow;

	gmtime_r(&t, &tm);
	dom = s->dom[tm.tm_mday];
	dow = s->dow[tm.tm_wday];
	return s->minute[tm.tm_min] && s->hour[tm.tm_hour] && s->month[tm.tm_mon + 1] &&
	       (s->any[2] || s->any[4] ? dom && dow : dom || dow);
}

/* Walks from `from` to `to`, and compares each time that comes with cron_next() of the one before. */
static unsigned compare(
	const struct sets *s, const struct cron *c, const char *text, const char *zone, int64_t from, int64_t to)
{
	bool interval = s->any[0] || s->any[1];
	int64_t seen = INT64_MIN, due, last = from;
	unsigned times = 0;

	due = cron_next(c, zone, from);
	for (int64_t at = from - 3 * 86400; at <= to; at += 60) {
		time_t t = (time_t)at;
		struct tm tm;
		int64_t wall;
		bool is = false;

		localtime_r(&t, &tm);
		wall = at + tm.tm_gmtoff;
		if (interval) {
			is = asked_for(s, wall);
		} else {
			if (seen == INT64_MIN)
				seen = wall - 60;
			for (int64_t w = seen + 60; w <= wall;
				w += 60) /* a gap brings several at once; what was seen before brings none */
				is = is || asked_for(s, w);
			if (wall > seen)
				seen = wall;
		}
		if (!is || at <= from)
			continue;
		if (due != at) {
			print_message("\"%s\" in %s after %lld: %lld, the walk says %lld\n", text, zone,
				(long long)last, (long long)due, (long long)at);
			fail();
		}
		last = at;
		times++;
		setenv("TZ", "UTC", 1); /* cron_next() must set back what it finds */
		due = cron_next(c, zone, at);
		assert_string_equal(getenv("TZ"), "UTC");
		setenv("TZ", zone, 1);
		tzset();
	}
	assert_true(due == -1 || due > to);
	return times;
}

static void test_against_a_walk(void **state)
{
	static const char *const zones[] = { "UTC", "Europe/Berlin", "Europe/Moscow", "America/New_York",
		"America/St_Johns", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Chatham", "Africa/Casablanca",
		"America/Santiago", "Asia/Kathmandu", "Pacific/Apia", "Antarctica/Troll", "Asia/Gaza",
		"America/Asuncion", "Europe/Dublin", "Asia/Tehran", "America/Caracas" };
	const char *rounds_text = getenv("PGMQD_CRON_ROUNDS");
	unsigned rounds = rounds_text ? (unsigned)atoi(rounds_text) : 150, times = 0;

	(void)state;
	srand(20261121);
	for (unsigned i = 0; i < rounds; i++) {
		const char *zone = zones[(size_t)rand() % (sizeof(zones) / sizeof(*zones))];
		struct sets s = { 0 };
		struct cron c;
		char f[5][32], text[200], *error;
		int64_t from, shift;

		make_field(s.minute, 0, 59, &s.any[0], f[0]);
		make_field(s.hour, 0, 23, &s.any[1], f[1]);
		make_field(s.dom, 1, 31, &s.any[2], f[2]);
		make_field(s.month, 1, 12, &s.any[3], f[3]);
		make_field(s.dow, 0, 6, &s.any[4], f[4]);
		snprintf(text, sizeof(text), "%s %s %s %s %s", f[0], f[1], f[2], f[3], f[4]);
		if ((error = cron_parse(&c, text)) != NULL) { /* the thirtieth of February */
			assert_non_null(strstr(error, "never comes"));
			free(error);
			continue;
		}
		/* around the times of the year at which clocks are set, from 1980 to 2036 */
		shift = rand() % 4 ? (rand() % 2 ? 75 : 285) + rand() % 30 : rand() % 365;
		from = (int64_t)(10 + rand() % 56) * 31556952 + shift * 86400;
		from -= from % 60;
		setenv("TZ", zone, 1);
		tzset();
		times += compare(&s, &c, text, zone, from, from + (int64_t)(5 + rand() % 25) * 86400);
	}
	assert_true(times > rounds * 10);
	print_message("%u times agree\n", times);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_dst),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_against_a_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
