/* route.c: a circuit breaker for each provider: one that is away is left alone for a while, then one mail tries it.
 *
 * A connection that fails opens the circuit at once, for a second; each further one doubles that. Answers that tell of
 * trouble may be one mail's fault, so it takes several of them.
 */
#include "config.h"

#include "route.h"

#include <string.h>

#define OPEN_MIN_MS 1000
#define QUOTA_MS (60 * 60 * 1000)       /* after a quota that is used up, where nothing says when it is renewed */
#define IN_A_ROW_MAX 3                  /* mails in a row that find trouble */
#define WINDOW_US (60 * G_USEC_PER_SEC) /* more than half of the mails of a window found trouble: */
#define WINDOW_MAILS 10                 /* when there were so many of them */

/* The state in words, for the log. */
static const char *const state_names[] = { "closed", "open", "half open" };

/* Enters a state and says so. */
static void enter(struct way *way, enum way_state state, const char *reason)
{
	way->state = state;
	way->probing = false;
	way->in_a_row = way->finished = way->troubled = 0;
	way->window = g_get_monotonic_time();
	g_free(way->reason);
	way->reason = g_strdup(reason);
	if (state == WAY_CLOSED)
		way->since = way->open_ms = 0;
	pgmqd_metric_set(way->metric_state, state);
	pgmqd_metric_set(way->metric_since, way->since / G_USEC_PER_SEC);
	pgmqd_metric_set(way->metric_next,
		state == WAY_OPEN ? (g_get_real_time() + way->until - way->window) / G_USEC_PER_SEC : 0);
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
		way->metric_since = pgmqd_metric(w, PGMQD_GAUGE, "email_provider_away_since_seconds",
			"Since when a provider has been away, in seconds since 1970; 0: it is in use.", "provider",
			way->provider->name);
		way->metric_next = pgmqd_metric(w, PGMQD_GAUGE, "email_provider_next_try_seconds",
			"When a provider that is away is tried again, in seconds since 1970; 0: it is in use.",
			"provider", way->provider->name);
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

void route_reload(struct routes *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->ways[i].state == WAY_OPEN)
			r->ways[i].until = 0;
}

char *route_describe(const struct way *way)
{
	GDateTime *since = g_date_time_new_from_unix_utc(way->since / G_USEC_PER_SEC);
	char *when = since != NULL ? g_date_time_format_iso8601(since) : g_strdup("-");
	char *text = g_strdup_printf("%s away since %s: %s", way->provider->name, when,
		way->reason != NULL ? way->reason : "it is being tried again");

	g_free(when);
	if (since != NULL)
		g_date_time_unref(since);
	return text;
}

/* Leaves a provider alone. */
static void open_circuit(const struct routes *r, struct way *way, int64_t ms, const char *reason)
{
	if (way->since == 0)
		way->since = g_get_real_time();
	way->open_ms = ms > 0 ? ms : MIN(MAX(way->open_ms * 2, OPEN_MIN_MS), r->open_ms);
	way->until = g_get_monotonic_time() + way->open_ms * 1000;
	enter(way, WAY_OPEN, reason);
}

/* Counts a mail that came to an end with the provider in use; whether there is too much trouble. */
static bool count(struct way *way, bool trouble)
{
	gint64 now = g_get_monotonic_time();

	if (now - way->window > WINDOW_US) {
		way->window = now;
		way->finished = way->troubled = 0;
	}
	way->finished++;
	way->troubled += trouble;
	way->in_a_row = trouble ? way->in_a_row + 1 : 0;
	return way->in_a_row >= IN_A_ROW_MAX || (way->finished >= WINDOW_MAILS && way->troubled * 2 > way->finished);
}

void route_end(struct routes *r, struct way *way, const struct mail_result *result)
{
	bool trial = way->state == WAY_HALF_OPEN;

	way->probing = false;
	pgmqd_metric_add(result->is == MAIL_SENT ? way->metric_sent : way->metric_failed, 1);
	if (way->state == WAY_OPEN)
		return;
	switch (result->is) {
	case MAIL_UNREACHED:
	case MAIL_POLICY:
		open_circuit(r, way, result->delay_ms, result->text);
		break;
	case MAIL_QUOTA:
		open_circuit(r, way, result->delay_ms > 0 ? result->delay_ms : QUOTA_MS, result->text);
		break;
	case MAIL_CONFIG:
		/* With nowhere else to go the queue pauses, and that is all it takes. */
		if (r->n > 1)
			open_circuit(r, way, r->open_ms, result->text);
		break;
	case MAIL_AWAY:
		if (count(way, true) || trial)
			open_circuit(r, way, result->delay_ms, result->text);
		break;
	case MAIL_UNKNOWN:
		/* No sign of life, and no sure sign of trouble. */
		if (count(way, true))
			open_circuit(r, way, result->delay_ms, result->text);
		break;
	case MAIL_SENT:
	case MAIL_LATER:
	case MAIL_SLOWER:
	case MAIL_PERMANENT:
	case MAIL_POLICY_VAGUE:
		/* A refusal of one mail is a sign of life, too. */
		count(way, false);
		if (trial)
			enter(way, WAY_CLOSED, NULL);
		break;
	}
}
