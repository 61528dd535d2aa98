/* canary.c: a notification sent from another session than the one that listens.
 *
 * A session's notification to itself proves nothing: a transaction pooler passes it on, because the session that sends
 * is at that moment the one that listens. So each canary has a short connection of its own.
 */
#include "config.h"

#include "listener/canary.h"

#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/notify.h"
#include "pg/pgconn.h"

#include <stdlib.h>

struct canary {
	struct event_base *base;
	char *conninfo, *channel, *payload, *error;
	struct pgconn *pg;   /* NULL: none is under way */
	struct event *ended; /* outside of the connection's own callbacks */
	canary_cb cb;
	void *arg;
};

/* It is sent, or could not be: tells the owner. */
static void canary_ended(evutil_socket_t fd, short what, void *arg)
{
	struct canary *c = arg;
	char *error = c->error;

	(void)fd, (void)what;
	c->error = NULL;
	canary_cancel(c);
	c->cb(c->arg, error);
	free(error);
}

/* Ends the connection, soon. */
static void canary_end(struct canary *c, const char *error)
{
	free(c->error);
	c->error = xstrdup(error);
	event_active(c->ended, 0, 0);
}

/* The database has answered. */
static void canary_answered(void *arg, const struct pgresult *r)
{
	canary_end(arg, r->error);
}

/* Connected. */
static void canary_up(void *arg)
{
	struct canary *c = arg;

	notify_send(c->pg, c->channel, c->payload, canary_answered, c);
}

/* Not connected. */
static void canary_failed(void *arg, const char *reason)
{
	canary_end(arg, reason);
}

static const struct pgconn_events canary_events = { .up = canary_up, .failed = canary_failed };

void canary_send(struct canary *c, const char *payload)
{
	canary_cancel(c);
	c->payload = xstrdup(payload);
	c->pg = pgconn_new(c->base, c->conninfo, "pgmqd canary", false, &canary_events, c);
	pgconn_start(c->pg);
}

void canary_cancel(struct canary *c)
{
	event_del(c->ended);
	pgconn_free(c->pg);
	c->pg = NULL;
	free(c->payload);
	c->payload = NULL;
	free(c->error);
	c->error = NULL;
}

struct canary *canary_new(struct event_base *base, const char *conninfo, const char *channel, canary_cb cb, void *arg)
{
	struct canary *c = xcalloc(1, sizeof(*c));

	c->base = base;
	c->conninfo = xstrdup(conninfo);
	c->channel = xstrdup(channel);
	c->cb = cb;
	c->arg = arg;
	c->ended = loop_event(base, -1, 0, canary_ended, c);
	return c;
}

void canary_free(struct canary *c)
{
	canary_cancel(c);
	event_free(c->ended);
	free(c->conninfo);
	free(c->channel);
	free(c);
}
