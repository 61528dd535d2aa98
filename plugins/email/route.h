/* route.h: the providers that are configured, how each of them is doing, and which one a mail goes to. */
#ifndef EMAIL_ROUTE_H
#define EMAIL_ROUTE_H

#include "doubt.h"
#include "pgmqd-plugin.h"
#include "provider.h"

#include <glib.h>
#include <stdbool.h>

/* Closed: in use. Open: left alone until `until`. Half open: one mail tries it, the others wait for how that goes. */
enum way_state { WAY_CLOSED = 0, WAY_OPEN, WAY_HALF_OPEN };

/* A provider in use. */
struct way {
	const struct provider *provider;
	enum way_state state;
	gint64 until;      /* open: monotonic µs */
	gint64 since;      /* away since then: real time, µs; 0: it is in use */
	int64_t open_ms;   /* how long it was left alone the last time; 0: it was in use since */
	bool probing;      /* half open: a mail is trying it */
	unsigned in_a_row; /* mails that found it in trouble, one after the other */
	gint64 window;     /* since when the next two are counted, monotonic µs */
	unsigned finished, troubled;
	char *reason;       /* why it is open */
	struct doubt doubt; /* refusals that others may get, too */
	struct pgmqd_metric *metric_state, *metric_since, *metric_next, *metric_sent, *metric_failed;
};

/* The ways of one kind of mail, in order. */
struct route {
	struct way *ways[PROVIDERS_MAX];
	unsigned n;
};

struct routes {
	struct pgmqd_worker *worker;
	struct way ways[PROVIDERS_MAX];
	unsigned n;
	int64_t open_ms; /* how long one is left alone at most */
};

void route_start(struct routes *r, struct pgmqd_worker *w);

/* The first way of a route that may be used now and is not in `tried` (bits of routes.ways). NULL, and in *wait_ms how
 * long it will be until one may (-1: none is left). */
struct way *route_choose(struct routes *r, const struct route *route, unsigned tried, int64_t *wait_ms);
/* The way of a provider's name; NULL when it is not in use. */
struct way *route_find(struct routes *r, const char *name);
unsigned route_bit(const struct routes *r, const struct way *way);
/* Whether a way may be used now; else *wait_ms. */
bool route_may(struct way *way, int64_t *wait_ms);
/* The mail is going out by it. */
void route_begin(struct way *way);
/* How that went. */
void route_end(struct routes *r, struct way *way, const struct mail_result *result);
/* The name of the server that is away, since when and why, of a way that may not be used; g_malloc'd. */
char *route_describe(const struct way *way);
/* It was taken back, and nothing is known. */
void route_forget(struct way *way);
/* Has every provider that is left alone tried by the next mail. */
void route_reload(struct routes *r);

#endif
