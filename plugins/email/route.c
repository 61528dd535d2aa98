/* route.c: a circuit breaker for each provider: one that does not work is left alone for a while, then one mail tries
 * it.
 *
 * With a single provider there is nowhere else to go, so its circuit never opens: retries with backoff, and the pause
 * of the queue after a configuration error, are what spares it.
 */
#include "config.h"

#include "route.h"

#include <string.h>

#define UNREACHED_MAX 5                 /* connections in a row that fail */
#define WINDOW_US (60 * G_USEC_PER_SEC) /* more than half of the mails of a window are refused for now: */
#define WINDOW_MAILS 10                 /* when there were so many of them */

/* The state in words, for the log. */
static const char *const state_names[] = { "closed", "open", "half open" };

/* Enters a state and says so. */
static void enter(struct way *way, enum way_state state, const char *reason)
{
	way->state = state;
	way->probing = false;
	way->unreached = way->finished = way->transient = 0;
	way->window = g_get_monotonic_time();
	g_free(way->reason);
	way->reason = g_strdup(reason);
	pgmqd_metric_set(way->metric_state, state);
	pgmqd_log(state == WAY_OPEN ? PGMQD_WARN : PGMQD_INFO, "provider %s: circuit %s%s%s", way->provider->name,
		state_names[state], reason != NULL ? ": " : "", reason != NULL ? reason : "");
}

void route_start(struct routes *r, struct pgmqd_worker *w)
{
	r->worker = w;
	for (unsigned i = 0; i < r->n; i++) {
		struct way *way = &r->ways[i];

		way->metric_state = pgmqd_metric(w, PGMQD_GAUGE, "email_provider_circuit",
			"How a provider is doing: 0 in use, 1 left alone for a while, 2 being tried again.", "provider",
			way->provider->name);
		way->metric_sent = pgmqd_metric(w, PGMQD_COUNTER, "email_sent_total",
			"Mails that a provider has taken over.", "provider", way->provider->name);
		way->metric_failed = pgmqd_metric(w, PGMQD_COUNTER, "email_refused_total",
			"Mails that a provider has not taken over.", "provider", way->provider->name);
		way->window = g_get_monotonic_time();
		pgmqd_metric_set(way->metric_state, WAY_CLOSED);
	}
}

bool route_may(struct way *way, int64_t *wait_ms)
{
	gint64 now = g_get_monotonic_time();

	*wait_ms = 0;
	if (way->state == WAY_OPEN && now >= way->until)
		enter(way, WAY_HALF_OPEN, NULL);
	if (way->state == WAY_OPEN)
		*wait_ms = (way->until - now) / 1000 + 1;
	else if (way->state == WAY_HALF_OPEN && way->probing)
		*wait_ms = 1000; /* the probe's answer decides; look again soon */
	return *wait_ms == 0;
}

struct way *route_choose(struct routes *r, const struct route *route, unsigned tried, int64_t *wait_ms)
{
	*wait_ms = -1;
	for (unsigned i = 0; i < route->n; i++) {
		int64_t wait;

		if ((tried & route_bit(r, route->ways[i])) != 0)
			continue;
		if (route_may(route->ways[i], &wait))
			return route->ways[i];
		if (*wait_ms < 0 || wait < *wait_ms)
			*wait_ms = wait;
	}
	return NULL;
}

struct way *route_find(struct routes *r, const char *name)
{
	for (unsigned i = 0; i < r->n; i++)
		if (strcmp(r->ways[i].provider->name, name) == 0)
			return &r->ways[i];
	return NULL;
}

unsigned route_bit(const struct routes *r, const struct way *way)
{
	return 1U << (way - r->ways);
}

void route_begin(struct way *way)
{
	if (way->state == WAY_HALF_OPEN)
		way->probing = true;
}

void route_forget(struct way *way)
{
	way->probing = false;
}

void route_end(struct routes *r, struct way *way, const struct mail_result *result)
{
	gint64 now = g_get_monotonic_time();
	bool bad = result->is == MAIL_CONFIG || result->is == MAIL_TRANSIENT;

	pgmqd_metric_add(result->is == MAIL_SENT ? way->metric_sent : way->metric_failed, 1);
	if (r->n < 2)
		return;
	if (way->state == WAY_HALF_OPEN && result->is != MAIL_UNKNOWN) {
		/* A permanent refusal of one mail is a sign of life, too. */
		if (!bad)
			enter(way, WAY_CLOSED, NULL);
	} else if (way->state == WAY_CLOSED) {
		if (now - way->window > WINDOW_US) {
			way->window = now;
			way->finished = way->transient = 0;
		}
		way->finished++;
		way->transient += result->is == MAIL_TRANSIENT && !result->throttled;
		way->unreached = result->unreached ? way->unreached + 1 : 0;
		/* Being told to slow down is no fault; the rate is what follows from that. */
		bad = result->is == MAIL_CONFIG || way->unreached >= UNREACHED_MAX ||
		      (way->finished >= WINDOW_MAILS && way->transient * 2 > way->finished);
	}
	way->probing = false;
	if (bad && way->state != WAY_OPEN) {
		way->until = now + r->open_ms * 1000;
		enter(way, WAY_OPEN, result->text);
	}
}
