/* queue_file.c: stands in for a queue in PostgreSQL when a plugin is tried without one: messages come from a file, and
 * the outcomes that would go to the database go to the one who holds the messages.
 */
#include "config.h"

#include "cmd/plugin/queue_file.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

#define ENQUEUED_US                                                                                                    \
	1767225600000000 /* 2026-01-01, for messages that have no time: the answers must not depend on the clock */

struct queue_file {
	struct queue queue;
	struct event_base *base;
	const struct queue_file_source *source;
	void *arg;
};

/* An answer that the flow waits for; given in the next round of the loop, as a database would. */
struct given {
	struct event *ev;
	void (*give)(struct given *a);
	union {
		queue_probe_cb probe;
		queue_claim_cb claim;
		queue_settled_cb settled;
		pgconn_result_cb result;
	} cb;
	void *arg;
	size_t n; /* messages that were claimed, or settled */
	struct queue_file_message **claimed;
	struct answer reply; /* to a statement */
};

static inline struct queue_file *queue_file(struct queue *q)
{
	return (struct queue_file *)(void *)q;
}

/* Gives an answer and frees it. */
static void given_now(evutil_socket_t fd, short what, void *arg)
{
	struct given *a = arg;

	(void)fd, (void)what;
	a->give(a);
	event_free(a->ev);
	PQclear(a->reply.res);
	free(a->claimed);
	free(a->reply.error);
	free(a);
}

/* Prepares an answer. */
static struct given *given_new(struct queue *q, void (*give)(struct given *a), size_t n, void *arg)
{
	struct given *a = xcalloc(1, sizeof(*a));

	a->give = give;
	a->arg = arg;
	a->n = n;
	a->ev = loop_timer_new(queue_file(q)->base, given_now, a);
	event_active(a->ev, 0, 0);
	return a;
}

/* ---- a plugin's statements ---- */

/* The answer to a plugin's statement. */
static void give_result(struct given *a)
{
	struct pgresult r = { .res = a->reply.res,
		.error = a->reply.error,
		.sqlstate = a->reply.sqlstate,
		.affected = a->reply.affected };

	if (a->cb.result)
		a->cb.result(a->arg, &r);
}

/* Asks the source. */
static void file_query(
	struct queue *q, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	struct given *g = given_new(q, give_result, 0, arg);

	g->cb.result = cb;
	queue_file(q)->source->answer(queue_file(q)->arg, sql, nparams, params, &g->reply);
}

/* ---- the queue ---- */

/* Frees it. */
static void file_free(struct queue *q)
{
	free(q);
}

/* A file is always there. */
static bool file_is_up(const struct queue *q)
{
	(void)q;
	return true;
}

/* The tables are as they should be. */
static void give_probe(struct given *a)
{
	a->cb.probe(a->arg, NULL, NULL);
}

/* Looks at no tables. */
static void file_probe(struct queue *q, queue_probe_cb cb, void *arg)
{
	given_new(q, give_probe, 0, arg)->cb.probe = cb;
}

/* Dead letters are printed. */
static bool file_has_dlq(const struct queue *q)
{
	(void)q;
	return true;
}

/* In the file's order. */
static const char *file_order(const struct queue *q)
{
	(void)q;
	return "by time";
}

/* The messages that were claimed. */
static void give_claim(struct given *a)
{
	struct queue_claim claim = { .rows = (int)a->n, .due_ms = INT64_C(86400000), .shared = -1, .kept = a->claimed };

	a->cb.claim(a->arg, &claim);
}

/* Takes the next messages of the file. */
static void file_claim(struct queue *q, const struct queue_look *look, queue_claim_cb cb, void *arg)
{
	struct given *a = given_new(q, give_claim, 0, arg);

	a->cb.claim = cb;
	a->claimed = xcalloc((size_t)look->n + 1, sizeof(struct queue_file_message *));
	while (a->n < look->n && (a->claimed[a->n] = queue_file(q)->source->next(queue_file(q)->arg)) != NULL)
		a->n++;
}

/* Fills a message in. */
static void file_claim_row(const struct queue *q, const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	const struct queue_file_message *k = ((struct queue_file_message *const *)claim->kept)[row];

	(void)q;
	m->id = k->id;
	m->attempt = k->attempt;
	m->read_ct = (int)k->attempt;
	m->enqueued_us = m->due_us = k->enqueued_us ? k->enqueued_us : ENQUEUED_US;
	/* one without a time falls due now: else a plugin would find it months too late */
	m->first_due_us = k->enqueued_us ? k->enqueued_us : clock_realtime_us();
	m->text = xstrdup(k->text);
	m->text_len = strlen(k->text);
	m->headers = xstrdup(k->headers);
}

/* No producer is there that could be silent: the lock "awake" is never had ... */
static void file_awake(struct queue *q, queue_lock_cb cb, void *arg)
{
	(void)q;
	cb(arg, false);
}

/* ... and "in flight" always. */
static void file_release_awake(struct queue *q, bool held, queue_lock_cb cb, void *arg)
{
	(void)q, (void)held;
	cb(arg, true);
}

/* The outcomes are known. */
static void give_settled(struct given *a)
{
	enum queue_fate *fate = xcalloc(a->n + 1, sizeof(*fate));
	struct queue_settled s = { .n = a->n, .fate = fate };

	for (size_t i = 0; i < a->n; i++)
		fate[i] = QUEUE_SETTLED;
	a->cb.settled(a->arg, &s);
	free(fate);
}

/* Prints outcomes. */
static void file_settle(struct queue *q, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n, bool again,
	queue_settled_cb cb, void *arg)
{
	(void)outcome, (void)again;
	given_new(q, give_settled, n, arg)->cb.settled = cb;
	for (size_t i = 0; i < n; i++)
		queue_file(q)->source->outcome(queue_file(q)->arg, msgs[i]);
}

/* Leases have no end. */
static void file_extend(struct queue *q, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	(void)msgs;
	given_new(q, give_settled, n, arg)->cb.settled = cb;
}

/* No operator pauses it. */
static void file_ask_pause(struct queue *q, queue_pause_cb cb, void *arg)
{
	(void)q;
	cb(arg, NULL, NULL, "00000");
}

/* There are no other workers. */
static void file_announce(struct queue *q, const char *channel)
{
	(void)q, (void)channel;
}

/* There is no session. */
static void file_reconnect(struct queue *q, const char *reason)
{
	(void)q, (void)reason;
}

static const struct queue_ops file_ops = {
	.free = file_free,
	.is_up = file_is_up,
	.probe = file_probe,
	.has_dlq = file_has_dlq,
	.order = file_order,
	.claim = file_claim,
	.claim_row = file_claim_row,
	.awake = file_awake,
	.release_awake = file_release_awake,
	.settle = file_settle,
	.extend = file_extend,
	.ask_pause = file_ask_pause,
	.announce = file_announce,
	.reconnect = file_reconnect,
	.query = file_query,
};

struct queue *queue_file_new(struct event_base *base, const struct queue_file_source *source, void *arg)
{
	struct queue_file *q = xcalloc(1, sizeof(*q));

	q->queue.ops = &file_ops;
	q->base = base;
	q->source = source;
	q->arg = arg;
	return &q->queue;
}
