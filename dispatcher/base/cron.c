/* cron.c: cron expressions, and when the next time of one is in a time zone of the system.
 *
 * The zone is libc's: TZ is set around each calculation and set back. That is fine in a process without threads, and
 * the rules are those of the system's files as they are now.
 */
#include "config.h"

#include "base/cron.h"

#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define HORIZON_S ((int64_t)3660 * 86400)
#define DAY_S 86400
#define OFFSET_REACH_S                                                                                                 \
	(26 * 3600) /* no zone is further from UTC, so that the offsets before and after a local time are found */

/* ---- reading ---- */

struct field {
	const char *name;
	int min, max;
	const char *const *names; /* of min, min + 1, ... */
};

static const char *const month_names[] = { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
	"dec", NULL };
static const char *const day_names[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL };
static const struct field fields[5] = {
	{ "minute", 0, 59, NULL },
	{ "hour", 0, 23, NULL },
	{ "day of the month", 1, 31, NULL },
	{ "month", 1, 12, month_names },
	{ "day of the week", 0, 7, day_names },
};
static const struct {
	const char *name, *text;
} nicknames[] = { { "@yearly", "0 0 1 1 *" }, { "@annually", "0 0 1 1 *" }, { "@monthly", "0 0 1 * *" },
	{ "@weekly", "0 0 * * 0" }, { "@daily", "0 0 * * *" }, { "@midnight", "0 0 * * *" },
	{ "@hourly", "0 * * * *" } };

/* Reads a number or a name; -1 when there is none. */
static int read_value(const struct field *f, const char **p)
{
	const char *s = *p;
	int value = 0, n = 0;

	for (int i = 0; f->names && f->names[i]; i++)
		if (strncasecmp(s, f->names[i], 3) == 0) {
			*p += 3;
			return f->min + i;
		}
	for (; *s >= '0' && *s <= '9' && n < 4; s++, n++)
		value = value * 10 + (*s - '0');
	*p = s;
	return n ? value : -1;
}

/* Reads one item of a list: *, a, a-b, each with /n. False: it is none. */
static bool read_item(const struct field *f, const char **p, uint64_t *bits)
{
	int from = f->min, to = f->max, step = 1;
	bool single = false;

	if (**p == '*') {
		++*p;
		if (f->max == 7)
			to = 6;
	} else {
		from = to = read_value(f, p);
		single = true;
		if (**p == '-') {
			++*p;
			to = read_value(f, p);
			single = false;
		}
	}
	if (**p == '/') {
		++*p;
		if (**p < '0' || **p > '9')
			return false;
		step = read_value(f, p);
		if (single)
			to = f->max == 7 ? 6 : f->max;
	}
	if (from < f->min || to > f->max || from > to || step < 1 || step > f->max)
		return false;
	for (int v = from; v <= to; v += step)
		/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): f->min is 0 or 1 */
		*bits |= (uint64_t)1 << v;
	return true;
}

/* Whether one of the days asked for exists in one of the months asked for. */
static bool has_a_day(const struct cron *c)
{
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	for (int month = 1; month <= 12; month++)
		for (int day = 1; day <= days[month - 1]; day++)
			if ((c->month >> month & 1) && (c->dom >> day & 1))
				return true;
	return !c->dow_any && !c->dom_any; /* then a day of the week will do */
}

char *cron_parse(struct cron *c, const char *text)
{
	uint64_t bits[5] = { 0 };
	bool any[5];
	const char *p = text;

	for (size_t i = 0; i < sizeof(nicknames) / sizeof(*nicknames); i++)
		if (strcasecmp(text, nicknames[i].name) == 0)
			p = nicknames[i].text;
	if (*p == '@')
		return xasprintf("\"%s\" is not known; there are @yearly, @monthly, @weekly, @daily and @hourly", text);
	for (int i = 0; i < 5; i++) {
		const char *start;
		bool good;

		p += strspn(p, " \t");
		start = p;
		if (!*p)
			return xasprintf("\"%s\" has %d of the 5 fields minute, hour, day of the month, month and day "
					 "of the week",
				text, i);
		any[i] = *p == '*';
		while ((good = read_item(&fields[i], &p, &bits[i])) && *p == ',')
			p++;
		if (!good || (*p && *p != ' ' && *p != '\t'))
			return xasprintf("\"%s\": the %s \"%.*s\" is none (%d to %d, a-b, */n, lists of those%s)", text,
				fields[i].name, (int)strcspn(start, " \t"), start, fields[i].min, fields[i].max,
				fields[i].names ? ", names of three letters" : "");
	}
	p += strspn(p, " \t");
	if (*p)
		return xasprintf(
			"\"%s\" has more than the 5 fields minute, hour, day of the month, month and day of the week",
			text);
	c->minute = bits[0];
	c->hour = (uint32_t)bits[1];
	c->dom = (uint32_t)bits[2];
	c->month = (uint32_t)bits[3];
	c->dow = (uint32_t)((bits[4] | bits[4] >> 7) & 0x7f); /* 7 is Sunday, too */
	c->dom_any = any[2];
	c->dow_any = any[4];
	c->by_interval = any[0] || any[1];
	if (!has_a_day(c))
		return xasprintf("\"%s\" never comes: none of its months has such a day", text);
	return NULL;
}

/* ---- zones ---- */

bool cron_zone_exists(const char *zone)
{
	const char *dir = getenv("TZDIR");
	char *path;
	bool is;

	if (strcasecmp(zone, "UTC") == 0)
		return true;
	if (!*zone || *zone == '/' || *zone == '.' || strstr(zone, "..") || strchr(zone, ':'))
		return false;
	path = xasprintf("%s/%s", dir && *dir ? dir : "/usr/share/zoneinfo", zone);
	is = access(path, R_OK) == 0;
	free(path);
	return is;
}

/* Makes `zone` the one that localtime_r() goes by; returns what was before, for zone_leave(). */
static char *zone_enter(const char *zone)
{
	const char *now = getenv("TZ");
	char *former = now ? xstrdup(now) : NULL, *name = xasprintf(":%s", zone);

	setenv("TZ", name, 1);
	tzset();
	free(name);
	return former;
}

static void zone_leave(char *former)
{
	if (former)
		setenv("TZ", former, 1);
	else
		unsetenv("TZ");
	tzset();
	free(former);
}

/* Local time minus UTC at an instant. */
static int64_t offset_at(int64_t at)
{
	time_t t = (time_t)at;
	struct tm tm;

	return localtime_r(&t, &tm) ? tm.tm_gmtoff : 0;
}

/* ---- times ---- */

/* Whether a day is asked for: when both kinds of day are restricted, either will do. */
static bool day_matches(const struct cron *c, const struct tm *tm)
{
	bool dom = c->dom >> tm->tm_mday & 1, dow = c->dow >> tm->tm_wday & 1;

	if (!(c->month >> (tm->tm_mon + 1) & 1))
		return false;
	return c->dom_any || c->dow_any ? dom && dow : dom || dow;
}

/* The instant at which a clock on the wall first shows `wall` (as if it were UTC) or, where it never does, something
 * later. */
static int64_t first_showing(int64_t wall)
{
	int64_t before = offset_at(wall - OFFSET_REACH_S), after = offset_at(wall + OFFSET_REACH_S), low = wall - after,
		high = wall - before;

	if (offset_at(high) == before)
		return high; /* where it comes twice this is the first time */
	if (offset_at(low) == after || low > high)
		return low;
	while (high - low > 60) { /* in the gap: the minute at which the clocks go forward */
		int64_t middle = low + (high - low) / 120 * 60;

		if (offset_at(middle) == before)
			low = middle;
		else
			high = middle;
	}
	return high;
}

/* For a time of day: goes over the days and minutes on the wall, and translates those that are asked for. */
static int64_t next_time_of_day(const struct cron *c, int64_t after)
{
	int64_t wall = after + offset_at(after) - OFFSET_REACH_S, end = wall + HORIZON_S;

	wall -= ((wall % 60) + 60) % 60;
	while (wall < end) {
		time_t t = (time_t)wall;
		struct tm tm;
		int64_t due;

		gmtime_r(&t, &tm);
		if (!day_matches(c, &tm)) {
			wall += DAY_S - tm.tm_hour * 3600 - tm.tm_min * 60;
		} else if (!(c->hour >> tm.tm_hour & 1)) {
			wall += 3600 - tm.tm_min * 60;
		} else if (!(c->minute >> tm.tm_min & 1)) {
			wall += 60;
		} else {
			due = first_showing(wall);
			if (due > after)
				return due;
			wall += 60;
		}
	}
	return -1;
}

/* For an interval: goes over the minutes as they come. */
static int64_t next_of_interval(const struct cron *c, int64_t after)
{
	int64_t at = after - ((after % 60) + 60) % 60 + 60, end = at + HORIZON_S;

	while (at < end) {
		time_t t = (time_t)at;
		struct tm tm;
		int64_t left;

		localtime_r(&t, &tm);
		if (day_matches(c, &tm) && (c->hour >> tm.tm_hour & 1)) {
			if (c->minute >> tm.tm_min & 1)
				return at;
			at += 60;
			continue;
		}
		/* on in large steps, but short of where the clocks might be set, which is at a multiple of a quarter of
		 * an hour */
		left = day_matches(c, &tm) ? 0 : DAY_S - tm.tm_hour * 3600 - tm.tm_min * 60 - 3 * 3600;
		at += left > 900 ? left - left % 900 : 60 * (15 - tm.tm_min % 15);
	}
	return -1;
}

int64_t cron_next(const struct cron *c, const char *zone, int64_t after)
{
	char *former = zone_enter(zone);
	int64_t due = c->by_interval ? next_of_interval(c, after) : next_time_of_day(c, after);

	zone_leave(former);
	return due;
}

const char *cron_time(int64_t at, char buf[CRON_TIME_SIZE])
{
	time_t t = (time_t)at;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, CRON_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return buf;
}
