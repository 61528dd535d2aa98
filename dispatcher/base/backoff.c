/* backoff.c: exponential backoff with full jitter, so that what failed together does not come back together. */
#include "config.h"

#include "base/backoff.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* The longest wait that any caller can mean; keeps the sums below far from overflow. */
#define BACKOFF_CEILING_MS (INT64_C(366) * 24 * 3600 * 1000)

/* min_ms, multiplied by `factor` for each attempt after the first, and capped by max_ms. */
static int64_t grown(unsigned attempt, int64_t min_ms, int64_t max_ms, int factor)
{
	int64_t cap;

	if (max_ms > BACKOFF_CEILING_MS)
		max_ms = BACKOFF_CEILING_MS;
	if (max_ms < min_ms)
		max_ms = min_ms;
	/* Step by step: a power of the attempt's number would overflow long before anyone stops trying. */
	for (cap = min_ms; attempt > 1 && cap < max_ms; attempt--)
		cap = cap > max_ms / factor ? max_ms : cap * factor;
	return cap;
}

/* A wait that can be counted with. */
static int64_t sane(int64_t ms)
{
	return ms < 1 ? 1 : ms > BACKOFF_CEILING_MS ? BACKOFF_CEILING_MS : ms;
}

/* Returns the wait in milliseconds, see backoff.h. */
int64_t backoff_delay(unsigned attempt, int64_t min_ms, int64_t max_ms, uint64_t random)
{
	int64_t cap = grown(attempt, sane(min_ms), max_ms, 2), floor;

	/* Full jitter starts at zero in the literature; half the minimum keeps a run of bad luck from becoming a
	 * busy loop. */
	floor = sane(min_ms) > 1 ? sane(min_ms) / 2 : 1;
	return floor + (int64_t)(random % (uint64_t)(cap - floor + 1));
}

/* Returns the wait in milliseconds, see backoff.h. */
int64_t backoff_retry(unsigned attempt, int64_t min_ms, int64_t max_ms, uint64_t random)
{
	int64_t cap = grown(attempt, sane(min_ms), max_ms, 4);

	return cap - (int64_t)(random % (uint64_t)(cap / 4 + 1));
}

/* Returns 64 random bits; before the kernel has any, they are made from the clock and the process id. */
uint64_t backoff_random(void)
{
	struct timespec ts;
	uint64_t value;
	ssize_t n;

	do
		n = getrandom(&value, sizeof value, GRND_NONBLOCK);
	while (n == -1 && errno == EINTR);
	if (n == (ssize_t)sizeof value)
		return value;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	value = ((uint64_t)ts.tv_sec << 30) ^ (uint64_t)ts.tv_nsec ^ ((uint64_t)getpid() << 44);
	/* The last steps of splitmix64 spread the few changing bits over all of them. */
	value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
	return value ^ (value >> 31);
}
