/* flow.c: the message path of one queue: claim, deliver, settle.
 *
 *   wake-up, due timer, poll -> claim -> WAITING -> deliver -> RUNNING -> outcome -> SETTLED -> SENT -> gone
 *
 * One claim is under way at a time: a wake-up that comes meanwhile leads to another one. Nothing here waits:
 * flow_kick() does what can be done now, and every event that changes what can be done calls it. When to claim
 * (wakeup), outcomes (settle), leases, pauses and the time after a crash (quarantine) have files of their own.
 */
#include "config.h"

#include "worker/flow.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "worker/cancel.h"
#include "worker/delivery.h"
#include "worker/lease.h"
#include "worker/pause.h"
#include "worker/plugin_call.h"
#include "worker/probe.h"
#include "worker/quarantine.h"
#include "worker/queue.h"
#include "worker/settle.h"
#include "worker/spans.h"
#include "worker/wakeup.h"

#include <stdlib.h>
#include <string.h>

#define CLAIM_FAILED_MS 1000 /* after a claim that failed for another reason than the connection */
#define NARROW_MS 20         /* the same while the cause is narrowed down to one row ... */
#define NARROW_MAX 12        /* ... which takes so many claims: half as large each time */
#define CLAIM_MAX 1000       /* messages in one claim: while they are handled, the database works on the next ones */
#define BACKLOG_MAX 2000     /* outcomes that may wait for the database before claiming pauses */
#define CLAIMS_FAILED_MAX 3  /* so many in a row, and the queue does not count as ready */

struct flow {
	struct pgmqd_worker worker; /* what the plugin sees of us, and the parts share */
	struct log_context log;
	struct messages messages;
	struct wakeup wakeup;
	struct settle settle;
	struct lease lease;
	struct pause pause;
	struct cancel cancel;
	struct quarantine quarantine;
	struct probe probe;
	struct delivery delivery;
	unsigned asked;         /* how many messages the claim under way asks for */
	unsigned ahead;         /* how many have come ahead of its answer */
	int64_t claimed_ms;     /* boottime when it was sent */
	unsigned claims_failed; /* in a row */
	char *told;             /* why, as it was logged last; NULL: it was not */
	bool started;           /* the plugin's start() has run */
	bool draining;
	struct event *tick;         /* the end of this round of the loop */
	void (*on_idle)(void *arg); /* draining, and nothing is left */
	void *on_idle_arg;
};

static void flow_kick(struct flow *f);

bool flow_is_idle(const struct flow *f)
{
	return !f->wakeup.claiming && messages_are_none(&f->messages);
}

unsigned flow_begun(const struct flow *f)
{
	return f->messages.count[MSG_RUNNING] + f->messages.count[MSG_SETTLED] + f->messages.count[MSG_SENT];
}

unsigned flow_children(const struct flow *f)
{
	return f->worker.children;
}

/* Shows in the slot what the flow is doing. */
static void flow_show(struct flow *f)
{
	struct stats_slot *slot = f->worker.slot;
	bool known = f->worker.up && f->pause.state != PAUSE_UNKNOWN && f->claims_failed < CLAIMS_FAILED_MAX;
	bool paused = known && f->pause.state != PAUSE_NONE;

	stats_state(slot, f->draining ? STATE_DRAINING
			  : !known    ? STATE_CONNECTING
			  : paused    ? STATE_PAUSED
				      : STATE_READY);
	stats_gauge(slot, GAUGE_PAUSED, paused);
	stats_gauge(slot, GAUGE_HELD, f->pause.state == PAUSE_OPERATOR);
	stats_gauge(slot, GAUGE_CONNECTED, f->worker.up && f->pause.state != PAUSE_UNKNOWN);
}

/* At the end of this round of the loop: what was settled in it goes out together. */
void flow_tick(struct flow *f)
{
	event_active(f->tick, 0, 0);
}

/* ---- outcomes ---- */

bool flow_settle(struct pgmqd_msg *m, enum msg_outcome outcome, int64_t delay_ms, char *reason)
{
	struct flow *f = m->worker ? m->worker->flow : NULL;

	if (m->state != MSG_RUNNING || m->cancelling) {
		plugin_call_misuse(m->worker, m->id, "outcome \"%s\" for a message that %s: ignored",
			outcome_name(outcome), message_why_over(m));
		free(reason);
		return false;
	}
	if (outcome == OUT_CONFIG && delay_ms > 0) { /* a server is away: the settings are right */
		pause_away(&f->pause, delay_ms, reason);
		outcome = OUT_RELEASE;
		delay_ms = settle_place(m);
	} else if (outcome == OUT_CONFIG) {
		stats_add(f->worker.slot, STAT_CONFIG_ERRORS, 1);
		pause_error(&f->pause, reason);
		delay_ms = settle_place(m);
	} else if (outcome == OUT_RELEASE && delay_ms < 0) {
		delay_ms = settle_patience(m);
	} else if (outcome == OUT_DONE || outcome == OUT_DONE_WITH || outcome == OUT_REPLACE) {
		pause_success(&f->pause);
	}
	settle_end(
		&f->settle, m, outcome, outcome == OUT_FAIL && *m->own_class ? m->own_class : NULL, delay_ms, reason);
	return true;
}

/* ---- delivery ---- */

/* Gives back at once what was claimed and cannot run now: a reload may end the pause early, and others may take it. */
static void flow_return(struct flow *f)
{
	struct pgmqd_msg *m;

	while ((m = TAILQ_FIRST(&f->messages.list[MSG_WAITING])) != NULL)
		settle_end(&f->settle, m, OUT_RELEASE, NULL, f->draining ? 0 : settle_place(m),
			xstrdup(f->draining ? "stopping" : "the queue pauses"));
}

/* Delivers what waits while there are free places. */
static void flow_feed(struct flow *f)
{
	struct timeval now = { 0, 0 };

	if (f->started && !f->draining && delivery_feed(&f->delivery, f->wakeup.claiming))
		loop_add(f->tick, &now); /* unlike event_active(), this comes after the connections' turn */
	if (pause_holds(&f->pause) || f->draining)
		flow_return(f);
}

/* ---- claims ---- */

/* How many messages may be in hand now. */
static unsigned flow_room(const struct flow *f)
{
	unsigned prefetch = f->pause.state == PAUSE_TRIAL ? 0 : (unsigned)f->worker.qs->prefetch;

	return quarantine_room(&f->quarantine, delivery_window(&f->delivery) + prefetch);
}

static void flow_claimed(void *arg, const struct queue_claim *claim);

/* Claims for the free slots, if a claim is wanted, there are any and it makes sense now. */
static void flow_claim(struct flow *f)
{
	unsigned in_hand = messages_in_hand(&f->messages), room = flow_room(f), free_slots;
	struct wakeup_claim c;
	struct queue_look look;

	if (!wakeup_wants(&f->wakeup) || !f->worker.up || !f->started)
		return;
	if (pause_holds(&f->pause) || f->draining || in_hand >= room ||
		f->messages.count[MSG_SETTLED] + f->messages.count[MSG_SENT] > BACKLOG_MAX) {
		wakeup_no_room(&f->wakeup);
		return;
	}
	free_slots = room - in_hand;
	f->asked = quarantine_ask(&f->quarantine, free_slots < CLAIM_MAX ? free_slots : CLAIM_MAX);
	f->ahead = 0;
	f->claimed_ms = clock_boottime_ms();
	stats_add(f->worker.slot, STAT_LOOKS, 1);
	c = wakeup_claim(&f->wakeup);
	look = (struct queue_look){ .n = f->asked,
		.full = c.full,
		.ask_shared = c.ask_share,
		.ask_due = c.ask_due,
		.small = quarantine_withholds(&f->quarantine),
		.hurry = c.hurry && f->worker.qs->batch <= 1 }; /* a batch waits for others */
	queue_claim(f->worker.queue, &look, flow_claimed, f);
}

static void flow_read_only(void *arg);

/* When to claim again after an error, which the session may have survived. A row that cannot be read is narrowed down
 * by smaller claims, which need not wait. */
static int64_t flow_claim_again_ms(const struct flow *f, enum sqlstate_class class, bool lives)
{
	if (!lives || class == SQLSTATE_READ_ONLY || class == SQLSTATE_STALE)
		return 0;
	return sqlstate_blames_row(class) && f->claims_failed <= NARROW_MAX ? NARROW_MS : CLAIM_FAILED_MS;
}

/* Logs why claims fail: once, and again when it is something else. */
static void flow_tell_failed(struct flow *f, const struct queue_claim *claim)
{
	char *text = xasprintf("%s (%s)", claim->error, claim->sqlstate);

	stats_error(f->worker.slot, claim->error);
	if (!f->told || strcmp(f->told, text) != 0)
		log_error("cannot claim messages: %s; trying again", text);
	free(f->told);
	f->told = text;
}

/* A claim failed. When the connection is lost, flow_down() follows. */
static void flow_claim_failed(struct flow *f, const struct queue_claim *claim)
{
	enum sqlstate_class class = sqlstate_class(claim->sqlstate);
	bool lives = *claim->sqlstate != '\0', stale = class == SQLSTATE_STALE;

	stats_add(f->worker.slot, STAT_CLAIMS_FAILED, 1);
	if (++f->claims_failed == CLAIMS_FAILED_MAX)
		flow_show(f);
	wakeup_claim_failed(&f->wakeup, flow_claim_again_ms(f, class, lives));
	if (!lives)
		quarantine_claim_lost(&f->quarantine, f->asked);
	else if (!stale || f->claims_failed > 1) /* tables may change, and then one claim fails */
		flow_tell_failed(f, claim);
	if (stale)
		probe_stale(&f->probe);
	else if (class == SQLSTATE_READ_ONLY)
		flow_read_only(f);
}

/* Takes the rows of a claim: they wait for the plugin from here. */
static void flow_take(struct flow *f, const struct queue_claim *claim)
{
	int64_t until = (claim->sent_ms ? claim->sent_ms : f->claimed_ms) + f->lease.ms;
	bool late = lease_is_short(&f->lease, until);

	for (int i = 0; i < claim->rows + claim->refused; i++) {
		struct pgmqd_msg *m = message_new(&f->messages, &f->worker);

		queue_claim_row(f->worker.queue, claim, i, m);
		if (i < claim->rows ? m->read_ct > 1 && settle_reclaimed(&f->settle, m, until)
				    : message_find(&f->messages, m->id, m->born_us) != NULL) {
			message_forget(m);
			continue;
		}
		m->lease_ms = i < claim->rows ? until : INT64_MAX; /* what cannot be claimed has no lease to extend */
		spans_claimed(m, f->claimed_ms);
		wakeup_observe(&f->wakeup, m);
		message_move(m, MSG_WAITING);
		if (late) /* counted, or a message that always takes so long would go round for ever */
			settle_end(&f->settle, m, OUT_RETRY, NULL, 0,
				xstrdup("its way from the database took longer than its lease; raise "
					"visibility_timeout"));
	}
	if (claim->rewritten)
		probe_doubt(&f->probe);
	stats_add(f->worker.slot, STAT_CLAIMED, (uint64_t)claim->rows);
	if (claim->rows)
		lease_arm(&f->lease);
	quarantine_claimed(&f->quarantine, f->claimed_ms, (unsigned)claim->rows == f->asked);
}

/* The queue is served: claims succeed. */
static void flow_claim_worked(struct flow *f)
{
	bool failed = f->claims_failed >= CLAIMS_FAILED_MAX;

	f->claims_failed = 0;
	if (f->told)
		log_info("messages can be claimed again");
	free(f->told);
	f->told = NULL;
	stats_gauge(f->worker.slot, GAUGE_CLAIM_OK, clock_realtime_us() / 1000000);
	if (failed)
		flow_show(f);
}

/* The answer to a claim. */
static void flow_claimed(void *arg, const struct queue_claim *claim)
{
	struct flow *f = arg;

	if (claim->error) {
		flow_claim_failed(f, claim);
		return;
	}
	if (claim->ahead) {
		flow_take(f, claim);
		f->ahead += (unsigned)claim->rows;
		flow_feed(f);
		return;
	}
	flow_claim_worked(f);
	flow_take(f, claim);
	wakeup_silent(&f->wakeup, claim->silent);
	wakeup_claimed(&f->wakeup, f->ahead + (unsigned)claim->rows == f->asked, claim->due_ms, claim->shared);
	if (messages_in_hand(&f->messages) < flow_room(f))
		flow_claim(f); /* the database gathers the next ones while the plugin has these */
	flow_feed(f);
	wakeup_fed(&f->wakeup, (int)f->ahead + claim->rows);
	if (claim->changed)
		probe_now(&f->probe);
	flow_kick(f);
}

/* Does what can be done now. */
static void flow_kick(struct flow *f)
{
	flow_feed(f);
	settle_send(&f->settle);
	flow_claim(f);
	if (f->draining && f->on_idle && flow_is_idle(f)) {
		void (*cb)(void *) = f->on_idle;

		f->on_idle = NULL;
		cb(f->on_idle_arg);
	}
}

/* The end of this round of the loop. */
static void flow_ticked(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	flow_kick(arg);
}

/* ---- what the parts report ---- */

/* Something can be done now. */
static void flow_may_go_on(void *arg)
{
	flow_kick(arg);
}

/* Something can be done at the end of this round of the loop. */
static void flow_has_outcome(void *arg)
{
	flow_tick(arg);
}

/* Outcomes are on their way. */
static void flow_outcomes_sent(void *arg)
{
	wakeup_next(&((struct flow *)arg)->wakeup);
}

/* A message is visible again after `ms`. */
static void flow_due(void *arg, int64_t ms)
{
	wakeup_due_by(&((struct flow *)arg)->wakeup, ms);
}

/* The session cannot write: it began on a standby, or the server was told so. */
static void flow_read_only(void *arg)
{
	struct flow *f = arg;

	queue_reconnect(f->worker.queue, "the session is read-only");
}

/* A statement says that the tables have changed. */
static void flow_stale(void *arg)
{
	probe_stale(&((struct flow *)arg)->probe);
}

/* They may have. */
static void flow_doubt(void *arg)
{
	probe_doubt(&((struct flow *)arg)->probe);
}

static const struct settle_events settle_events = { .kick = flow_has_outcome,
	.sent = flow_outcomes_sent,
	.due = flow_due,
	.stale = flow_stale,
	.doubt = flow_doubt,
	.read_only = flow_read_only };

/* There may be something to claim. */
static void flow_may_claim(void *arg)
{
	flow_claim(arg);
}

/* Asks what an operator wants: its notification may have been missed. */
static void flow_ask_operator(struct flow *f)
{
	if (!f->worker.up)
		return;
	pause_ask(&f->pause);
	cancel_ask(&f->cancel);
}

/* A poll has come because notifications do not arrive. */
static void flow_polled(void *arg)
{
	flow_ask_operator(arg);
}

static const struct wakeup_events wakeup_events = { .claim = flow_may_claim, .polled = flow_polled };

/* The queue pauses, or goes on. */
static void flow_paused(void *arg)
{
	struct flow *f = arg;

	flow_show(f);
	if (pause_holds(&f->pause))
		wakeup_release(&f->wakeup);
	else
		wakeup_want(&f->wakeup);
	flow_tick(f);
}

/* ---- the connection ---- */

/* The tables are known: what is known of messages is stored first, then new ones are claimed. */
static void flow_ready(void *arg)
{
	struct flow *f = arg;

	f->worker.up = true;
	settle_send(&f->settle);
	wakeup_up(&f->wakeup);
	flow_ask_operator(f);
	flow_show(f);
	flow_kick(f);
}

/* The tables are not known any more. */
static void flow_unready(void *arg)
{
	flow_show(arg);
}

void flow_up(struct flow *f)
{
	settle_connected(&f->settle);
	probe_up(&f->probe);
}

void flow_down(struct flow *f)
{
	probe_down(&f->probe);
	wakeup_down(&f->wakeup);
	pause_down(&f->pause);
	cancel_down(&f->cancel);
	flow_show(f);
}

void flow_told(struct flow *f, wake_word news)
{
	if (news == WAKE_OPERATED)
		pause_operated(&f->pause);
	else if (news == WAKE_CANCEL)
		flow_ask_operator(f);
	else if (news == WAKE_TAKEN || news == WAKE_FREE)
		wakeup_taken(&f->wakeup, news == WAKE_TAKEN);
	else
		wakeup_notified(&f->wakeup);
}

void flow_hearing(struct flow *f, bool hearing)
{
	flow_ask_operator(f);
	wakeup_hearing(&f->wakeup, hearing);
}

void flow_resume(struct flow *f)
{
	plugin_call_reload(&f->worker);
	probe_now(&f->probe); /* an update of pgmq, say, may have given the tables columns */
	pause_resume(&f->pause);
}

/* ---- life ---- */

/* The state that the plugin and the parts share. */
static void flow_worker_init(struct flow *f, const struct proc_env *env, const struct queue_settings *qs)
{
	f->log = (struct log_context){ .process = "worker", .queue = qs->name, .plugin = f->worker.plugin->d.name };
	f->worker.flow = f;
	f->worker.settings = env->settings;
	f->worker.stats = env->stats;
	f->worker.qs = qs;
	f->worker.messages = &f->messages;
	f->worker.log = &f->log;
}

struct flow *flow_new(const struct proc_env *env, const struct queue_settings *qs, struct stats_slot *slot,
	struct plugin *plugin, struct event_base *base, struct queue *queue, struct transfers *transfers,
	struct template_set **templates)
{
	struct flow *f = xcalloc(1, sizeof(*f));

	f->worker = (struct pgmqd_worker){ .slot = slot,
		.plugin = plugin,
		.base = base,
		.queue = queue,
		.transfers = transfers,
		.templates = templates };
	flow_worker_init(f, env, qs);
	f->tick = loop_event(base, -1, 0, flow_ticked, f);
	messages_init(&f->messages, slot);
	settle_init(&f->settle, &f->worker, &settle_events, f);
	lease_init(&f->lease, &f->worker, &f->settle, flow_may_go_on, f);
	pause_init(&f->pause, &f->worker, flow_paused, f);
	cancel_init(&f->cancel, &f->worker, &f->settle);
	wakeup_init(&f->wakeup, &f->worker, &wakeup_events, f);
	probe_init(&f->probe, &f->worker, flow_ready, flow_unready, f);
	quarantine_init(&f->quarantine, &f->worker, &f->settle, env->after_crash);
	delivery_init(&f->delivery, &f->worker,
		&(struct delivery_parts){
			.settle = &f->settle, .lease = &f->lease, .pause = &f->pause, .quarantine = &f->quarantine },
		flow_may_go_on, f);
	wakeup_listener(&f->wakeup, stats_listener_hears(env->stats)); /* until the listener says otherwise */
	flow_show(f);
	return f;
}

bool flow_start(struct flow *f)
{
	f->started = plugin_call_start(&f->worker);
	return f->started;
}

void flow_free(struct flow *f)
{
	struct pgmqd_msg *m;

	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		while ((m = TAILQ_FIRST(&f->messages.list[s])) != NULL)
			message_forget(m);
	if (f->started)
		plugin_call_stop(&f->worker);
	plugin_call_check_left(&f->worker);
	probe_close(&f->probe);
	delivery_close(&f->delivery);
	quarantine_close(&f->quarantine);
	wakeup_close(&f->wakeup);
	pause_close(&f->pause);
	cancel_close(&f->cancel);
	lease_close(&f->lease);
	settle_close(&f->settle);
	event_free(f->tick);
	free(f->told);
	queue_free(f->worker.queue);
	plugin_free(f->worker.plugin);
	free(f);
}

void flow_drain(struct flow *f, void (*on_idle)(void *arg), void *arg)
{
	f->draining = f->settle.draining = true;
	f->on_idle = on_idle;
	f->on_idle_arg = arg;
	wakeup_drain(&f->wakeup);
	pause_drain(&f->pause);
	flow_show(f);
	flow_tick(f);
}

void flow_give_up(struct flow *f)
{
	struct pgmqd_msg *m;

	while ((m = TAILQ_FIRST(&f->messages.list[MSG_RUNNING])) != NULL)
		settle_cancel(&f->settle, m, OUT_RELEASE, NULL, "stopping");
	flow_tick(f);
}
