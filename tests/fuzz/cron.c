/* cron.c: fuzz target: two bytes of days since 1970, two of minutes, then a cron expression. Its next time is compared
 * with a walk over the minutes by a matcher that reads the expression's text anew for each of them. */
#include "config.h"

#include "base/cron.h"
#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MINUTES 4000 /* of the walk, nearly three days; the rest is sampled */

/* A number or a name at *p, which moves on. */
static int oracle_value(const char **p, const char *const *names, int base)
{
	for (int i = 0; names && names[i]; i++)
		if (strncasecmp(*p, names[i], 3) == 0) {
			*p += 3;
			return base + i;
		}
	return (int)strtol(*p, (char **)(uintptr_t)p, 10);
}

/* Whether a field of the text, up to a blank, takes `value`. */
static int oracle_field(const char *p, int value, int max, const char *const *names, int base)
{
	for (;; p++) {
		int from = 0, to = max, step = 1;

		if (*p == '*') {
			p++;
			from = max == 31 || max == 12 ? 1 : 0;
		} else {
			from = to = oracle_value(&p, names, base);
			if (*p == '-') {
				p++;
				to = oracle_value(&p, names, base);
			} else if (*p == '/') {
				to = max == 7 ? 6 : max; /* Sunday is 0 where a list goes on by itself */
			}
		}
		if (*p == '/') {
			p++;
			step = (int)strtol(p, (char **)(uintptr_t)&p, 10);
		}
		if (value >= from && value <= to && (value - from) % step == 0)
			return 1;
		if (*p != ',')
			return 0;
	}
}

/* Whether the expression takes the minute. */
static int oracle(const char *text, time_t at)
{
	static const char *const months[] = { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct",
		"nov", "dec", NULL };
	static const char *const days[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL };
	const char *f[5];
	struct tm tm;
	int dom, dow;

	for (int i = 0; i < 5; i++) {
		text += strspn(text, " \t");
		f[i] = text;
		text += strcspn(text, " \t");
	}
	gmtime_r(&at, &tm);
	if (!oracle_field(f[0], tm.tm_min, 59, NULL, 0) || !oracle_field(f[1], tm.tm_hour, 23, NULL, 0) ||
		!oracle_field(f[3], tm.tm_mon + 1, 12, months, 1))
		return 0;
	dom = oracle_field(f[2], tm.tm_mday, 31, NULL, 0);
	dow = oracle_field(f[4], tm.tm_wday, 7, days, 0) || (tm.tm_wday == 0 && oracle_field(f[4], 7, 7, days, 0));
	return *f[2] == '*' || *f[4] == '*' ? dom && dow : dom || dow;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const zones[] = { "UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
		"Pacific/Apia" };
	int64_t after, due, at;
	struct cron c;
	char *text, *error;

	if (size < 4 || memchr(data + 4, '\0', size - 4))
		return 0;
	after = (data[0] * 256 + data[1]) % 25000 * (int64_t)86400 + (data[2] * 256 + data[3]) % 1440 * 60;
	text = xstrndup((const char *)data + 4, size - 4);
	error = cron_parse(&c, text);
	if (error) {
		if (strpbrk(error, "\r\n") && !strpbrk(text, "\r\n"))
			abort();
		free(error);
		free(text);
		return 0;
	}
	due = cron_next(&c, "UTC", after);
	if (due != -1 && (due <= after || due % 60))
		abort();
	if (*text != '@' && !strpbrk(text, "@")) {
		if (due != -1 && !oracle(text, (time_t)due))
			abort();
		for (at = after + 60; at <= after + MINUTES * 60 && (due == -1 || at < due); at += 60)
			if (oracle(text, (time_t)at))
				abort();
	}
	for (size_t i = 1; i < sizeof(zones) / sizeof(*zones); i++) {
		due = cron_next(&c, zones[i], after);
		if (due != -1 && (due <= after || due % 60))
			abort();
	}
	free(text);
	return 0;
}
