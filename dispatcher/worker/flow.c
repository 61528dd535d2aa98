/* flow.c: the message path of one queue: look, claim, deliver, settle.
 *
 *   wake-up, due timer, poll -> flow_look -> WAITING -> deliver -> RUNNING -> outcome -> SETTLED -> settle.c -> SENT ->
 * gone
 *
 * A look is one claim statement, and one at a time: a wake-up that comes meanwhile leads to another look. Nothing here
 * waits: flow_kick() does what can be done now, and every event that changes what can be done calls it.
 */
#include "config.h"

#include "worker/flow.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/loop.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_FAILED_MS 1000 /* after a claim that failed for another reason than the connection */
#define PROBE_AGAIN_MS 5000 /* a queue that does not exist (yet) is looked for again */
#define PAUSE_MAX_MS 300000 /* longest pause after configuration errors in a row */
#define FEED_US 2000        /* deliveries in one round of the loop; then timers and connections have their turn */
#define LOOK_MAX 1000       /* messages in one look: while they are handled, the database works on the next ones */
#define BACKLOG_MAX 2000    /* outcomes that may wait for the database before claiming pauses */

/* Puts a message onto the list of its new state: the only place where a state changes. What waits does so by priority.
 */
void flow_move(struct pgmqd_msg *m, enum msg_state to)
{
	struct flow *f = m->flow;
	struct pgmqd_msg *before;

	if (m->state != MSG_FREE) {
		TAILQ_REMOVE(&f->list[m->state], m, link);
		f->count[m->state]--;
	}
	m->state = to;
	if (to != MSG_FREE) {
		before = to == MSG_WAITING ? TAILQ_LAST(&f->list[to], msg_list) : NULL;
		while (before && before->priority < m->priority)
			before = TAILQ_PREV(before, msg_list, link);
		if (before)
			TAILQ_INSERT_AFTER(&f->list[to], before, m, link);
		else if (to == MSG_WAITING)
			TAILQ_INSERT_HEAD(&f->list[to], m, link);
		else
			TAILQ_INSERT_TAIL(&f->list[to], m, link);
		f->count[to]++;
	}
	stats_gauge(f->slot, GAUGE_RUNNING, f->count[MSG_RUNNING]);
	stats_gauge(f->slot, GAUGE_WAITING, f->count[MSG_WAITING]);
}

void flow_forget(struct pgmqd_msg *m)
{
	flow_move(m, MSG_FREE);
	message_free(m);
}

bool flow_is_idle(const struct flow *f)
{
	return !f->looking && !f->count[MSG_WAITING] && !f->count[MSG_RUNNING] && !f->count[MSG_SETTLED] &&
	       !f->count[MSG_SENT];
}

/* Shows in the slot what the flow is up to. */
void flow_show(struct flow *f)
{
	stats_state(f->slot, f->draining                            ? STATE_DRAINING
			     : !f->ready                            ? STATE_CONNECTING
			     : f->held || f->paused || f->probation ? STATE_PAUSED
								    : STATE_READY);
	stats_gauge(f->slot, GAUGE_PAUSED, f->held || f->paused || f->probation);
	stats_gauge(f->slot, GAUGE_HELD, f->held);
	stats_gauge(f->slot, GAUGE_CONNECTED, f->ready);
}

/* ---- outcomes ---- */

/* Decides a message's outcome and hands it to settle.c. Takes over `reason`. */
void flow_end(struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, int64_t delay_ms, char *reason)
{
	struct flow *f = m->flow;
	const struct queue_settings *qs = f->qs;

	free(m->reason);
	m->reason = reason;
	m->class = class;
	if (outcome == OUT_RETRY && m->attempt >= qs->max_attempts) {
		outcome = OUT_FAIL;
		m->class = class ? class : "attempts";
	} else if (outcome == OUT_RETRY && delay_ms <= 0) {
		delay_ms = backoff_delay(m->attempt, qs->backoff_min, qs->backoff_max, backoff_random());
	}
	if (outcome == OUT_FAIL && !m->class)
		m->class = "permanent";
	m->outcome = outcome;
	m->delay_ms = delay_ms;
	m->ended_us = clock_realtime_us();
	m->settled_in = host_serial;
	if (m->started_us)
		stats_observe(f->slot, HIST_RUN, m->ended_us - m->started_us);
	message_end_resources(m);
	flow_move(m, MSG_SETTLED);
	flow_tick(f);
}

/* Ends a pause after a configuration error: one message shows whether it is mended. */
void flow_resume(struct flow *f)
{
	if (!f->paused)
		return;
	evtimer_del(f->pause);
	f->paused = false;
	f->probation = true;
	f->look_wanted = true;
	flow_show(f);
	flow_kick(f);
}

/* The pause is over. */
static void flow_pause_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	flow_resume(arg);
}

/* A configuration error: the queue pauses, and says so once per pause. Its messages go back at once: when the pause
 * ends is not theirs to know, a reload may end it early. */
static void flow_pause(struct flow *f, const char *reason)
{
	int64_t ms = f->qs->config_retry;

	if (f->paused)
		return;
	for (unsigned i = 0; i < f->pauses && ms < PAUSE_MAX_MS; i++)
		ms *= 2;
	if (ms > PAUSE_MAX_MS && PAUSE_MAX_MS > f->qs->config_retry)
		ms = PAUSE_MAX_MS;
	f->pauses++;
	f->paused = true;
	f->probation = false;
	stats_error(f->slot, reason);
	log_error("queue paused, no attempt is counted: %s; trying again in %lld s, or at once on SIGHUP", reason,
		(long long)((ms + 999) / 1000));
	loop_timer(f->pause, ms);
	flow_show(f);
	wakeup_release(f);
}

bool flow_settle(struct pgmqd_msg *m, enum msg_outcome outcome, int64_t delay_ms, char *reason)
{
	struct flow *f = m->flow;

	if (m->state != MSG_RUNNING || m->cancelling) {
		host_misuse(f ? &f->host : NULL, m->id, "outcome \"%s\" for %s: ignored", outcome_name(outcome),
			m->state == MSG_FREE ? "a message that is gone"
			: m->cancelling      ? "a message that is being cancelled"
			: m->cancelled       ? "a message that was cancelled before"
					     : "a message that was settled before");
		free(reason);
		return false;
	}
	if (outcome == OUT_CONFIG) {
		stats_add(f->slot, STAT_CONFIG_ERRORS, 1);
		flow_pause(f, reason);
	} else if (outcome == OUT_DONE || outcome == OUT_DONE_WITH || outcome == OUT_REPLACE) {
		if (f->probation)
			log_info("the configuration error is mended, the queue goes on");
		f->probation = false;
		f->pauses = 0;
		flow_show(f);
	}
	flow_end(m, outcome, outcome == OUT_FAIL && *m->own_class ? m->own_class : NULL, delay_ms, reason);
	return true;
}

/* Takes a running message back from its plugin. */
void flow_cancel(struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, const char *reason)
{
	struct flow *f = m->flow;

	m->cancelling = true;
	message_end_resources(m);
	if (f->plugin->d.cancel) {
		struct host_call call = host_call_msg(m);

		f->plugin->d.cancel(f->plugin->handle, m);
		host_return(call);
	}
	m->cancelling = false;
	m->cancelled = true;
	flow_end(m, outcome, class, 0, xstrdup(reason));
}

/* ---- delivery ---- */

/* Hands one message to the plugin. */
static void flow_deliver(struct pgmqd_msg *m)
{
	struct flow *f = m->flow;
	struct host_call call;

	if (clock_boottime_ms() + f->lease_ms / 10 >= m->lease_ms) { /* its lease ran down while it waited */
		flow_end(m, OUT_RELEASE, NULL, 0, xstrdup("the lease ran down before the plugin was free"));
		return;
	}
	m->started_us = clock_realtime_us();
	if (m->attempt > f->qs->max_attempts) {
		flow_end(m, OUT_FAIL, "crash", 0,
			xasprintf("attempt %u had no outcome: the plugin crashed, its process was killed, or the "
				  "message is too large for its memory",
				m->attempt - 1));
		return;
	}
	if (!m->text && m->text_len) {
		caution_large(f);
		flow_end(m, OUT_RETRY, "memory", 0,
			xasprintf("the message is too large for the worker's memory: %zu bytes", m->text_len));
		return;
	}
	if (!m->text) {
		flow_end(m, OUT_FAIL, "malformed", 0, xstrdup("the message is an SQL null"));
		return;
	}
	stats_observe(f->slot, HIST_WAIT, m->started_us - m->due_us);
	m->run_ms = clock_boottime_ms();
	flow_move(m, MSG_RUNNING);
	if (f->count[MSG_RUNNING] == 1)
		lease_deadline_arm(f);
	call = host_call_msg(m);
	f->plugin->d.deliver(f->plugin->handle, m);
	host_return(call);
}

/* How many messages the plugin may have at once now. */
static unsigned flow_window(const struct flow *f)
{
	return f->probation ? 1 : f->limit;
}

/* Delivers what waits while there are free slots. */
static void flow_feed(struct flow *f)
{
	int64_t until = clock_monotonic_us() + FEED_US;
	struct timeval now = { 0, 0 };
	struct pgmqd_msg *m;

	while (f->started && !f->held && !f->paused && !f->draining && f->count[MSG_RUNNING] < flow_window(f) &&
		(m = caution_next(f)) != NULL) {
		flow_deliver(m);
		if (clock_monotonic_us() >= until) {
			evtimer_add(
				f->tick, &now); /* unlike event_active(), this comes after a look at the connections */
			break;
		}
	}
	if (f->held || f->paused || f->draining) /* what was claimed and cannot run now goes back at once */
		while ((m = TAILQ_FIRST(&f->list[MSG_WAITING])) != NULL)
			flow_end(m, OUT_RELEASE, NULL, 0, xstrdup(f->draining ? "stopping" : "the queue pauses"));
}

/* ---- looking ---- */

/* How many messages may be in hand now. */
static unsigned flow_room(const struct flow *f)
{
	return caution_room(f, flow_window(f) + (f->probation ? 0 : (unsigned)f->qs->prefetch));
}

/* The answer to a claim. */
static void flow_looked(void *arg, const struct queue_claim *claim)
{
	struct flow *f = arg;
	int64_t until = f->looked_ms + f->lease_ms;
	bool again = f->look_again, late = clock_boottime_ms() + f->lease_ms / 10 >= until;

	f->looking = f->look_again = false;
	if (claim->error) {
		f->look_wanted = true;
		if (!*claim->sqlstate || !queue_is_stale(claim->sqlstate))
			caution_claim_lost(f);
		if (*claim->sqlstate) { /* else flow_down() follows */
			if (queue_is_stale(claim->sqlstate)) {
				flow_stale(f);
			} else {
				stats_error(f->slot, claim->error);
				log_error(
					"cannot claim messages: %s (%s); trying again", claim->error, claim->sqlstate);
				f->look_wanted = false;
				wakeup_due_in(f, LOOK_FAILED_MS);
			}
		}
		return;
	}
	for (int i = 0; i < claim->rows; i++) {
		struct pgmqd_msg *m = message_new();

		m->flow = f;
		queue_claim_row(f->queue, claim, i, m);
		m->lease_ms = until;
		trace_read(&m->trace, m->headers);
		wakeup_observe(f, m, !f->deaf && !f->shared && f->notify != NOTIFY_OFF);
		flow_move(m, MSG_WAITING);
		if (late) /* counted, or a message that always takes so long would go round for ever */
			flow_end(m, OUT_RETRY, NULL, 0,
				xstrdup("its way from the database took longer than its lease; raise "
					"visibility_timeout"));
	}
	stats_add(f->slot, STAT_CLAIMED, (uint64_t)claim->rows);
	f->woke = f->woke_again;
	f->woke_again = (struct wake){ 0 };
	caution_looked(f, (unsigned)claim->rows, f->asked);
	f->look_wanted = again || (unsigned)claim->rows == f->asked; /* all that was asked for: there may be more */
	if (!f->look_wanted && claim->due_ms < 86400000)
		wakeup_due_in(f, claim->due_ms + 1);
	wakeup_shared(f, claim->shared);
	wakeup_poll_arm(f);
	if (claim->rows)
		lease_arm(f);
	if (f->look_wanted && f->count[MSG_WAITING] + f->count[MSG_RUNNING] < flow_room(f))
		flow_look(f); /* the database gathers the next ones while the plugin has these */
	flow_feed(f);
	wakeup_looked(f, claim->rows);
	if (claim->changed)
		flow_reprobe(f);
	flow_kick(f);
}

/* Claims for the free slots, if there are any and it makes sense now. */
void flow_look(struct flow *f)
{
	unsigned held = f->count[MSG_WAITING] + f->count[MSG_RUNNING], n;
	unsigned room = flow_room(f);
	struct queue_look look;

	if (!f->look_wanted || f->looking || !f->ready || !f->started || f->held || f->paused || f->draining)
		return;
	if (held >= room) {
		wakeup_no_room(f);
		return;
	}
	if (f->count[MSG_SETTLED] + f->count[MSG_SENT] > BACKLOG_MAX)
		return;
	n = caution_ask(f, room - held < LOOK_MAX ? room - held : LOOK_MAX);
	f->look_wanted = false;
	f->looking = true;
	f->looked_ms = clock_boottime_ms();
	if (!f->woke.us)
		f->woke.us = clock_realtime_us();
	f->asked = n;
	stats_add(f->slot, STAT_LOOKS, 1);
	evtimer_del(f->due);
	look = (struct queue_look){ .n = n,
		.full = f->full_look,
		.ask_shared = f->full_look || f->wake == WAKE_ASLEEP,
		.ask_due = wakeup_wants_due(f),
		.small = caution_small(f) };
	queue_claim(f->queue, &look, flow_looked, f);
	f->full_look = false;
}

void flow_kick(struct flow *f)
{
	flow_feed(f);
	settle_send(f);
	flow_look(f);
	if (f->draining && f->on_idle && flow_is_idle(f)) {
		void (*cb)(void *) = f->on_idle;

		f->on_idle = NULL;
		cb(f->on_idle_arg);
	}
}

/* The end of this round of the loop: what was settled in it goes out together. */
static void flow_ticked(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	flow_kick(arg);
}

void flow_tick(struct flow *f)
{
	event_active(f->tick, 0, 0);
}

/* ---- the connection ---- */

/* The catalogue was looked at. */
static void flow_probed(void *arg, const char *error, const char *warning)
{
	struct flow *f = arg;

	f->probing = false;
	if (!queue_is_up(f->queue))
		return; /* flow_down() comes or has come */
	if (error) {
		if (!f->probe_failed)
			log_error("%s; looking again every %d s", error, PROBE_AGAIN_MS / 1000);
		stats_error(f->slot, error);
		f->probe_failed = true;
		loop_timer(f->again, PROBE_AGAIN_MS);
		return;
	}
	if (f->probe_failed)
		log_info("the queue is there now");
	if (warning && !f->warned)
		log_warn("%s", warning);
	f->warned = warning != NULL;
	f->probe_failed = false;
	log_debug("claims go %s", queue_order(f->queue));
	f->probed_ms = clock_boottime_ms();
	f->probed = true;
	hold_ask(f); /* makes it ready */
}

void flow_reprobe(struct flow *f)
{
	if (f->probing || !queue_is_up(f->queue))
		return;
	f->ready = f->probed = false;
	f->probing = true;
	flow_show(f);
	queue_probe(f->queue, flow_probed, f);
}

/* Probes again, but not in a circle when the tables are as they should be and something behind them is not (a trigger,
 * say). */
void flow_stale(struct flow *f)
{
	if (clock_boottime_ms() - f->probed_ms >= LOOK_FAILED_MS) {
		flow_reprobe(f);
		return;
	}
	f->ready = false;
	flow_show(f);
	loop_timer(f->again, LOOK_FAILED_MS);
}

/* A queue that was not there is looked for again, or outcomes that were refused for a passing reason go out again. */
static void flow_again(evutil_socket_t fd, short what, void *arg)
{
	struct flow *f = arg;

	(void)fd, (void)what;
	if (!f->ready)
		flow_reprobe(f);
	else
		flow_kick(f);
}

void flow_up(struct flow *f)
{
	f->probing = false;
	flow_reprobe(f);
}

void flow_down(struct flow *f)
{
	f->ready = f->probed = f->probing = f->looking = false;
	f->look_wanted = f->full_look = true;
	wakeup_down(f);
	evtimer_del(f->again);
	flow_show(f);
}

/* ---- life ---- */

/* Whether the listener is known to hear: a worker that was restarted is not told again. */
bool flow_listener_hears(const struct stats *st)
{
	for (size_t i = 0; i < st->nslots; i++)
		if (st->slot[i].role == ROLE_LISTENER)
			return st->slot[i].gauges[GAUGE_HEARING] != 0;
	return false;
}

struct flow *flow_new(const struct proc_env *env, const struct queue_settings *qs, struct stats_slot *slot,
	struct plugin *plugin, struct event_base *base, struct queue *queue, struct http *http,
	struct template_set **templates)
{
	const struct settings *s = env->settings;
	struct flow *f = xcalloc(1, sizeof(*f));

	f->settings = s;
	f->qs = qs;
	f->slot = slot;
	f->plugin = plugin;
	f->lease_ms = qs->visibility_timeout;
	f->deadline_ms = qs->deadline ? qs->deadline : 10 * qs->visibility_timeout;
	f->limit = (unsigned)qs->max_in_flight;
	if (plugin->d.max_in_flight && plugin->d.max_in_flight < f->limit)
		f->limit = plugin->d.max_in_flight;
	for (int i = 0; i < MSG_NSTATES; i++)
		TAILQ_INIT(&f->list[i]);
	f->log = (struct log_context){ .process = "worker", .queue = qs->name, .plugin = plugin->d.name };
	f->host = (struct pgmqd_worker){ .flow = f,
		.base = base,
		.http = http,
		.templates = templates,
		.template_dir = s->template_dir,
		.default_lang = s->default_lang,
		.log = &f->log };
	f->queue = queue;
	f->tick = event_new(base, -1, 0, flow_ticked, f);
	f->notify = qs->notify;
	f->due = evtimer_new(base, wakeup_due, f);
	f->poll = evtimer_new(base, wakeup_poll, f);
	f->busy = evtimer_new(base, wakeup_busy, f);
	f->pause = evtimer_new(base, flow_pause_over, f);
	f->again = evtimer_new(base, flow_again, f);
	f->lease = lease_event(f);
	f->deadline = lease_deadline_event(f);
	if (!f->tick || !f->due || !f->poll || !f->busy || !f->pause || !f->again || !f->lease || !f->deadline)
		abort();
	f->deaf = !flow_listener_hears(env->stats); /* until the listener says otherwise */
	stats_gauge(slot, GAUGE_HEARING, !f->deaf);
	if (env->after_crash)
		caution_begin(f);
	flow_show(f);
	return f;
}

bool flow_start(struct flow *f)
{
	struct host_call call = host_call(&f->host, 0);
	int rc = f->plugin->d.start ? f->plugin->d.start(f->plugin->handle, &f->host) : 0;

	host_return(call);
	f->started = rc == 0;
	return f->started;
}

void flow_free(struct flow *f)
{
	struct event *events[] = { f->tick, f->due, f->poll, f->busy, f->pause, f->again, f->lease, f->deadline };
	struct pgmqd_msg *m;

	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		while ((m = TAILQ_FIRST(&f->list[s])) != NULL)
			flow_forget(m);
	if (f->started && f->plugin->d.stop) {
		struct host_call call = host_call(&f->host, 0);

		f->plugin->d.stop(f->plugin->handle);
		host_return(call);
	}
	host_check_left(&f->host);
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		event_free(events[i]);
	queue_free(f->queue);
	plugin_free(f->plugin);
	free(f);
}

void flow_drain(struct flow *f)
{
	f->draining = true;
	wakeup_release(f);
	evtimer_del(f->due);
	evtimer_del(f->poll);
	evtimer_del(f->pause);
	flow_show(f);
	flow_tick(f);
}

void flow_give_up(struct flow *f)
{
	struct pgmqd_msg *m;

	while ((m = TAILQ_FIRST(&f->list[MSG_RUNNING])) != NULL)
		flow_cancel(m, OUT_RELEASE, NULL, "stopping");
	flow_tick(f);
}
