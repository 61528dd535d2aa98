/* delivery.c: waiting messages on their way to the plugin: one by one, or many in one call (`batch`, deliver_batch()).
 *
 * A batch goes when `batch` messages wait, or when its first one has waited for `batch_wait`; while as many calls as
 * max_in_flight allows are with the plugin, messages gather for the next one. A message that has been tried before
 * goes alone, and so does each one after a crash and after a pause, and after a call that failed as a whole: it shows
 * then which message spoils a batch for the others. A crash costs each of them an attempt; with one attempt in all each
 * goes alone.
 */
#include "config.h"

#include "worker/delivery.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/lease.h"
#include "worker/pause.h"
#include "worker/plugin.h"
#include "worker/quarantine.h"
#include "worker/settle.h"

#include <stdlib.h>
#include <string.h>

#define TOLD_EVERY_MS 60000
#define FEED_US 2000 /* deliveries in one round of the loop; then timers and connections have their turn */

/* Why a waiting message cannot be delivered: it gets its outcome here. False when it can. */
static bool delivery_rejects(struct delivery *d, struct pgmqd_msg *m)
{
	struct settle *s = d->parts.settle;

	if (lease_is_short(d->parts.lease, m->lease_ms)) { /* it ran down while the message waited */
		settle_end(s, m, OUT_RELEASE, NULL, 0, xstrdup("the lease ran down before the plugin was free"));
		return true;
	}
	m->started_us = clock_realtime_us();
	if (m->attempt > d->worker->qs->max_attempts)
		settle_end(s, m, OUT_FAIL, "crash", 0,
			xasprintf("attempt %u had no outcome: the plugin crashed, its process was killed, or the "
				  "message is too large for its memory",
				m->attempt - 1));
	else if (m->unreadable)
		settle_end(s, m, OUT_FAIL, "malformed", 0, xstrdup(m->unreadable));
	else if (!m->text && m->text_len) {
		quarantine_withheld(d->parts.quarantine);
		settle_end(s, m, OUT_RETRY, "memory", 0,
			xasprintf("the message is too large for the worker's memory: %zu bytes", m->text_len));
	} else if (!m->text)
		settle_end(s, m, OUT_FAIL, "malformed", 0, xstrdup("the message is an SQL null"));
	else
		return false;
	return true;
}

/* Says that the headers then and else are of no use in this queue, but not for each message. */
static void delivery_tell_then(struct delivery *d, const struct pgmqd_msg *m)
{
	int64_t now = clock_boottime_ms();
	struct log_context former;

	if (!m->headers || (d->worker->qs->then && *d->worker->qs->then) ||
		(d->told_ms && now - d->told_ms < TOLD_EVERY_MS) ||
		(!strstr(m->headers, "\"then\": {") && !strstr(m->headers, "\"else\": {")))
		return;
	d->told_ms = now;
	former = plugin_call_enter_msg(m);
	log_warn("the headers then and else are not followed: the queue's section has no setting then");
	plugin_call_leave(former);
}

/* From here on the message is in the plugin's hands. */
static void delivery_begin(struct delivery *d, struct pgmqd_msg *m)
{
	stats_observe(d->worker->slot, HIST_WAIT, m->started_us - m->due_us);
	m->run_ms = clock_boottime_ms();
	delivery_tell_then(d, m);
	message_move(m, MSG_RUNNING);
	lease_started(d->parts.lease);
}

/* ---- how many ---- */

/* Whether the queue is on trial after a pause: one message at a time. */
static bool delivery_on_trial(const struct delivery *d)
{
	return d->parts.pause->state == PAUSE_TRIAL;
}

/* Whether a waiting message goes without others: also when it has one attempt in all, which a batch could cost it. */
static bool goes_alone(const struct delivery *d, const struct pgmqd_msg *m)
{
	return d->batch <= 1 || delivery_on_trial(d) || quarantine_is_careful(d->parts.quarantine) || m->attempt > 1 ||
	       m->apart || d->worker->qs->max_attempts <= 1;
}

/* Whether the plugin can take another message alone. */
static bool may_go_alone(const struct delivery *d)
{
	return d->worker->messages->count[MSG_RUNNING] == 0 ||
	       (!delivery_on_trial(d) && (d->batch > 1 ? d->worker->messages->calls
						       : d->worker->messages->count[MSG_RUNNING]) < d->limit);
}

/* Whether a batch of `waiting` messages has been waited for: it is full, or its time is up. */
static bool batch_is_due(struct delivery *d, unsigned waiting)
{
	int64_t now = clock_boottime_ms(), left;

	if (waiting >= d->batch)
		return true;
	if (!d->since_ms)
		d->since_ms = now;
	left = d->since_ms + d->worker->qs->batch_wait - now;
	if (left > 0 && !evtimer_pending(d->wait, NULL))
		loop_timer(d->wait, left);
	return left <= 0;
}

/* How many messages the next call is for; 0: none can be made now. */
static unsigned delivery_size(struct delivery *d)
{
	const struct messages *all = d->worker->messages;
	const struct pgmqd_msg *first = TAILQ_FIRST(&all->list[MSG_WAITING]);
	unsigned waiting = all->count[MSG_WAITING];

	if (!first) {
		d->since_ms = 0;
		return 0;
	}
	if (goes_alone(d, first))
		return may_go_alone(d) ? 1 : 0;
	if (!batch_is_due(d, waiting) || all->calls >= d->batches)
		return 0;
	d->since_ms = 0;
	return waiting < d->batch ? waiting : d->batch;
}

unsigned delivery_window(const struct delivery *d)
{
	unsigned running = d->worker->messages->count[MSG_RUNNING];

	if (delivery_on_trial(d))
		return 1;
	if (d->batch <= 1)
		return d->limit;
	return d->worker->messages->calls < d->batches ? running + d->batch : running;
}

/* ---- the calls ---- */

/* Hands `n` messages over in one call, or fewer when one of them has to go alone. False: none may go now. */
static bool delivery_batch(struct delivery *d, unsigned n, bool claiming)
{
	struct pgmqd_msg **msgs = xcalloc(n, sizeof(msgs[0])), *m;
	size_t got = 0;
	bool any = false;

	while (got < n && (m = quarantine_next(d->parts.quarantine, claiming)) != NULL) {
		if (got && goes_alone(d, m))
			break;
		any = true;
		if (delivery_rejects(d, m))
			continue;
		delivery_begin(d, m);
		msgs[got++] = m;
	}
	if (got) {
		message_call(msgs, got);
		plugin_call_deliver_batch(d->worker, msgs, got);
	}
	free(msgs);
	return any;
}

/* Hands one message over. False: none may go now. */
static bool delivery_one(struct delivery *d, bool claiming)
{
	struct pgmqd_msg *m = quarantine_next(d->parts.quarantine, claiming);

	if (!m)
		return false;
	if (delivery_rejects(d, m))
		return true;
	delivery_begin(d, m);
	if (d->batch > 1) {
		message_call(&m, 1);
		plugin_call_deliver_batch(d->worker, &m, 1);
	} else {
		plugin_call_deliver(m);
	}
	return true;
}

bool delivery_feed(struct delivery *d, bool claiming)
{
	int64_t until = clock_monotonic_us() + FEED_US;
	unsigned n;

	while (!pause_holds(d->parts.pause) && (n = delivery_size(d)) > 0) {
		if (n > 1 ? !delivery_batch(d, n, claiming) : !delivery_one(d, claiming))
			return false;
		if (clock_monotonic_us() >= until)
			return true;
	}
	return false;
}

/* A batch has waited long enough. */
static void delivery_waited(evutil_socket_t fd, short what, void *arg)
{
	struct delivery *d = arg;

	(void)fd, (void)what;
	d->kick(d->arg);
}

void delivery_apart(struct pgmqd_msg *m)
{
	message_end_resources(m);
	free(m->sends);
	m->sends = NULL;
	m->data = NULL;
	m->apart = true;
	message_move(m, MSG_WAITING);
}

/* ---- life ---- */

void delivery_init(struct delivery *d, struct pgmqd_worker *w, const struct delivery_parts *parts,
	void (*kick)(void *arg), void *arg)
{
	const struct queue_settings *qs = w->qs;
	unsigned most = w->plugin->d.max_in_flight;

	*d = (struct delivery){ .worker = w, .parts = *parts, .kick = kick, .arg = arg, .batch = 1 };
	d->limit = (unsigned)qs->max_in_flight;
	if (most && most < d->limit)
		d->limit = most;
	if (w->plugin->d.deliver_batch && qs->batch > 1)
		d->batch = most && most < qs->batch ? most : (unsigned)qs->batch;
	d->batches = d->limit > d->batch ? d->limit / d->batch : 1;
	d->wait = loop_timer_new(w->base, delivery_waited, d);
}

void delivery_close(struct delivery *d)
{
	event_free(d->wait);
}
