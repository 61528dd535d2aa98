/* api_loop.c: the event loop as a plugin sees it: the base itself, and timers of the worker or of one message. */
#include "config.h"

#include "base/loop.h"
#include "worker/api.h"

#include "base/xalloc.h"

#include <stdlib.h>

/* How many ended timers rest before one is used again, so that ending one twice is noticed. */
#define REST 256

struct pgmqd_timer {
	struct msg_resource
		res;      /* must be first; on a message's list when it has one, on that of the ended ones later */
	struct event *ev; /* NULL: it has ended */
	struct pgmqd_worker *w;
	pgmqd_timer_cb cb;
	void *arg;
};

static TAILQ_HEAD(, msg_resource) ended = TAILQ_HEAD_INITIALIZER(ended);
static unsigned nended;

PGMQD_EXPORT struct event_base *pgmqd_event_base(struct pgmqd_worker *w)
{
	return w->base;
}

/* Ends a timer; the memory rests. */
static void timer_end(struct msg_resource *r)
{
	struct pgmqd_timer *t = (struct pgmqd_timer *)(void *)r;

	if (r->msg)
		TAILQ_REMOVE(&r->msg->resources, r, link);
	else
		t->w->timers--;
	event_free(t->ev);
	t->ev = NULL;
	TAILQ_INSERT_TAIL(&ended, r, link);
	nended++;
}

/* A timer's time has come. */
static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
	struct pgmqd_timer *t = arg;
	pgmqd_timer_cb cb = t->cb;
	void *cb_arg = t->arg;
	struct plugin_call call = t->res.msg ? plugin_call_begin_msg(t->res.msg) : plugin_call_begin(t->w, 0);

	(void)fd, (void)what;
	timer_end(&t->res);
	cb(cb_arg);
	plugin_call_end(call);
}

/* Makes a timer. */
static struct pgmqd_timer *timer_new(
	struct pgmqd_worker *w, struct pgmqd_msg *m, int64_t ms, pgmqd_timer_cb cb, void *arg)
{
	struct pgmqd_timer *t;

	if (nended > REST) {
		struct msg_resource *r = TAILQ_FIRST(&ended);

		TAILQ_REMOVE(&ended, r, link);
		nended--;
		t = (struct pgmqd_timer *)(void *)r;
	} else {
		t = xcalloc(1, sizeof(*t));
	}
	*t = (struct pgmqd_timer){ .res = { .end = timer_end, .msg = m }, .w = w, .cb = cb, .arg = arg };
	t->ev = loop_timer_new(w->base, timer_fired, t);
	if (m)
		TAILQ_INSERT_TAIL(&m->resources, &t->res, link);
	else
		w->timers++;
	loop_timer(t->ev, api_delay(ms));
	return t;
}

PGMQD_EXPORT struct pgmqd_timer *pgmqd_timer(struct pgmqd_worker *w, int64_t ms, pgmqd_timer_cb cb, void *arg)
{
	return timer_new(w, NULL, ms, cb, arg);
}

PGMQD_EXPORT struct pgmqd_timer *pgmqd_msg_timer(struct pgmqd_msg *m, int64_t ms, pgmqd_timer_cb cb, void *arg)
{
	if (!api_may_start(m, "pgmqd_msg_timer"))
		return NULL;
	return timer_new(m->worker, m, ms, cb, arg);
}

PGMQD_EXPORT void pgmqd_timer_cancel(struct pgmqd_timer *t)
{
	if (!t)
		return;
	if (t->ev)
		timer_end(&t->res);
	else
		plugin_call_misuse(t->w, 0, "pgmqd_timer_cancel() of a timer that has ended: ignored");
}

/* ---- what all processes of a queue share ---- */

PGMQD_EXPORT int pgmqd_first(struct pgmqd_worker *w, const char *text)
{
	return w->stats == NULL || stats_first(w->stats, w->slot, text);
}

/* ---- numbers ---- */

PGMQD_EXPORT struct pgmqd_metric *pgmqd_metric(
	struct pgmqd_worker *w, int kind, const char *name, const char *help, const char *label, const char *value)
{
	return (struct pgmqd_metric *)(void *)stats_extra(w->slot, kind, name, help, label, value);
}

PGMQD_EXPORT void pgmqd_metric_add(struct pgmqd_metric *m, int64_t n)
{
	if (m)
		atomic_fetch_add_explicit(&((struct stats_extra *)(void *)m)->number, n, memory_order_relaxed);
}

PGMQD_EXPORT void pgmqd_metric_set(struct pgmqd_metric *m, int64_t value)
{
	if (m)
		atomic_store_explicit(&((struct stats_extra *)(void *)m)->number, value, memory_order_relaxed);
}
