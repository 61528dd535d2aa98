/* settle.c: outcomes and their way to the database: decided, batched, fenced, kept until they are stored.
 *
 * One round of statements at a time, one statement per kind of outcome: what is settled while a round is under way goes
 * with the next one, so a busy queue settles in batches and an idle one without delay.
 *
 * An outcome that is known is never lost, and its message is never run again because of an error of the database: an
 * error that passes sends it again; an error of its content is narrowed down to the one message, which is then
 * dead-lettered with the cause; and if that is refused, too, the outcome stays in memory, its lease is extended, and
 * the log says so. Where the plugin's statement writes down what has happened (`records` in its descriptor) and only
 * the archive cannot be written, that statement runs alone, so that the effect is known after the end of this process,
 * too.
 */
#include "config.h"

#include "worker/settle.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/plugin.h"
#include "worker/queue.h"
#include "worker/settle_record.h"
#include "worker/spans.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 1000
#define SHARED_MAX 500      /* messages that share a plugin's own statement */
#define AGAIN_MS 1000       /* after an error that passes */
#define AGAIN_MAX_MS 30000  /* after many of them in a row, and for what is kept in memory */
#define TOLD_EVERY_MS 10000 /* the same refusal is logged so often */
#define INSISTS 2           /* refusals of a batch for a passing reason, and then one of its messages may be at fault */

/* One statement under way. */
struct batch {
	struct settle *settle;
	enum msg_outcome outcome;
	enum settle_lane lane;
	bool again;
	size_t n;
	struct pgmqd_msg *msgs[];
};

/* ---- the decision ---- */

int64_t settle_place(const struct pgmqd_msg *m)
{
	int64_t waited = (clock_realtime_us() - m->due_us) / 1000;

	return waited > 0 ? -waited : 0;
}

int64_t settle_patience(const struct pgmqd_msg *m)
{
	const struct queue_settings *qs = m->worker->qs;
	int64_t age = (clock_realtime_us() - m->enqueued_us) / 1000;
	int64_t most = age < qs->backoff_max ? age : qs->backoff_max;

	return backoff_retry((unsigned)m->read_ct, qs->backoff_min, most, backoff_random());
}

void settle_end(struct settle *s, struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, int64_t delay_ms,
	char *reason)
{
	const struct queue_settings *qs = s->worker->qs;

	free(m->reason);
	m->reason = reason;
	m->class = class;
	if (outcome == OUT_RETRY && m->attempt >= qs->max_attempts) {
		outcome = OUT_FAIL;
		m->class = class ? class : "attempts";
	} else if (outcome == OUT_RETRY && delay_ms <= 0) {
		delay_ms = backoff_retry(m->attempt, qs->backoff_min, qs->backoff_max, backoff_random());
	}
	if (outcome == OUT_FAIL && !m->class)
		m->class = "permanent";
	m->outcome = outcome;
	m->delay_ms = delay_ms;
	m->again = false;
	m->batch_max = m->refused = m->renewed = 0;
	m->send_at_ms = 0;
	m->ended_us = clock_realtime_us();
	m->settled_in = plugin_call_serial;
	if (m->started_us)
		stats_observe(s->worker->slot, HIST_RUN, m->ended_us - m->started_us);
	message_end_resources(m);
	message_move(m, MSG_SETTLED);
	s->events->kick(s->arg);
}

void settle_cancel(
	struct settle *s, struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, const char *reason)
{
	plugin_call_cancel(m);
	settle_end(s, m, outcome, class, 0, xstrdup(reason));
}

/* Another claim of this worker holds a message that has its outcome: a retry is decided anew, attempts may be over. */
static void settle_adopted(struct settle *s, struct pgmqd_msg *m)
{
	char *reason = m->reason;

	m->again = m->outcome != OUT_DONE_WITH;
	if (m->outcome != OUT_RETRY)
		return;
	m->reason = NULL;
	settle_end(s, m, OUT_RETRY, m->class, m->delay_ms, reason);
}

bool settle_reclaimed(struct settle *s, const struct pgmqd_msg *row, int64_t until_ms)
{
	struct pgmqd_msg *m = message_find(s->worker->messages, row->id, row->born_us);

	if (!m)
		return false;
	message_adopt(m, row);
	if (m->state == MSG_SETTLED)
		settle_adopted(s, m);
	m->lease_ms = until_ms;
	return true;
}

/* ---- what became of it ---- */

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
	case OUT_CANCEL:
		return STAT_CANCELLED;
	default:
		return STAT_DONE;
	}
}

/* The one line that a settled message leaves at level info. */
static void settle_log(const struct pgmqd_msg *m)
{
	enum log_level level = m->outcome == OUT_FAIL ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
	struct log_context former;
	struct log_field fields[8];
	char when[CLOCK_STAMP_SIZE];
	int n = 0;

	if (log_threshold < level)
		return;
	former = plugin_call_enter_msg(m);
	fields[n++] = LOG_STR("outcome", outcome_name(m->outcome));
	fields[n++] = LOG_INT("attempt", m->attempt);
	if (m->started_us) {
		fields[n++] = LOG_STR("started", clock_stamp(m->started_us, when));
		fields[n++] = LOG_MS("wait_ms", (double)(m->started_us - m->due_us) / 1000);
		fields[n++] = LOG_MS("run_ms", (double)(m->ended_us - m->started_us) / 1000);
	}
	if (m->outcome == OUT_RETRY || m->outcome == OUT_FAIL || m->outcome == OUT_RELEASE || m->outcome == OUT_CANCEL)
		fields[n++] = LOG_STR("reason", m->reason);
	if (m->outcome == OUT_RETRY)
		fields[n++] = LOG_INT("delay_ms", m->delay_ms);
	fields[n] = LOG_END;
	log_write(level, fields, "settled");
	plugin_call_leave(former);
}

/* The database has it: one message is through. */
static void settle_done(struct settle *s, struct pgmqd_msg *m)
{
	if (m->outcome == OUT_RETRY || m->outcome == OUT_CONFIG || m->outcome == OUT_RELEASE)
		s->events->due(s->arg, m->delay_ms > 0 ? m->delay_ms + 1 : 1);
	stats_add(s->worker->slot, counter_of(m->outcome), 1);
	stats_observe(s->worker->slot, HIST_SETTLE, clock_realtime_us() - m->ended_us);
	settle_log(m);
	spans_settled(m);
	message_forget(m);
}

/* The claim under which the outcome was sent does not hold the message any more: nothing of it was accepted. Where this
 * worker has claimed the message anew meanwhile, the outcome goes out under that claim; else another worker has it. */
static void settle_lost(struct settle *s, struct pgmqd_msg *m)
{
	struct log_context former;

	if (m->adopted) {
		message_move(m, MSG_SETTLED);
		settle_adopted(s, m);
		return;
	}
	if (m->lease_ms > clock_boottime_ms())
		s->events->doubt(s->arg);
	former = plugin_call_enter_msg(m);
	stats_add(s->worker->slot, STAT_LEASE_LOST, 1);
	log_warn("lease lost: outcome \"%s\" of attempt %u refused, the message belongs to another worker",
		outcome_name(m->outcome), m->attempt);
	plugin_call_leave(former);
	message_forget(m);
}

/* ---- errors ---- */

/* Lets a message wait before its outcome is sent again: longer after each refusal in a row. */
static void settle_wait(struct settle *s, struct pgmqd_msg *m)
{
	int64_t ms = AGAIN_MS;

	for (unsigned i = 0; i < m->refused && ms < AGAIN_MAX_MS; i++)
		ms *= 2;
	if (m->refused < 16)
		m->refused++;
	if (m->stuck || ms > AGAIN_MAX_MS)
		ms = AGAIN_MAX_MS;
	m->send_at_ms = clock_boottime_ms() + ms;
	if (!evtimer_pending(s->again, NULL))
		loop_timer(s->again, AGAIN_MS);
}

/* Puts a batch back to be sent later: in parts of `batch_max` messages at most (0: any number), after a pause if
 * `wait`. */
static void settle_back(struct batch *b, bool again, size_t batch_max, bool wait)
{
	for (size_t i = 0; i < b->n; i++) {
		struct pgmqd_msg *m = b->msgs[i];

		m->again = m->again || again;
		if (batch_max)
			m->batch_max = (unsigned)batch_max;
		message_move(m, MSG_SETTLED);
		if (wait)
			settle_wait(b->settle, m);
	}
}

/* Logs a refusal, but not each time when it comes again and again. */
static void settle_refused(struct settle *s, const struct batch *b, const struct queue_settled *a, const char *follows)
{
	int64_t now = clock_boottime_ms();

	stats_error(s->worker->slot, a->error);
	if (s->told_ms && now - s->told_ms < TOLD_EVERY_MS)
		return;
	s->told_ms = now;
	log_error("cannot settle %zu messages as \"%s\": %s (%s); %s", b->n, outcome_name(b->outcome), a->error,
		a->sqlstate, follows);
}

/* The plugin's own text is at fault: its attempt is over. */
static void settle_blame_plugin(struct settle *s, struct pgmqd_msg *m, const struct queue_settled *a)
{
	struct log_context former = plugin_call_enter_msg(m);
	char *reason = xasprintf("the database refused the plugin's statement: %s (%s)", a->error, a->sqlstate);

	log_error("%s", reason);
	settle_end(s, m, OUT_RETRY, NULL, 0, reason);
	plugin_call_leave(former);
}

/* The outcome of this one message cannot be stored because of its content: it is dead-lettered with the cause; and if
 * that cannot be stored either, it stays in memory, where its lease is extended. It is never run again. */
static void settle_isolate(struct settle *s, struct pgmqd_msg *m, const struct queue_settled *a)
{
	struct log_context former = plugin_call_enter_msg(m);

	if (!m->stuck && m->outcome != OUT_FAIL && queue_has_dlq(s->worker->queue)) {
		char *reason = xasprintf("the outcome \"%s\" could not be stored: %s (%s)", outcome_name(m->outcome),
			a->error, a->sqlstate);

		log_error("%s; it becomes a dead letter", reason);
		settle_end(s, m, OUT_FAIL, "unstored", 0, reason);
	} else {
		if (!m->stuck)
			log_error("cannot settle as \"%s\": %s (%s); the outcome is kept in memory and the message is "
				  "not run again "
				  "while this process lives",
				outcome_name(m->outcome), a->error, a->sqlstate);
		m->stuck = true;
		stats_error(s->worker->slot, a->error);
		message_move(m, MSG_SETTLED);
		settle_wait(s, m);
	}
	plugin_call_leave(former);
}

/* Whether the statement of the plugin may run alone, now that it failed with the archive and not by itself. */
static bool settle_may_record(
	const struct settle *s, const struct batch *b, const struct queue_settled *a, enum sqlstate_class class)
{
	return s->worker->plugin->d.records && b->lane == SETTLE_PLUGINS && a->ours && class != SQLSTATE_CONNECTION &&
	       class != SQLSTATE_READ_ONLY;
}

/* Whether one of the messages has had the tables looked at again, or the session made anew, without any help to it. */
static bool batch_was_renewed(const struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->msgs[i]->renewed > INSISTS)
			return true;
	return false;
}

/* The class of a batch's error. A trigger may raise any SQLSTATE: what does not help it is not done again and again. */
static enum sqlstate_class settle_class(const struct batch *b, const struct queue_settled *a)
{
	enum sqlstate_class c = b->lane == SETTLE_PLUGINS && !a->ours ? sqlstate_class_plugin(a->sqlstate)
	                                                              : sqlstate_class(a->sqlstate);

	if ((c == SQLSTATE_STALE || c == SQLSTATE_READ_ONLY) && batch_was_renewed(b))
		return SQLSTATE_RESOURCES;
	return b->outcome == OUT_REPLACE && sqlstate_blames_row(c) ? SQLSTATE_PLUGIN : c;
}

/* The tables are looked at again, or the session is made anew: then the outcomes go out again. */
static void settle_renewed(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		b->msgs[i]->renewed++;
	settle_back(b, false, 0, false);
}

/* An error that passes: the batch goes out again after a while, and when that does not help, in parts, so that one of
 * its messages does not hold the others up. */
static void settle_again(struct settle *s, struct batch *b, const struct queue_settled *a, enum sqlstate_class class)
{
	bool unsure = class == SQLSTATE_CONNECTION; /* it may have been done or not, though the session lives */
	bool insists = b->msgs[0]->refused >= INSISTS || b->msgs[0]->renewed > INSISTS || b->msgs[0]->batch_max;

	settle_refused(s, b, a, "trying again");
	if (b->n > 1 && insists)
		settle_back(b, unsure, (b->n + 1) / 2, false);
	else
		settle_back(b, unsure, 0, true);
}

/* The database has refused a batch. */
static void settle_failed(struct settle *s, struct batch *b, const struct queue_settled *a)
{
	enum sqlstate_class class = settle_class(b, a);

	if (settle_may_record(s, b, a, class))
		settle_record(s->worker, b->msgs, b->n, s->events->kick, s->arg);
	if (class == SQLSTATE_CONNECTION && !*a->sqlstate) {
		settle_back(b, true, 0, false); /* it may have been done or not */
	} else if (class == SQLSTATE_READ_ONLY) {
		settle_refused(s, b, a, "connecting anew");
		settle_renewed(b);
		s->events->read_only(s->arg);
	} else if (class == SQLSTATE_STALE) {
		if (s->worker->up)
			settle_refused(s, b, a, "looking at the queue's tables again");
		settle_renewed(b);
		s->events->stale(s->arg);
	} else if (class == SQLSTATE_LOCK && b->n > 1) {
		/* what is locked is not to hold up the others; each part of done_with waits for a lock anew */
		settle_back(b, false, (b->n + 1) / 2, b->lane == SETTLE_PLUGINS);
	} else if (sqlstate_passes(class)) {
		settle_again(s, b, a, class);
	} else if (b->n > 1) {
		settle_back(b, false, (b->n + 1) / 2, false); /* one of them spoils it for the others */
	} else if (class == SQLSTATE_PLUGIN) {
		settle_blame_plugin(s, b->msgs[0], a);
	} else {
		settle_isolate(s, b->msgs[0], a);
	}
}

/* ---- answers ---- */

/* Takes the result of one message of a batch. */
static void settle_fate(struct settle *s, struct pgmqd_msg *m, enum queue_fate fate)
{
	if (fate == QUEUE_SETTLED) {
		settle_done(s, m);
	} else if (fate == QUEUE_LOCKED) {
		message_move(m, MSG_SETTLED);
		settle_wait(s, m);
	} else if (fate == QUEUE_REFUSED) {
		settle_isolate(
			s, m, &(struct queue_settled){ .error = QUEUE_REFUSED_ERROR, .sqlstate = QUEUE_REFUSED_STATE });
	} else if (m->outcome == OUT_DONE_WITH && m->unsure < 2) {
		m->again = false; /* the first try did not commit, or not yet: it is sent as if for the first time */
		m->unsure = 1;
		message_move(m, MSG_SETTLED);
	} else {
		settle_lost(s, m);
	}
}

/* The plugin's statement and the archive were committed together, or a lease of the batch was lost. */
static void settle_done_with(struct settle *s, struct batch *b, const struct queue_settled *a)
{
	if (a->lost && b->n > 1) {
		settle_back(b, false, (b->n + 1) / 2, false); /* the parts tell whose it was */
		return;
	}
	for (size_t i = 0; i < b->n; i++) {
		struct pgmqd_msg *m = b->msgs[i];

		if (!a->lost) {
			settle_done(s, m);
		} else if (m->unsure == 1) { /* the first try committed after it was asked for */
			m->unsure = 2;
			m->again = true;
			message_move(m, MSG_SETTLED);
		} else {
			settle_lost(s, m);
		}
	}
}

/* The answer for one batch. */
static void settle_answered(void *arg, const struct queue_settled *a)
{
	struct batch *b = arg;
	struct settle *s = b->settle;

	s->under_way[b->lane]--;
	if (a->error) {
		settle_failed(s, b, a);
	} else if (b->outcome == OUT_DONE_WITH && !b->again) {
		settle_done_with(s, b, a);
	} else {
		for (size_t i = 0; i < b->n; i++)
			settle_fate(s, b->msgs[i], a->fate[i]);
	}
	free(b);
	s->events->kick(s->arg);
}

/* ---- sending ---- */

/* Without a dead-letter queue a failed message is kept and tried again, seldom; but not one that has had its effect. */
static void settle_without_dlq(struct settle *s)
{
	struct pgmqd_msg *m;

	TAILQ_FOREACH(m, &s->worker->messages->list[MSG_SETTLED], link)
	{
		if (m->outcome == OUT_FAIL && !m->stuck) {
			struct log_context former = plugin_call_enter_msg(m);
			int64_t delay = (int64_t)s->worker->qs->backoff_max;

			log_error("failed for good, but the queue has no dead-letter queue: kept, seen again in %lld s "
				  "(%s)",
				(long long)delay / 1000, m->reason ? m->reason : "no reason");
			plugin_call_leave(former);
			m->outcome = OUT_RETRY;
			m->delay_ms = delay;
		}
	}
}

/* Whether a message can go with a batch: the same kind, and for a plugin's statement the same text. */
static bool batch_takes(const struct batch *b, const struct pgmqd_msg *m)
{
	const struct pgmqd_msg *first = b->msgs[0];

	if (m->batch_max && b->n >= m->batch_max)
		return false;
	if (first->batch_max && b->n >= first->batch_max)
		return false;
	if (b->outcome == OUT_REPLACE)
		return false;
	if (b->outcome != OUT_DONE_WITH || b->again)
		return b->n < BATCH_MAX;
	return b->n < SHARED_MAX && first->shared && m->shared && m->nparams == first->nparams &&
	       strcmp(m->sql, first->sql) == 0;
}

/* Gathers settled messages that can share a statement; NULL when there are none. */
static struct batch *batch_gather(struct settle *s, enum msg_outcome outcome, bool again)
{
	int64_t now = clock_boottime_ms();
	struct message_numbers numbers = { 0 };
	struct batch *b = NULL;

	for (struct pgmqd_msg *m = TAILQ_FIRST(&s->worker->messages->list[MSG_SETTLED]), *next; m; m = next) {
		next = TAILQ_NEXT(m, link);
		if (m->outcome != outcome || m->again != again || m->unheard || m->send_at_ms > now ||
			(b && !batch_takes(b, m)) ||
			message_number_in(&numbers, b ? b->msgs : NULL, b ? b->n : 0, m->id))
			continue;
		if (!b) {
			b = xcalloc(1, sizeof(*b) + BATCH_MAX * sizeof(b->msgs[0]));
			b->settle = s;
			b->outcome = outcome;
			b->lane = outcome == OUT_DONE_WITH && !again ? SETTLE_PLUGINS : SETTLE_OURS;
			b->again = again;
		}
		b->msgs[b->n++] = m;
		m->adopted = false;
		message_move(m, MSG_SENT);
	}
	return b;
}

/* Sends one statement for as many settled messages as can share it; false when there are none. */
static bool settle_batch(struct settle *s, enum msg_outcome outcome, bool again)
{
	struct batch *b = batch_gather(s, outcome, again);
	struct pgmqd_worker *w = s->worker;

	if (!b)
		return false;
	s->under_way[b->lane]++;
	queue_settle(w->queue, outcome, b->msgs, b->n, again, settle_answered, b);
	s->events->sent(s->arg);
	if (outcome == OUT_RELEASE &&
		s->draining) /* other dispatchers of this queue need not wait for their next poll */
		queue_announce(w->queue, w->settings->channel);
	return true;
}

/* Sends the batches of one kind, as long as the lane is open. */
static void settle_kind(struct settle *s, enum msg_outcome outcome, bool again)
{
	for (unsigned rounds = 0; rounds < BATCH_MAX && s->worker->up && settle_batch(s, outcome, again); rounds++)
		;
}

void settle_send(struct settle *s)
{
	bool busy[SETTLE_NLANES] = { s->under_way[SETTLE_OURS] > 0, s->under_way[SETTLE_PLUGINS] > 0 };

	if (!s->worker->up || !s->worker->messages->count[MSG_SETTLED])
		return;
	if (!queue_has_dlq(s->worker->queue))
		settle_without_dlq(s);
	for (int o = OUT_DONE; o < OUT_NOUTCOMES; o++)
		for (int again = 0; again < 2; again++)
			if (!busy[o == OUT_DONE_WITH && !again ? SETTLE_PLUGINS : SETTLE_OURS])
				settle_kind(s, (enum msg_outcome)o, again);
}

/* Outcomes that had to wait are due; the timer goes on as long as there are any. */
static void settle_due(evutil_socket_t fd, short what, void *arg)
{
	struct settle *s = arg;
	struct pgmqd_msg *m;

	(void)fd, (void)what;
	TAILQ_FOREACH(m, &s->worker->messages->list[MSG_SETTLED], link)
	if (m->send_at_ms > clock_boottime_ms()) {
		loop_timer(s->again, AGAIN_MS);
		break;
	}
	s->events->kick(s->arg);
}

void settle_connected(struct settle *s)
{
	struct pgmqd_msg *m;

	TAILQ_FOREACH(m, &s->worker->messages->list[MSG_SETTLED], link)
	{
		m->send_at_ms = 0;
		m->refused = 0;
	}
}

/* ---- life ---- */

void settle_init(struct settle *s, struct pgmqd_worker *w, const struct settle_events *events, void *arg)
{
	*s = (struct settle){ .worker = w, .events = events, .arg = arg };
	s->again = loop_timer_new(w->base, settle_due, s);
}

void settle_close(struct settle *s)
{
	event_free(s->again);
}
