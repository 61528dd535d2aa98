/* clock.c: the time, of the clock that fits the question. */
#include "config.h"

#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t skipped_ms;

/* Microseconds of one of the system's clocks. */
static int64_t clock_us(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_boottime_ms(void)
{
	return clock_us(CLOCK_BOOTTIME) / 1000 + skipped_ms;
}

int64_t clock_realtime_us(void)
{
	return clock_us(CLOCK_REALTIME) + skipped_ms * 1000;
}

int64_t clock_monotonic_ms(void)
{
	return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

const char *clock_stamp(int64_t us, char buf[CLOCK_STAMP_SIZE])
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(buf, CLOCK_STAMP_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, CLOCK_STAMP_SIZE - n, ".%06lldZ", (long long)(us % 1000000));
	return buf;
}

void clock_skip_ms(int64_t ms)
{
	skipped_ms += ms;
}
