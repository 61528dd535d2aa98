/* second.c: the worker's second connection: opened when there is a backlog, closed when there is none any more.
 *
 * One connection has the server claim and settle in turns, by one process on one core. With two of them it does both at
 * once. Only outcomes that take the row out of the queue go by the second one: a claim on the first cannot meet what
 * they leave. The second connection is never needed. Where the server has no more connections, behind a pooler, and as
 * long as it is being made, the first one carries everything.
 */
#include "config.h"

#include "worker/second.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/pgconn.h"

#include <stdlib.h>

#define BATCH_MIN 10     /* messages in one statement, as in a queue with the default of max_in_flight, ... */
#define GAP_MS 20        /* ... and no more time between an answer and the next statement ... */
#define MANY 500         /* ... until there were so many messages: a backlog */
#define IDLE_MS 5000     /* without a backlog for so long: closed */
#define REFUSED_MS 60000 /* after a connection that could not be made, or was lost: before the next one */

struct second {
	struct event_base *base;
	char *conninfo, *application_name;
	struct pgconn *first, *pg; /* pg: NULL while closed */
	struct event *timer;       /* closes it */
	unsigned sessions, under_way;
	size_t messages;                   /* of the backlog */
	int64_t answered_ms;               /* when the last statement was answered */
	int64_t backlog_ms, not_before_ms; /* when there was a backlog; when it may be opened again */
	bool failed, told;                 /* it is of no use any more; a failure was logged */
};

/* Closes it. What is under way is answered as lost, and goes by the first one. */
static void second_close(struct second *s)
{
	struct pgconn *pg = s->pg;

	s->pg = NULL;
	s->failed = false;
	s->messages = 0;
	evtimer_del(s->timer);
	if (!pg)
		return;
	pgconn_hang_up(pg);
	pgconn_free(pg);
}

/* It is of no use: closed as soon as its callbacks are over, and not opened again for a while. */
static void second_give_up(struct second *s)
{
	s->failed = true;
	s->not_before_ms = clock_boottime_ms() + REFUSED_MS;
	loop_timer(s->timer, 0);
}

/* Connected. */
static void second_up(void *arg)
{
	struct second *s = arg;

	if (pgconn_is_pooled(s->pg)) {
		second_give_up(s);
		return;
	}
	s->sessions++;
	s->told = false;
	log_debug("a second connection to the database: there is a backlog");
}

/* The server does not want it. */
static void second_failed(void *arg, const char *reason)
{
	struct second *s = arg;

	if (!s->told)
		log_info("no second connection to the database for the backlog: %s; one carries everything", reason);
	s->told = true;
	second_give_up(s);
}

/* It is lost; what was under way was answered. */
static void second_down(void *arg, const char *reason)
{
	log_warn("the second connection to the database is lost: %s; one carries everything", reason);
	second_give_up(arg);
}

static const struct pgconn_events events = { .up = second_up, .down = second_down, .failed = second_failed };

/* Whether it is time to close it. */
static void second_due(evutil_socket_t fd, short what, void *arg)
{
	struct second *s = arg;
	int64_t left = s->backlog_ms + IDLE_MS - clock_boottime_ms();

	(void)fd, (void)what;
	if (s->failed || (left <= 0 && !s->under_way))
		second_close(s);
	else
		loop_timer(s->timer, left > 0 ? left : IDLE_MS);
}

/* Counts the messages of a backlog, and opens the connection when there are many. */
static void second_count(struct second *s, size_t n, bool more)
{
	int64_t now = clock_boottime_ms();

	if (n < BATCH_MIN || !more)
		return;
	s->messages = s->under_way || now - s->answered_ms <= GAP_MS ? s->messages + n : n;
	s->backlog_ms = now;
	if (s->pg || s->messages < MANY || now < s->not_before_ms || pgconn_is_pooled(s->first))
		return;
	s->pg = pgconn_new(s->base, s->conninfo, s->application_name, true, &events, s);
	pgconn_start(s->pg);
	loop_timer(s->timer, IDLE_MS);
}

struct pgconn *second_use(struct second *s, size_t n, bool more)
{
	second_count(s, n, more);
	s->under_way++;
	return second_conn(s) ? s->pg : s->first;
}

void second_answered(struct second *s)
{
	s->under_way--;
	s->answered_ms = clock_boottime_ms();
}

unsigned second_session(const struct second *s)
{
	return second_conn(s) ? s->sessions : 0;
}

struct pgconn *second_conn(const struct second *s)
{
	return s && s->pg && !s->failed && pgconn_is_up(s->pg) ? s->pg : NULL;
}

void second_end(struct second *s)
{
	second_close(s);
}

struct second *second_new(
	struct event_base *base, const char *conninfo, const char *application_name, struct pgconn *first)
{
	struct second *s = xcalloc(1, sizeof(*s));

	s->base = base;
	s->conninfo = xstrdup(conninfo);
	s->application_name = xstrdup(application_name);
	s->first = first;
	s->timer = loop_timer_new(base, second_due, s);
	return s;
}

void second_hang_up(struct second *s)
{
	second_close(s);
	s->not_before_ms = INT64_MAX;
}

void second_free(struct second *s)
{
	second_close(s);
	event_free(s->timer);
	free(s->conninfo);
	free(s->application_name);
	free(s);
}
