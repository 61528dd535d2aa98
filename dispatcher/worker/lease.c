/* lease.c: leases while a plugin works: extended at a third of the visibility timeout, ended before they run out, and
 * never beyond the handler's deadline.
 */
#include "config.h"

#include "base/clock.h"
#include "base/loop.h"
#include "worker/flow.h"

#include "base/xalloc.h"

#include <stdlib.h>

#define BATCH_MAX 500

/* Leases that are being extended. */
struct extension {
	struct flow *flow;
	int64_t sent_ms;
	size_t n;
	int64_t ids[BATCH_MAX];
	int counts[BATCH_MAX];
};

/* The next look at the leases. */
void lease_arm(struct flow *f)
{
	if (!evtimer_pending(f->lease, NULL))
		loop_timer(f->lease, f->lease_ms / 3);
}

/* The message of that lease if it still waits or runs. */
static struct pgmqd_msg *lease_find(struct flow *f, int64_t id, int count)
{
	struct pgmqd_msg *m;

	for (int s = MSG_WAITING; s <= MSG_RUNNING; s++)
		TAILQ_FOREACH(m, &f->list[s], link)
	if (m->id == id && m->read_ct == count)
		return m;
	return NULL;
}

/* A lease went to somebody else while we held the message: drop it without an outcome. */
static void lease_lost(struct pgmqd_msg *m)
{
	struct flow *f = m->flow;
	struct log_context former = host_enter_msg(m);

	stats_add(f->slot, STAT_LEASE_LOST, 1);
	log_warn("lease lost while the message was %s: dropped here",
		m->state == MSG_RUNNING ? "being handled" : "waiting");
	host_leave(former);
	if (m->state == MSG_RUNNING)
		flow_cancel(m, OUT_RELEASE, NULL, "lease lost");
	flow_forget(m);
}

/* The answer to an extension. */
static void lease_extended(void *arg, const struct queue_settled *s)
{
	struct extension *x = arg;
	struct flow *f = x->flow;

	if (!s->error) {
		for (size_t k = 0; k < x->n; k++) {
			struct pgmqd_msg *m = lease_find(f, x->ids[k], x->counts[k]);

			if (m && s->fate[k] == QUEUE_SETTLED)
				m->lease_ms = x->sent_ms + f->lease_ms;
			else if (m && s->fate[k] == QUEUE_LOST)
				lease_lost(m);
		}
		flow_kick(f);
	} else if (*s->sqlstate) {
		log_error("cannot extend leases: %s (%s)", s->error, s->sqlstate);
	}
	free(x);
}

/* Sends one extension. */
static void lease_extend(struct flow *f, struct pgmqd_msg *const *batch, size_t n, int64_t now)
{
	struct extension *x = xcalloc(1, sizeof(*x));

	x->flow = f;
	x->sent_ms = now;
	x->n = n;
	for (size_t i = 0; i < n; i++) {
		x->ids[i] = batch[i]->id;
		x->counts[i] = batch[i]->read_ct;
	}
	queue_extend(f->queue, batch, n, lease_extended, x);
}

/* Extends what is older than a third of its lease; cancels what could not be extended in time. */
static void lease_due(evutil_socket_t fd, short what, void *arg)
{
	struct flow *f = arg;
	int64_t now = clock_boottime_ms();
	struct pgmqd_msg *m, *next, *batch[BATCH_MAX];
	size_t n = 0;

	(void)fd, (void)what;
	for (m = TAILQ_FIRST(&f->list[MSG_RUNNING]); m && m->state == MSG_RUNNING; m = next) {
		next = TAILQ_NEXT(m, link);
		if (now + f->lease_ms / 10 >= m->lease_ms)
			flow_cancel(m, OUT_RETRY, NULL, "the lease could not be extended in time");
	}
	for (int s = MSG_WAITING; s <= MSG_RUNNING; s++)
		TAILQ_FOREACH(m, &f->list[s], link)
	if (f->ready && m->lease_ms - now <= f->lease_ms * 3 / 4) {
		batch[n++] = m;
		if (n == BATCH_MAX) {
			lease_extend(f, batch, n, now);
			n = 0;
		}
	}
	if (n)
		lease_extend(f, batch, n, now);
	if (f->count[MSG_WAITING] || f->count[MSG_RUNNING])
		loop_timer(f->lease, f->lease_ms / 4);
	flow_kick(f);
}

/* A timer that comes before all others: after a stop (SIGSTOP, suspend) leases are looked at before a plugin's timers
 * go on. */
static struct event *lease_timer(struct flow *f, event_callback_fn cb)
{
	struct event *e = evtimer_new(f->host.base, cb, f);

	if (e)
		event_priority_set(e, 0);
	return e;
}

struct event *lease_event(struct flow *f)
{
	return lease_timer(f, lease_due);
}

/* Takes back what has been with the plugin for longer than the deadline; the list is in order of starting. */
static void lease_overrun(evutil_socket_t fd, short what, void *arg)
{
	struct flow *f = arg;
	int64_t now = clock_boottime_ms();
	struct pgmqd_msg *m;

	(void)fd, (void)what;
	while ((m = TAILQ_FIRST(&f->list[MSG_RUNNING])) != NULL && now - m->run_ms >= f->deadline_ms) {
		char *reason = xasprintf("no outcome within the deadline of %lld ms", (long long)f->deadline_ms);

		flow_cancel(m, OUT_RETRY, NULL, reason);
		free(reason);
	}
	lease_deadline_arm(f);
	flow_kick(f);
}

struct event *lease_deadline_event(struct flow *f)
{
	return lease_timer(f, lease_overrun);
}

/* Arms the deadline of the message that has been running longest. */
void lease_deadline_arm(struct flow *f)
{
	struct pgmqd_msg *m = TAILQ_FIRST(&f->list[MSG_RUNNING]);

	if (m)
		loop_timer(f->deadline, m->run_ms + f->deadline_ms - clock_boottime_ms());
}
