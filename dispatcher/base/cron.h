/* cron.h: cron expressions, and when the next time of one is in a time zone of the system. */
#ifndef CRON_H
#define CRON_H

#include <stdbool.h>
#include <stdint.h>

/* One expression; bit n of a field stands for the value n. */
struct cron {
	uint64_t minute;
	uint32_t hour, dom, month, dow;
	bool dom_any, dow_any; /* the field begins with * */
	bool by_interval;      /* minute or hour begins with *: it is meant as an interval, not as a time of day */
};

/* Reads "minute hour day-of-month month day-of-week", each *, a number, a range a-b, a step (x/n) or a list of those,
 * with names of months and days; or @yearly, @monthly, @weekly, @daily, @hourly. NULL, or what is wrong, malloc'd. */
char *cron_parse(struct cron *c, const char *text);

bool cron_zone_exists(const char *zone);

/* The first time after `after` (seconds since 1970); -1 when there is none within ten years.
 *   A time of day that is skipped, when clocks go forward, is due at the first valid minute after the gap, once.
 *   A time of day that comes twice, when clocks go back, is due the first time only.
 *   What is meant as an interval (* or * with a step, in minute or hour) goes by the minutes as they come: nothing is
 * made up for in the gap, and in the hour that comes twice it is due twice. */
int64_t cron_next(const struct cron *c, const char *zone, int64_t after);

#define CRON_TIME_SIZE 32

/* Writes such a time for people and JSON, in UTC: "2026-11-21T10:00:00Z". Returns buf. */
const char *cron_time(int64_t at, char buf[CRON_TIME_SIZE]);

#endif
