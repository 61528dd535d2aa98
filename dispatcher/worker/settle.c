/* settle.c: outcomes to the database: batched, fenced, and told again when the answer was lost.
 *
 * One round of statements at a time, one statement per kind of outcome: what is settled while a round is under way goes
 * with the next one, so a busy queue settles in batches and an idle one without delay.
 */
#include "config.h"

#include "base/clock.h"
#include "base/loop.h"
#include "worker/flow.h"

#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_MAX 1000
#define SHARED_MAX 500 /* messages that share a plugin's own statement */
#define AGAIN_MS 1000  /* after an error that passes */

/* One statement under way. */
struct batch {
	struct flow *flow;
	enum msg_outcome outcome;
	bool again;
	size_t n;
	struct pgmqd_msg *msgs[];
};

/* Which counter an outcome goes to. */
static enum stats_counter counter_of(enum msg_outcome o)
{
	switch (o) {
	case OUT_RETRY:
		return STAT_RETRIED;
	case OUT_FAIL:
		return STAT_FAILED;
	case OUT_REPLACE:
		return STAT_REPLACED;
	case OUT_RELEASE:
	case OUT_CONFIG:
		return STAT_RELEASED;
	default:
		return STAT_DONE;
	}
}

/* Real time as RFC 3339 with microseconds. */
static const char *stamp(int64_t us, char *buf, size_t size)
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, size - n, ".%06lldZ", (long long)(us % 1000000));
	return buf;
}

/* The one line that a settled message leaves at level info. */
static void settle_log(const struct pgmqd_msg *m)
{
	bool bad = m->outcome == OUT_RETRY || m->outcome == OUT_FAIL;
	enum log_level level = m->outcome == OUT_FAIL ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
	struct log_context former;
	struct log_field fields[8];
	char when[40];
	int n = 0;

	if (log_threshold < level)
		return;
	former = host_enter_msg(m);
	fields[n++] = LOG_STR("outcome", outcome_name(m->outcome));
	fields[n++] = LOG_INT("attempt", m->attempt);
	if (m->started_us) {
		fields[n++] = LOG_STR("started", stamp(m->started_us, when, sizeof(when)));
		fields[n++] = LOG_MS("wait_ms", (double)(m->started_us - m->due_us) / 1000);
		fields[n++] = LOG_MS("run_ms", (double)(m->ended_us - m->started_us) / 1000);
	}
	if (bad || m->outcome == OUT_RELEASE)
		fields[n++] = LOG_STR("reason", m->reason);
	if (m->outcome == OUT_RETRY)
		fields[n++] = LOG_INT("delay_ms", m->delay_ms);
	fields[n] = LOG_END;
	log_write(level, fields, "settled");
	host_leave(former);
}

/* The database has it: one message is through. */
static void settle_done(struct pgmqd_msg *m)
{
	if (m->outcome == OUT_RETRY || m->outcome == OUT_CONFIG || m->outcome == OUT_RELEASE)
		wakeup_due_by(m->flow, m->delay_ms + 1);
	stats_add(m->flow->slot, counter_of(m->outcome), 1);
	stats_observe(m->flow->slot, HIST_SETTLE, clock_realtime_us() - m->ended_us);
	settle_log(m);
	flow_forget(m);
}

/* Somebody else holds the message now, or has settled it: nothing of ours was accepted. */
static void settle_lost(struct pgmqd_msg *m)
{
	struct log_context former = host_enter_msg(m);

	stats_add(m->flow->slot, STAT_LEASE_LOST, 1);
	log_warn("lease lost: outcome \"%s\" of attempt %u refused, the message belongs to somebody else",
		outcome_name(m->outcome), m->attempt);
	host_leave(former);
	flow_forget(m);
}

/* A single message whose outcome the database refuses for a reason of its own. */
static void settle_refused(struct pgmqd_msg *m, const struct queue_settled *s)
{
	struct flow *f = m->flow;
	struct log_context former = host_enter_msg(m);

	if (m->outcome == OUT_DONE_WITH || m->outcome == OUT_REPLACE) { /* the plugin's own text is at fault */
		char *reason = xasprintf("the database refused the plugin's statement: %s (%s)", s->error, s->sqlstate);

		log_error("%s", reason);
		flow_end(m, OUT_RETRY, NULL, 0, reason);
	} else {
		stats_error(f->slot, s->error);
		log_error("cannot settle as \"%s\": %s (%s); trying again", outcome_name(m->outcome), s->error,
			s->sqlstate);
		flow_move(m, MSG_SETTLED);
		loop_timer(f->again, AGAIN_MS);
	}
	host_leave(former);
}

/* Puts a batch back to be sent later. */
static void settle_back(struct batch *b, bool again, bool alone)
{
	for (size_t i = 0; i < b->n; i++) {
		b->msgs[i]->again = b->msgs[i]->again || again;
		b->msgs[i]->alone = alone;
		flow_move(b->msgs[i], MSG_SETTLED);
	}
}

/* What became of one message of a batch. */
static void settle_fate(struct pgmqd_msg *m, enum queue_fate fate)
{
	if (fate == QUEUE_SETTLED) {
		settle_done(m);
	} else if (fate == QUEUE_LOCKED) {
		flow_move(m, MSG_SETTLED);
		loop_timer(m->flow->again, AGAIN_MS);
	} else if (m->outcome == OUT_DONE_WITH) {
		m->again = false; /* the first try did not commit: as if for the first time */
		flow_move(m, MSG_SETTLED);
	} else {
		settle_lost(m);
	}
}

/* The answer for one batch. */
static void settle_answered(void *arg, const struct queue_settled *s)
{
	struct batch *b = arg;
	struct flow *f = b->flow;

	f->settling--;
	if (s->error && !*s->sqlstate) {
		settle_back(b, true, false); /* the connection is gone: it may have been done or not */
	} else if (s->error && queue_is_stale(s->sqlstate) && b->outcome != OUT_DONE_WITH) {
		if (f->ready) {
			stats_error(f->slot, s->error);
			log_error("cannot settle as \"%s\": %s (%s); looking at the queue's tables again",
				outcome_name(b->outcome), s->error, s->sqlstate);
		}
		settle_back(b, false, false);
		flow_stale(f);
	} else if (s->error && b->n > 1) {
		settle_back(b, false, true); /* one of them spoils it for the others: one by one */
	} else if (s->error) {
		settle_refused(b->msgs[0], s);
	} else if (b->outcome == OUT_DONE_WITH && !b->again) {
		if (s->lost && b->n > 1)
			settle_back(b, false, true); /* one by one will tell whose it was */
		else
			for (size_t i = 0; i < b->n; i++)
				(s->lost ? settle_lost : settle_done)(b->msgs[i]);
	} else {
		for (size_t i = 0; i < b->n; i++)
			settle_fate(b->msgs[i], s->fate[i]);
	}
	free(b);
	flow_tick(f);
}

/* Without a dead-letter queue a failed message is kept and tried again, seldom. */
static void settle_without_dlq(struct flow *f)
{
	struct pgmqd_msg *m;

	TAILQ_FOREACH(m, &f->list[MSG_SETTLED], link)
	if (m->outcome == OUT_FAIL && !queue_has_dlq(f->queue)) {
		struct log_context former = host_enter_msg(m);

		log_error("failed for good, but the queue has no dead-letter queue: kept, seen again in %lld s (%s)",
			(long long)f->qs->backoff_max / 1000, m->reason ? m->reason : "no reason");
		host_leave(former);
		m->outcome = OUT_RETRY;
		m->delay_ms = f->qs->backoff_max;
	}
}

/* Sends one statement for as many settled messages as can share it; false when there are none. */
static bool settle_batch(struct flow *f, enum msg_outcome outcome, bool again)
{
	bool by_text = outcome == OUT_DONE_WITH && !again;
	struct batch *b = NULL;
	struct pgmqd_msg *m, *next;

	for (m = TAILQ_FIRST(&f->list[MSG_SETTLED]); m; m = next) {
		next = TAILQ_NEXT(m, link);
		if (m->outcome != outcome || m->again != again || (m->alone && b))
			continue;
		if (b && by_text &&
			(!m->shared || m->nparams != b->msgs[0]->nparams || strcmp(m->sql, b->msgs[0]->sql) != 0))
			continue;
		if (!b) {
			b = xcalloc(1, sizeof(*b) + BATCH_MAX * sizeof(b->msgs[0]));
			b->flow = f;
			b->outcome = outcome;
			b->again = again;
		}
		b->msgs[b->n++] = m;
		flow_move(m, MSG_SENT);
		if (b->n == (by_text ? SHARED_MAX : BATCH_MAX) || m->alone || outcome == OUT_REPLACE ||
			(by_text && !m->shared))
			break;
	}
	if (!b)
		return false;
	f->settling++;
	queue_settle(f->queue, outcome, b->msgs, b->n, again, settle_answered, b);
	wakeup_next(f);
	if (outcome == OUT_RELEASE &&
		f->draining) /* other dispatchers of this queue need not wait for their next poll */
		queue_announce(f->queue, f->settings->channel);
	return true;
}

void settle_send(struct flow *f)
{
	if (!f->ready || f->settling || !f->count[MSG_SETTLED] || evtimer_pending(f->again, NULL))
		return;
	settle_without_dlq(f);
	for (int o = OUT_DONE; o < OUT_NOUTCOMES; o++)
		for (int again = 0; again < 2; again++)
			for (unsigned rounds = 0; rounds < BATCH_MAX && settle_batch(f, (enum msg_outcome)o, again);
				rounds++)
				if (!f->ready)
					return;
}
