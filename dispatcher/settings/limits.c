/* limits.c: the limits of a queue out of its section: how many messages in a time, and how many at once. */
#include "config.h"

#include "settings/limits.h"

#include "base/xalloc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MAX 1000000
#define BURST_DAYS 30 /* the rate has to give a burst within so many days: state that is older is forgotten */
/* A message has its effect so much later than its claim at times, which counts with the burst; but with half of it at
 * most: with no room for a late claim, less than the rate would be used. */
#define LATE_S 0.1
#define AT_ONCE_MAX 100000
#define KEY_MAX 200 /* bytes of a key's setting */

/* Reads "10/s", "0.5/s" or "10 / min". False when it is no such thing. */
static bool read_rate(const char *text, double *per_second)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = { { "s", 1 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 } };
	size_t digits = strspn(text, "0123456789"), decimals = 0;
	double n = digits > 0 && digits < 8 ? (double)strtol(text, NULL, 10) : 0, fraction = 0;

	text += digits;
	if (digits > 0 && *text == '.') { /* strtod() goes by the locale */
		decimals = strspn(text + 1, "0123456789");
		for (size_t i = decimals; i > 0; i--)
			fraction = (fraction + (text[i] - '0')) / 10;
		n += fraction;
		text += 1 + decimals;
	}
	text += strspn(text, " ");
	if (*text != '/' || n <= 0 || n > RATE_MAX || decimals > 6)
		return false;
	text += 1 + strspn(text + 1, " ");
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (strcmp(text, units[i].unit) == 0) {
			*per_second = n / units[i].seconds;
			return true;
		}
	return false;
}

/* Whether it is header:NAME or body:/PATH. */
static bool is_key(const char *text)
{
	if (strlen(text) > KEY_MAX)
		return false;
	if (strncmp(text, "header:", 7) == 0)
		return text[7] != '\0';
	return strncmp(text, "body:/", 6) == 0 && text[6] != '\0';
}

/* Takes one of the settings that name a key: they have to name the same one. */
static char *read_key(struct limits *l, const char *name, const char *text)
{
	if (!text || !*text)
		return NULL;
	if (!is_key(text))
		return xasprintf("%s: \"%.100s\" is not header:NAME or body:/PATH", name, text);
	if (l->key && strcmp(l->key, text) != 0)
		return xasprintf(
			"%s: a queue has one key, and \"%.100s\" is another one than \"%.100s\"", name, text, l->key);
	l->key = text;
	return NULL;
}

/* A burst of less than one message would let none through. */
static double at_least_one(double burst)
{
	return burst > 1 ? burst : 1;
}

/* Reads the settings of the rate. */
static char *read_rates(const struct queue_settings *q, struct limits *l)
{
	bool given = q->rate && *q->rate;
	double late;

	if (given && !read_rate(q->rate, &l->rate))
		return xasprintf("rate: \"%.100s\" is not like 10/s (or /min, /h, /d)", q->rate);
	if (given && l->rate * 86400 * BURST_DAYS < 1)
		return xasprintf("rate: \"%.100s\" is less than one in %d days", q->rate, BURST_DAYS);
	if (!given && (q->rate_burst || (q->rate_key && *q->rate_key) || q->rate_scope == RATE_PROCESS))
		return xstrdup("rate_burst, rate_key and rate_scope are of no use without a rate");
	if (!given)
		return NULL;
	l->burst = at_least_one(q->rate_burst ? (double)q->rate_burst : (double)(uint64_t)(l->rate + 0.999999));
	if (l->burst > l->rate * 86400 * BURST_DAYS && l->burst > 1)
		return xasprintf(
			"rate_burst = %" PRIu64 " is more than the rate gives in %d days", q->rate_burst, BURST_DAYS);
	late = l->rate * LATE_S < l->burst / 2 ? l->rate * LATE_S : l->burst / 2;
	l->burst = at_least_one(l->burst - late);
	l->rate_by_key = q->rate_key && *q->rate_key;
	l->rate_here = q->rate_scope == RATE_PROCESS;
	return NULL;
}

/* Reads how many may be in hand at once. */
static char *read_places(const struct queue_settings *q, struct limits *l)
{
	if (q->max_in_flight_cluster > AT_ONCE_MAX || q->concurrency > AT_ONCE_MAX)
		return xasprintf("max_in_flight_cluster and concurrency are %d at most", AT_ONCE_MAX);
	l->at_once = (unsigned)q->max_in_flight_cluster;
	l->of_a_key = (unsigned)q->concurrency;
	if ((q->concurrency > 0) != (q->concurrency_key && *q->concurrency_key))
		return xstrdup("concurrency and concurrency_key belong together");
	return NULL;
}

char *limits_read(const struct queue_settings *q, struct limits *l)
{
	char *error;

	*l = (struct limits){ 0 };
	error = read_rates(q, l);
	if (!error)
		error = read_places(q, l);
	if (!error)
		error = read_key(l, "rate_key", q->rate_key);
	if (!error)
		error = read_key(l, "concurrency_key", q->concurrency_key);
	if (!error)
		error = read_key(l, "fair_by", q->fair_by);
	l->fair = q->fair_by && *q->fair_by;
	/* a batch would never be full, and wait each time */
	l->leaves_one = l->fair && q->max_in_flight >= LIMITS_LEAVE_FROM && q->batch <= 1;
	if (!error && limits_any(l) && q->prefetch)
		error = xstrdup("prefetch has to be 0 in a queue with limits: what is claimed ahead would count");
	if (!error && l->key && q->ordered == ORDERED_GROUP)
		error = xstrdup(
			"ordered = group has its own key, the header group: take out either it or the other key");
	return error;
}

bool limits_any(const struct limits *l)
{
	return l->rate > 0 || l->at_once || l->of_a_key || l->fair;
}
