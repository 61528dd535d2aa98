/* lease.c: leases of the messages in hand: extended from a third of the visibility timeout on, until the outcome is
 * stored. A message whose lease cannot be extended in time, or that overruns the deadline, is taken from the plugin.
 */
#include "config.h"

#include "worker/lease.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/queue.h"
#include "worker/settle.h"

#include <stdlib.h>

#define BATCH_MAX 500
#define TOLD_EVERY_MS 10000 /* that leases cannot be extended is logged so often */

/* Leases that are being extended. */
struct extension {
	struct lease *lease;
	int64_t sent_ms;
	size_t n;
	int64_t ids[BATCH_MAX];
	int counts[BATCH_MAX], nonces[BATCH_MAX];
};

bool lease_is_short(const struct lease *l, int64_t until_ms)
{
	return clock_boottime_ms() + l->ms / 10 >= until_ms;
}

void lease_arm(struct lease *l)
{
	if (!evtimer_pending(l->extend, NULL))
		loop_timer(l->extend, l->ms / 3);
}

/* The message of that claim, if it is still here. */
static struct pgmqd_msg *lease_find(struct lease *l, int64_t id, int count, int nonce)
{
	struct pgmqd_msg *m;

	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		TAILQ_FOREACH(m, &l->worker->messages->list[s], link)
	if (m->id == id && m->read_ct == count && m->nonce == nonce)
		return m;
	return NULL;
}

/* Another worker has the message while we hold it: drop it without an outcome. One that has its outcome is left to the
 * answer of its settling, since it may have been stored already. */
static void lease_lost(struct lease *l, struct pgmqd_msg *m)
{
	struct log_context former;

	if (m->state != MSG_WAITING && m->state != MSG_RUNNING)
		return;
	former = plugin_call_enter_msg(m);
	stats_add(l->worker->slot, STAT_LEASE_LOST, 1);
	log_warn("lease lost while the message was %s: dropped here",
		m->state == MSG_RUNNING ? "being handled" : "waiting");
	plugin_call_leave(former);
	if (m->state == MSG_RUNNING)
		settle_cancel(l->settle, m, OUT_RELEASE, NULL, "lease lost");
	message_forget(m);
}

static void lease_send(struct lease *l, struct pgmqd_msg *const *batch, size_t n, int64_t now);

/* An extension was refused. The row of one message (a trigger on it, say) is not to end the leases of the others; what
 * is locked is locked for all of them, and each part would wait for it again. */
static void lease_refused(struct extension *x, const struct queue_settled *s)
{
	struct lease *l = x->lease;
	struct pgmqd_msg *left[BATCH_MAX];
	int64_t now = clock_boottime_ms();
	size_t n = 0;

	for (size_t i = 0; i < x->n; i++)
		if ((left[n] = lease_find(l, x->ids[i], x->counts[i], x->nonces[i])) != NULL)
			n++;
	if (n > 1 && l->worker->up && sqlstate_class(s->sqlstate) != SQLSTATE_LOCK) {
		lease_send(l, left, n / 2, now);
		lease_send(l, left + n / 2, n - n / 2, now);
	} else if (!l->told_ms || now - l->told_ms >= TOLD_EVERY_MS) {
		l->told_ms = now;
		log_error("cannot extend the leases of %zu messages: %s (%s)", n, s->error, s->sqlstate);
	}
}

/* The answer to an extension. */
static void lease_extended(void *arg, const struct queue_settled *s)
{
	struct extension *x = arg;
	struct lease *l = x->lease;

	if (!s->error) {
		for (size_t k = 0; k < x->n; k++) {
			struct pgmqd_msg *m = lease_find(l, x->ids[k], x->counts[k], x->nonces[k]);

			if (m && s->fate[k] == QUEUE_SETTLED)
				m->lease_ms = x->sent_ms + l->ms;
			else if (m && s->fate[k] == QUEUE_LOST)
				lease_lost(l, m);
		}
		l->kick(l->arg);
	} else if (*s->sqlstate) {
		lease_refused(x, s);
	}
	free(x);
}

/* Sends one extension. */
static void lease_send(struct lease *l, struct pgmqd_msg *const *batch, size_t n, int64_t now)
{
	struct extension *x = xcalloc(1, sizeof(*x));

	x->lease = l;
	x->sent_ms = now;
	x->n = n;
	for (size_t i = 0; i < n; i++) {
		x->ids[i] = batch[i]->id;
		x->counts[i] = batch[i]->read_ct;
		x->nonces[i] = batch[i]->nonce;
	}
	queue_extend(l->worker->queue, batch, n, lease_extended, x);
}

/* Extends all leases that are older than a third of their time, in any state. */
static void lease_extend(struct lease *l, int64_t now)
{
	struct pgmqd_msg *m, *batch[BATCH_MAX];
	struct message_numbers numbers = { 0 };
	size_t n = 0;

	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		TAILQ_FOREACH(m, &l->worker->messages->list[s], link)
		{
			if (m->lease_ms - now > l->ms * 3 / 4)
				continue;
			if (n == BATCH_MAX || message_number_in(&numbers, batch, n, m->id)) {
				lease_send(l, batch, n, now);
				n = 0;
			}
			batch[n++] = m;
		}
	if (n)
		lease_send(l, batch, n, now);
}

/* The care of the leases: cancels what could not be extended in time, extends the others. */
static void lease_due(evutil_socket_t fd, short what, void *arg)
{
	struct lease *l = arg;
	struct messages *all = l->worker->messages;
	int64_t now = clock_boottime_ms();
	struct pgmqd_msg *m, *next;

	(void)fd, (void)what;
	for (m = TAILQ_FIRST(&all->list[MSG_RUNNING]); m && m->state == MSG_RUNNING; m = next) {
		next = TAILQ_NEXT(m, link);
		if (lease_is_short(l, m->lease_ms))
			settle_cancel(l->settle, m, OUT_RETRY, NULL, "the lease could not be extended in time");
	}
	if (l->worker->up)
		lease_extend(l, now);
	if (!messages_are_none(all))
		loop_timer(l->extend, l->ms / 4);
	l->kick(l->arg);
}

/* Arms the deadline of the message that has been running longest: the first of the list. */
static void lease_deadline_arm(struct lease *l)
{
	struct pgmqd_msg *m = TAILQ_FIRST(&l->worker->messages->list[MSG_RUNNING]);

	if (m)
		loop_timer(l->deadline, m->run_ms + l->deadline_ms - clock_boottime_ms());
}

/* Takes back what has been with the plugin for longer than the deadline. */
static void lease_overrun(evutil_socket_t fd, short what, void *arg)
{
	struct lease *l = arg;
	int64_t now = clock_boottime_ms();
	struct pgmqd_msg *m;

	(void)fd, (void)what;
	while ((m = TAILQ_FIRST(&l->worker->messages->list[MSG_RUNNING])) != NULL &&
		now - m->run_ms >= l->deadline_ms) {
		char *reason = xasprintf("no outcome within the deadline of %lld ms", (long long)l->deadline_ms);

		settle_cancel(l->settle, m, OUT_RETRY, NULL, reason);
		free(reason);
	}
	lease_deadline_arm(l);
	l->kick(l->arg);
}

void lease_started(struct lease *l)
{
	if (l->worker->messages->count[MSG_RUNNING] == 1)
		lease_deadline_arm(l);
}

/* A timer that comes before all others: after a stop (SIGSTOP, suspend) leases have their turn before a plugin's timers
 * go on. */
static struct event *lease_timer(struct lease *l, event_callback_fn cb)
{
	struct event *e = loop_timer_new(l->worker->base, cb, l);

	event_priority_set(e, 0);
	return e;
}

void lease_init(struct lease *l, struct pgmqd_worker *w, struct settle *settle, void (*kick)(void *arg), void *arg)
{
	const struct queue_settings *qs = w->qs;

	*l = (struct lease){ .worker = w, .settle = settle, .kick = kick, .arg = arg, .ms = qs->visibility_timeout };
	l->deadline_ms = qs->deadline ? qs->deadline : 10 * l->ms;
	l->extend = lease_timer(l, lease_due);
	l->deadline = lease_timer(l, lease_overrun);
}

void lease_close(struct lease *l)
{
	event_free(l->extend);
	event_free(l->deadline);
}
