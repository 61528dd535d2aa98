/* fake_queue.c: a queue for tests of the message path: it keeps each call until the test answers it. */
#include "config.h"

#include "fake_queue.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "process/stats.h"
#include "worker/flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct fake *current; /* for the plugin's callbacks */

/* ---- calls ---- */

/* Keeps a call. */
static struct fake_call *call_new(struct queue *q, enum fake_kind kind, void *arg)
{
	struct fake *f = (struct fake *)(void *)q;
	struct fake_call *c = &f->calls[f->ncalls++];

	assert_true(f->ncalls < sizeof(f->calls) / sizeof(*f->calls));
	*c = (struct fake_call){ .kind = kind, .arg = arg };
	return c;
}

size_t fake_count(const struct fake *f, enum fake_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < f->ncalls; i++)
		n += f->calls[i].kind == kind;
	return n;
}

const struct fake_call *fake_peek(const struct fake *f, enum fake_kind kind)
{
	for (size_t i = 0; i < f->ncalls; i++)
		if (f->calls[i].kind == kind)
			return &f->calls[i];
	fail_msg("no call of kind %d waits", kind);
	return NULL;
}

/* Takes the first call of a kind out. */
static struct fake_call call_take(struct fake *f, enum fake_kind kind)
{
	size_t at = (size_t)(fake_peek(f, kind) - f->calls);
	struct fake_call c = f->calls[at];

	memmove(&f->calls[at], &f->calls[at + 1], (--f->ncalls - at) * sizeof(c));
	return c;
}

static void op_free(struct queue *q)
{
	(void)q; /* it is the test's */
}

static bool op_is_up(const struct queue *q)
{
	return ((const struct fake *)(const void *)q)->up;
}

static void op_probe(struct queue *q, queue_probe_cb cb, void *arg)
{
	call_new(q, FAKE_PROBE, arg)->cb.probe = cb;
}

static bool op_has_dlq(const struct queue *q)
{
	return !((const struct fake *)(const void *)q)->no_dlq;
}

static const char *op_order(const struct queue *q)
{
	(void)q;
	return "by time";
}

static void op_claim(struct queue *q, const struct queue_look *look, queue_claim_cb cb, void *arg)
{
	struct fake_call *c = call_new(q, FAKE_CLAIM, arg);

	c->look = *look;
	c->cb.claim = cb;
}

static void op_claim_row(const struct queue *q, const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	const struct fake_row *r = &((const struct fake_row *)claim->kept)[row];

	(void)q;
	m->id = r->id;
	m->read_ct = r->read_ct ? r->read_ct : 1;
	m->attempt = (unsigned)m->read_ct;
	m->nonce = r->nonce;
	m->born_us = m->enqueued_us = r->born ? r->born : r->id; /* any time that is always the same */
	m->due_us = clock_realtime_us() - r->late_ms * 1000;
	m->priority = r->priority;
	m->unreadable = row < claim->rows ? NULL : xstrdup("refused by the test");
	m->text = r->withheld ? NULL : xstrdup(r->text ? r->text : "{}");
	m->text_len = r->withheld ? r->withheld : strlen(m->text);
}

static void op_awake(struct queue *q, queue_lock_cb cb, void *arg)
{
	call_new(q, FAKE_AWAKE, arg)->cb.lock = cb;
}

static void op_release_awake(struct queue *q, bool held, queue_lock_cb cb, void *arg)
{
	struct fake_call *c = call_new(q, FAKE_RELEASE, arg);

	c->held = held;
	c->cb.lock = cb;
}

/* Keeps the numbers of a call's messages. */
static void keep_ids(struct fake_call *c, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb)
{
	c->n = n;
	for (size_t i = 0; i < n && i < sizeof(c->ids) / sizeof(*c->ids); i++)
		c->ids[i] = msgs[i]->id;
	c->reason = msgs[0]->reason;
	c->class = msgs[0]->class;
	c->delay_ms = msgs[0]->delay_ms;
	c->cb.settled = cb;
}

static void op_settle(struct queue *q, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n, bool again,
	queue_settled_cb cb, void *arg)
{
	struct fake_call *c = call_new(q, FAKE_SETTLE, arg);

	c->outcome = outcome;
	c->again = again;
	keep_ids(c, msgs, n, cb);
}

static void op_extend(struct queue *q, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	keep_ids(call_new(q, FAKE_EXTEND, arg), msgs, n, cb);
}

static void op_ask_pause(struct queue *q, queue_pause_cb cb, void *arg)
{
	call_new(q, FAKE_PAUSE, arg)->cb.pause = cb;
}

static void op_ask_cancels(struct queue *q, queue_cancels_cb cb, void *arg)
{
	call_new(q, FAKE_CANCELS, arg)->cb.cancels = cb;
}

static void op_announce(struct queue *q, const char *channel)
{
	(void)channel;
	((struct fake *)(void *)q)->announced++;
}

static void op_reconnect(struct queue *q, const char *reason)
{
	(void)reason;
	((struct fake *)(void *)q)->reconnects++;
}

static void op_query(
	struct queue *q, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	struct fake_call *c = call_new(q, FAKE_QUERY, arg);

	(void)sql;
	c->param = nparams ? xstrdup(params[0]) : NULL;
	c->cb.query = cb;
}

static const struct queue_ops ops = { .free = op_free,
	.is_up = op_is_up,
	.probe = op_probe,
	.has_dlq = op_has_dlq,
	.order = op_order,
	.claim = op_claim,
	.claim_row = op_claim_row,
	.awake = op_awake,
	.release_awake = op_release_awake,
	.settle = op_settle,
	.extend = op_extend,
	.ask_pause = op_ask_pause,
	.ask_cancels = op_ask_cancels,
	.announce = op_announce,
	.reconnect = op_reconnect,
	.query = op_query };

/* ---- answers ---- */

void fake_answer_probe(struct fake *f, const char *error)
{
	struct fake_call c = call_take(f, FAKE_PROBE);

	c.cb.probe(c.arg, error, NULL);
}

void fake_answer_claim(struct fake *f, const struct fake_row *rows, int n)
{
	struct fake_call c = call_take(f, FAKE_CLAIM);
	struct queue_claim claim = { .rows = n - f->about.refused,
		.refused = f->about.refused,
		.due_ms = f->about.due_ms,
		.shared = f->about.shared,
		.silent = f->about.silent,
		.changed = f->about.changed,
		.sqlstate = "00000",
		.kept = rows };

	c.cb.claim(c.arg, &claim);
}

void fake_come_ahead(struct fake *f, const struct fake_row *row)
{
	const struct fake_call *c = fake_peek(f, FAKE_CLAIM);
	struct queue_claim claim = {
		.rows = 1, .ahead = true, .shared = -1, .silent = -1, .sqlstate = "00000", .kept = row
	};

	c->cb.claim(c->arg, &claim);
}

void fake_fail_claim(struct fake *f, const char *sqlstate)
{
	struct fake_call c = call_take(f, FAKE_CLAIM);
	struct queue_claim claim = { .error = "refused by the test", .sqlstate = sqlstate };

	c.cb.claim(c.arg, &claim);
}

/* Gives all messages of a call the same fate. */
static void answer_fates(struct fake_call *c, enum queue_fate fate)
{
	enum queue_fate fates[512];
	struct queue_settled s = { .sqlstate = "00000", .n = c->n, .fate = fates };

	assert_true(c->n <= sizeof(fates) / sizeof(*fates));
	for (size_t i = 0; i < c->n; i++)
		fates[i] = fate;
	c->cb.settled(c->arg, &s);
}

void fake_answer_settle(struct fake *f, enum queue_fate fate)
{
	struct fake_call c = call_take(f, FAKE_SETTLE);

	answer_fates(&c, fate);
}

void fake_answer_extend(struct fake *f, enum queue_fate fate)
{
	struct fake_call c = call_take(f, FAKE_EXTEND);

	answer_fates(&c, fate);
}

void fake_fail_extend(struct fake *f, const char *sqlstate)
{
	struct fake_call c = call_take(f, FAKE_EXTEND);
	struct queue_settled s = { .error = "refused by the test", .sqlstate = sqlstate, .n = c.n };

	c.cb.settled(c.arg, &s);
}

void fake_fail_settle(struct fake *f, const char *sqlstate)
{
	struct fake_call c = call_take(f, FAKE_SETTLE);
	struct queue_settled s = { .error = "refused by the test", .sqlstate = sqlstate, .n = c.n };

	c.cb.settled(c.arg, &s);
}

void fake_fail_fence(struct fake *f, const char *sqlstate)
{
	struct fake_call c = call_take(f, FAKE_SETTLE);
	struct queue_settled s = { .error = "refused by the test", .sqlstate = sqlstate, .n = c.n, .ours = true };

	c.cb.settled(c.arg, &s);
}

void fake_answer_query(struct fake *f, const char *error)
{
	struct fake_call c = call_take(f, FAKE_QUERY);
	struct pgresult r = { .error = error, .sqlstate = error ? "XX000" : "00000" };

	free(c.param);
	c.cb.query(c.arg, &r);
}

void fake_answer_pause(struct fake *f, const char *why)
{
	struct fake_call c = call_take(f, FAKE_PAUSE);

	c.cb.pause(c.arg, why, NULL, "00000");
}

void fake_fail_pause(struct fake *f, const char *sqlstate)
{
	struct fake_call c = call_take(f, FAKE_PAUSE);

	c.cb.pause(c.arg, NULL, "refused by the test", sqlstate);
}

void fake_answer_cancels(struct fake *f, const struct queue_cancel *cancels, size_t n)
{
	struct fake_call c = call_take(f, FAKE_CANCELS);

	c.cb.cancels(c.arg, cancels, n, NULL, "00000");
}

void fake_fail_cancels(struct fake *f, const char *sqlstate)
{
	struct fake_call c = call_take(f, FAKE_CANCELS);

	c.cb.cancels(c.arg, NULL, 0, "refused by the test", sqlstate);
}

void fake_answer_lock(struct fake *f, enum fake_kind kind, bool ok)
{
	struct fake_call c = call_take(f, kind);

	c.cb.lock(c.arg, ok);
}

/* ---- the clock ---- */

/* The timers that wait. */
struct timers {
	const struct event *list[64];
	size_t n;
};

/* Collects one event of the loop. */
static int collect(const struct event_base *base, const struct event *ev, void *arg)
{
	struct timers *t = arg;

	(void)base;
	if (event_pending(ev, EV_TIMEOUT, NULL))
		t->list[t->n++] = ev;
	return 0;
}

/* libevent's usual clock goes by ticks of milliseconds, which timers that a test has moved would show. */
static struct event_base *fake_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

void fake_advance(struct fake *f, int64_t ms)
{
	struct timeval now, at, by = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
	struct timers t = { .n = 0 };

	clock_skip_ms(ms);
	event_base_foreach_event(f->base, collect, &t);
	for (size_t i = 0; ms && i < t.n; i++) {
		struct event *ev = (struct event *)(uintptr_t)t.list[i];

		event_pending(ev, EV_TIMEOUT, &at);
		evutil_timersub(&at, &by, &at);
		evutil_gettimeofday(&now, NULL); /* the timer counts from about the same time */
		if (evutil_timercmp(&at, &now, <=)) {
			event_del(ev);
			event_active(ev, EV_TIMEOUT, 0);
		} else {
			evutil_timersub(&at, &now, &at);
			evtimer_add(ev, &at);
		}
	}
	for (int i = 0; i < 4; i++)
		event_base_loop(f->base, EVLOOP_NONBLOCK);
}

/* ---- the plugin and the rest ---- */

/* Keeps a message. */
static void plugin_deliver(void *handle, struct pgmqd_msg *m)
{
	(void)handle;
	assert_true(current->ndelivered < 64);
	current->delivered[current->ndelivered++] = m;
	if (current->config_error)
		flow_settle(m, OUT_CONFIG, 0, xstrdup("as the test says"));
}

/* Keeps the messages of a batch. */
static void plugin_deliver_batch(void *handle, struct pgmqd_msg *const *msgs, size_t n)
{
	current->batches++;
	current->batch = (unsigned)n;
	for (size_t i = 0; i < n; i++)
		plugin_deliver(handle, msgs[i]);
}

/* Counts a message that is taken back. */
static void plugin_cancel(void *handle, struct pgmqd_msg *m)
{
	(void)handle;
	current->cancelled++;
	if (current->stubborn)
		current->took = flow_settle(m, OUT_DONE, 0, NULL);
}

struct fake *fake_new(void)
{
	struct fake *f = xcalloc(1, sizeof(*f));
	static char name[] = "work";

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	f->queue.ops = &ops;
	f->up = true;
	f->about = (struct fake_about){ .due_ms = QUEUE_NOT_DUE, .shared = -1, .silent = -1 };
	f->base = fake_base();
	event_base_priority_init(f->base, 2);
	option_defaults(settings_global_options, &f->settings);
	option_defaults(settings_queue_options, &f->qs);
	f->qs.name = name;
	f->stats = stats_create(1);
	f->slot = stats_take(f->stats, ROLE_WORKER, "work", "work", "fake");
	f->plugin = xcalloc(1, sizeof(*f->plugin));
	f->plugin->d.name = "fake";
	f->plugin->d.deliver = plugin_deliver;
	f->plugin->d.deliver_batch = plugin_deliver_batch;
	f->plugin->d.cancel = plugin_cancel;
	current = f;
	return f;
}

void fake_lose(struct fake *f)
{
	size_t n = f->ncalls;

	f->up = false;
	for (size_t i = 0; i < n; i++) {
		struct fake_call c = call_take(f, f->calls[0].kind);
		struct queue_settled s = { .error = "connection lost", .sqlstate = "", .n = c.n };

		if (c.kind == FAKE_SETTLE || c.kind == FAKE_EXTEND)
			c.cb.settled(c.arg, &s);
		free(c.param);
	}
}

void fake_free(struct fake *f)
{
	option_free(settings_queue_options, &f->qs);
	option_free(settings_global_options, &f->settings);
	event_base_free(f->base);
	free(f->plugin);
	free(f);
}

void fake_worker(struct fake *f, struct pgmqd_worker *w, struct messages *all)
{
	static const struct log_context context = { .process = "worker", .queue = "work", .plugin = "fake" };

	messages_init(all, f->slot);
	*w = (struct pgmqd_worker){ .settings = &f->settings,
		.qs = &f->qs,
		.slot = f->slot,
		.plugin = f->plugin,
		.messages = all,
		.queue = &f->queue,
		.base = f->base,
		.up = true,
		.log = &context };
}

struct pgmqd_msg *fake_message(struct pgmqd_worker *w, int64_t id, enum msg_state state)
{
	struct pgmqd_msg *m = message_new(w->messages, w);

	m->id = id;
	m->read_ct = 1;
	m->attempt = 1;
	m->text = xstrdup("{}");
	m->text_len = 2;
	m->run_ms = clock_boottime_ms();
	m->lease_ms = clock_boottime_ms() + w->qs->visibility_timeout;
	message_move(m, MSG_WAITING);
	if (state != MSG_WAITING)
		message_move(m, state);
	return m;
}
