/* queue_run.c: the statements of queue.c at work: claims and the low-water mark, the handshake's locks, settling,
 * extending. */
#include "config.h"

#include "base/clock.h"
#include "worker/queue_private.h"

#include "base/log.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "pg/notify.h"
#include "process/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- statements ---- */

/* What a statement does, as the end of the name under which it is prepared. */
static const char *const words[ST_COUNT] = {
	[ST_CLAIM] = "claim",
	[ST_CLAIM_MANY] = "claim_many",
	[ST_DONE] = "done",
	[ST_DONE_AGAIN] = "done_again",
	[ST_RETRY] = "retry",
	[ST_RELEASE] = "release",
	[ST_FAIL] = "fail",
	[ST_REPLACE] = "replace",
	[ST_FENCE] = "fence",
	[ST_KNOWN] = "known",
	[ST_EXTEND] = "extend",
	[ST_AWAKE] = "awake",
	[ST_RELEASE_AWAKE] = "release_awake",
	[ST_IN_FLIGHT] = "in_flight",
	[ST_TURN] = "turn",
};
#define NAME_SIZE 32

/* The name of a prepared statement: the queue's number in this process and a word. */
static const char *statement_name(const struct queue_pg *q, enum stmt st, char *buf)
{
	snprintf(buf, NAME_SIZE, "q%u_%s", q->serial, words[st]);
	return buf;
}

void queue_prepare(struct queue_pg *q, enum stmt st, pgconn_result_cb cb, void *arg)
{
	struct statement *s = &q->statement[st];
	char name[NAME_SIZE];

	if (!s->text)
		s->text = queue_sql(q, st);
	/* behind a pooler only checked: the next statement may meet another session */
	pgconn_prepare(q->pg, q->pooled ? "" : statement_name(q, st, name), s->text, cb, arg);
	s->prepared = true;
}

void queue_forget(struct queue_pg *q)
{
	char name[NAME_SIZE], *sql;

	for (int i = 0; i < ST_COUNT; i++) {
		if (q->statement[i].prepared && !q->pooled && q->session == pgconn_session(q->pg)) {
			sql = xasprintf("DEALLOCATE \"%s\"", statement_name(q, (enum stmt)i, name));
			pgconn_query(q->pg, NULL, sql, 0, NULL, NULL, NULL);
			free(sql);
		}
		free(q->statement[i].text);
		q->statement[i] = (struct statement){ 0 };
	}
}

/* Runs one of the queue's statements, and prepares it when it is the first time. */
static void queue_run(
	struct queue_pg *q, enum stmt st, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	char name[NAME_SIZE];

	if (!q->statement[st].prepared)
		queue_prepare(q, st, NULL, NULL);
	pgconn_query(q->pg, q->pooled ? NULL : statement_name(q, st, name), q->pooled ? q->statement[st].text : NULL,
		nparams, params, cb, arg);
}

/* ---- claims ---- */

#define CLAIM_COLUMNS 14

#define FENCE_MS 1000

struct claim_call {
	struct queue_pg *queue;
	unsigned asked;
	bool ask;
	queue_claim_cb cb;
	void *arg;
};

/* Moves the low-water mark. `clock` is a second before this look began; `xids` is xmin of its snapshot and, where it
 * has one, its own xid. A row that is not visible now and has a vt before that clock belongs to a transaction that has
 * an xid already, so a smaller one than ours (the snapshot's xmax would not do: the newest transactions that run are
 * not below it). Once all those are over, that clock is the horizon, and a look that found less than it asked for has
 * seen all there was below. One that got all it asked for has seen what was below its last row: `seen` is that row's
 * vt, or the horizon where that is earlier; NULL when looks do not go by vt alone, or there was no row, or the look
 * before had found less than it asked for. */
static void claim_mark(struct queue_pg *q, const char *clock, const char *xids, const char *seen, bool all)
{
	unsigned long long xmin, own;
	bool passed;
	int n = sscanf(xids, "%llu:%llu", &xmin, &own);

	if (n < 1)
		return;
	passed = q->fence && xmin >= q->fence_xid;
	if (passed) {
		free(q->horizon);
		q->horizon = q->fence;
		q->fence = NULL;
	}
	if (all ? q->horizon != NULL : seen != NULL) {
		free(q->mark);
		q->mark = xstrdup(all ? q->horizon : seen);
	}
	if (!q->fence && n == 2) {
		q->fence = xstrdup(clock);
		q->fence_xid = own;
		q->fence_ms = clock_monotonic_ms();
	}
}

/* Whether a look that may claim nothing takes an xid all the same, for a fence: as long as the last messages claimed
 * leave dead rows at the ends of their leases, and not more than one a second. */
static bool claim_fences(const struct queue_pg *q)
{
	int64_t now = clock_monotonic_ms();

	return !q->rules.grouped && !q->fence &&
	       (!q->fence_ms || (now - q->fence_ms >= FENCE_MS &&
					q->fence_ms < q->claimed_ms + q->rules.lease_ms + 2 * FENCE_MS));
}

/* The claim's answer: rows, and one last row about the queue. */
static void claim_answer(void *arg, const struct pgresult *r)
{
	struct claim_call *call = arg;
	struct queue_claim claim = { .error = r->error, .sqlstate = r->sqlstate, .kept = r->res, .shared = -1 };
	int last = r->error ? -1 : PQntuples(r->res) - 1;

	if (last >= 0) {
		if (PQnfields(r->res) != CLAIM_COLUMNS) { /* libpq without memory may lose an answer, and then they all
			                                     belong to others */
			log_error("out of memory: an answer of the database is not that of its statement");
			abort();
		}
		claim.rows = last;
		call->queue->many = (unsigned)last == call->asked;
		if (last > 0)
			call->queue->claimed_ms = clock_monotonic_ms();
		claim.due_ms = PQgetisnull(r->res, last, 6) ? QUEUE_NOT_DUE : atoll(PQgetvalue(r->res, last, 6));
		if (call->ask)
			claim.shared = PQgetvalue(r->res, last, 9)[0] == 't';
		claim.changed = PQgetvalue(r->res, last, 11)[0] == 't';
		if (!call->queue->rules.grouped) /* else rows are passed over because others come before them */
			claim_mark(call->queue, PQgetvalue(r->res, last, 7), PQgetvalue(r->res, last, 8),
				PQgetisnull(r->res, last, 12) ? NULL : PQgetvalue(r->res, last, 12),
				(unsigned)last < call->asked);
	}
	call->cb(call->arg, &claim);
	free(call);
}

/* Claims. */
static void run_claim(struct queue *base, const struct queue_look *look, queue_claim_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	struct claim_call *call = xcalloc(1, sizeof(*call));
	char count[16];
	const char *params[9] = { count, q->name, look->full || !q->mark ? "-infinity" : q->mark,
		look->full ? "t" : "f", look->ask_shared ? "t" : "f", look->ask_due ? "t" : "f", q->horizon,
		claim_fences(q) ? "t" : "f", look->small ? "t" : "f" };

	snprintf(count, sizeof(count), "%u", look->n);
	call->queue = q;
	call->asked = look->n;
	call->ask = look->ask_shared;
	call->cb = cb;
	call->arg = arg;
	if (q->rules.grouped) { /* by turns: each claim's snapshot has to show what the one before has done */
		pgconn_group_begin(q->pg);
		queue_run(q, ST_TURN, 0, NULL, NULL, NULL);
	}
	queue_run(q, q->many ? ST_CLAIM_MANY : ST_CLAIM, 9, params, claim_answer, call);
	if (q->rules.grouped)
		pgconn_group_end(q->pg);
}

/* ---- pauses ---- */

struct pause_call {
	queue_pause_cb cb;
	void *arg;
};

/* Whether the queue is paused, and why. */
static void pause_answer(void *arg, const struct pgresult *r)
{
	struct pause_call *call = arg;

	call->cb(call->arg, !r->error && !PQgetisnull(r->res, 0, 0) ? PQgetvalue(r->res, 0, 0) : NULL, r->error,
		r->sqlstate);
	free(call);
}

/* Asks for the pause. */
static void run_ask_pause(struct queue *base, queue_pause_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	struct pause_call *call = xcalloc(1, sizeof(*call));
	const char *params[1] = { q->name };

	call->cb = cb;
	call->arg = arg;
	pgconn_query(q->pg, NULL, "SELECT pgmqd.queue_pause($1)", 1, params, pause_answer, call);
}

/* ---- the handshake ---- */

struct lock_call {
	queue_lock_cb cb;
	void *arg;
};

/* Whether a lock was had. */
static void lock_answer(void *arg, const struct pgresult *r)
{
	struct lock_call *call = arg;

	call->cb(call->arg, !r->error && PQntuples(r->res) == 1 && PQgetvalue(r->res, 0, 0)[0] == 't');
	free(call);
}

/* Runs one of the lock statements. */
static void lock_run(struct queue_pg *q, enum stmt st, queue_lock_cb cb, void *arg)
{
	struct lock_call *call = xcalloc(1, sizeof(*call));

	call->cb = cb;
	call->arg = arg;
	queue_run(q, st, 0, NULL, lock_answer, call);
}

/* Takes "awake". */
static void run_awake(struct queue *base, queue_lock_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);

	if (q->pooled) { /* a session lock would stay with the pooler */
		cb(arg, false);
		return;
	}
	lock_run(q, ST_AWAKE, cb, arg);
}

/* Gives "awake" up and tries "in flight". */
static void run_release_awake(struct queue *base, bool held, queue_lock_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);

	if (q->pooled) {
		cb(arg, true);
		return;
	}
	if (held)
		queue_run(q, ST_RELEASE_AWAKE, 0, NULL, NULL, NULL);
	lock_run(q, ST_IN_FLIGHT, cb, arg);
}

/* Fills a message in. */
static void run_claim_row(const struct queue *base, const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	const PGresult *res = claim->kept;
	int refunded = atoi(PQgetvalue(res, row, 2));

	(void)base;
	m->id = atoll(PQgetvalue(res, row, 0));
	m->read_ct = atoi(PQgetvalue(res, row, 1));
	m->attempt = m->read_ct > refunded ? (unsigned)(m->read_ct - refunded) : 1;
	m->enqueued_us = atoll(PQgetvalue(res, row, 3));
	m->due_us = atoll(PQgetvalue(res, row, 13));
	m->priority = strtod(PQgetvalue(res, row, 10), NULL); /* 0 for an SQL null */
	if (!PQgetisnull(res, row, 4)) {
		m->text_len = (size_t)PQgetlength(res, row, 4);
		/* one message that is too large must not end the process; without memory for a small one, the process
		 * is what is wrong */
		m->text = m->text_len < QUEUE_LARGE ? xrealloc(NULL, m->text_len + 1, 1) : malloc(m->text_len + 1);
		if (m->text)
			memcpy(m->text, PQgetvalue(res, row, 4), m->text_len + 1);
	} else if (!PQgetisnull(res, row, 6)) {
		m->text_len = (size_t)atoll(PQgetvalue(res, row, 6));
	}
	if (!PQgetisnull(res, row, 5))
		m->headers = xstrdup(PQgetvalue(res, row, 5));
}

/* ---- settling ---- */

struct settle_call {
	queue_settled_cb cb;
	void *arg;
	bool fence; /* the first of done_with's two statements: only the second one answers */
	size_t n;
	int64_t ids[]; /* of the messages, in their order */
};

/* A call for these messages. */
static struct settle_call *settle_call(struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	struct settle_call *call = xcalloc(1, sizeof(*call) + n * sizeof(call->ids[0]));

	call->cb = cb;
	call->arg = arg;
	call->n = n;
	for (size_t i = 0; i < n; i++)
		call->ids[i] = msgs[i]->id;
	return call;
}

/* Sets the fate of each message that the answer names; the answers mostly come in the order of the messages. */
static void settle_fates(const struct settle_call *call, const PGresult *res, enum queue_fate *fate)
{
	size_t at = 0;

	for (int i = 0; i < PQntuples(res); i++) {
		int64_t id = atoll(PQgetvalue(res, i, 0));

		for (size_t tried = 0; tried < call->n; tried++, at++) {
			if (at >= call->n)
				at = 0;
			if (fate[at] == QUEUE_LOST && call->ids[at] == id) {
				fate[at++] = QUEUE_SETTLED;
				break;
			}
		}
	}
}

/* The answer to a settling or an extension. */
static void settle_answer(void *arg, const struct pgresult *r)
{
	struct settle_call *call = arg;
	struct queue_settled s = { .error = r->error, .sqlstate = r->sqlstate, .n = call->n };
	enum queue_fate *fate = xcalloc(call->n + 1, sizeof(*fate));

	if (call->fence && r->error && strcmp(r->sqlstate, "22P02") == 0 && strstr(r->error, FENCE_MARK)) {
		s.error = NULL;
		s.lost = true;
	} else if (call->fence && !r->error) {
		for (size_t i = 0; i < call->n; i++)
			fate[i] = QUEUE_SETTLED;
	} else if (!r->error) {
		settle_fates(call, r->res, fate);
	}
	s.fate = s.error ? NULL : fate;
	call->cb(call->arg, &s);
	free(fate);
	free(call);
}

/* done_with: the fence and the plugin's statement as one transaction; for several messages that share it, its
 * parameters are arrays. */
static void settle_done_with(struct queue_pg *q, struct pgmqd_msg *const *msgs, size_t n, const char *const *params,
	struct settle_call *call)
{
	const struct pgmqd_msg *first = msgs[0];
	const char **values = xcalloc((size_t)first->nparams + 1, sizeof(*values));
	struct sqltext *arrays = xcalloc((size_t)first->nparams + 1, sizeof(*arrays));

	for (int p = 0; p < first->nparams; p++) {
		for (size_t i = 0; first->shared && i < n; i++)
			sqltext_str(&arrays[p], msgs[i]->params[p]);
		values[p] = first->shared ? sqltext_end(&arrays[p]) : first->params[p];
	}
	pgconn_group_begin(q->pg);
	queue_run(q, ST_FENCE, 2, params, NULL, NULL);
	call->fence = true;
	pgconn_query(q->pg, NULL, first->sql, first->nparams, values, settle_answer, call);
	pgconn_group_end(q->pg);
	for (int p = 0; p < first->nparams; p++)
		sqltext_free(&arrays[p]);
	free(arrays);
	free(values);
}

/* Settles. */
static void run_settle(struct queue *base, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n,
	bool again, queue_settled_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	struct settle_call *call = settle_call(msgs, n, cb, arg);
	struct sqltext ids = { 0 }, counts = { 0 }, third = { 0 }, classes = { 0 }, attempts = { 0 };
	const char *params[6] = { NULL }, *flag = again ? "t" : "f";
	char delay[24];

	for (size_t i = 0; i < n; i++) {
		sqltext_int(&ids, msgs[i]->id);
		sqltext_int(&counts, msgs[i]->read_ct);
		if (outcome == OUT_FAIL) {
			sqltext_str(&third, msgs[i]->reason ? msgs[i]->reason : "");
			sqltext_str(&classes, msgs[i]->class ? msgs[i]->class : "permanent");
			sqltext_int(&attempts, msgs[i]->attempt);
		} else {
			sqltext_int(&third, msgs[i]->delay_ms);
		}
	}
	params[0] = sqltext_end(&ids);
	params[1] = sqltext_end(&counts);
	switch (outcome) {
	case OUT_DONE:
		queue_run(q, again ? ST_DONE_AGAIN : ST_DONE, 2, params, settle_answer, call);
		break;
	case OUT_RETRY:
		params[2] = sqltext_end(&third);
		queue_run(q, ST_RETRY, 3, params, settle_answer, call);
		break;
	case OUT_CONFIG:
	case OUT_RELEASE:
		params[2] = sqltext_end(&third);
		params[3] = q->name;
		queue_run(q, ST_RELEASE, 4, params, settle_answer, call);
		break;
	case OUT_FAIL:
		params[2] = sqltext_end(&third);
		params[3] = sqltext_end(&classes);
		params[4] = sqltext_end(&attempts);
		params[5] = flag;
		queue_run(q, ST_FAIL, 6, params, settle_answer, call);
		break;
	case OUT_REPLACE:
		snprintf(delay, sizeof(delay), "%lld", (long long)msgs[0]->delay_ms);
		params[2] = msgs[0]->sql;
		params[3] = delay;
		params[4] = flag;
		queue_run(q, ST_REPLACE, 5, params, settle_answer, call);
		break;
	case OUT_DONE_WITH:
		if (again) /* only asks: what is not known comes back as not settled, and is then tried as if for the
		              first time */
			queue_run(q, ST_KNOWN, 2, params, settle_answer, call);
		else
			settle_done_with(q, msgs, n, params, call);
		break;
	default:
		abort();
	}
	sqltext_free(&ids);
	sqltext_free(&counts);
	sqltext_free(&third);
	sqltext_free(&classes);
	sqltext_free(&attempts);
}

/* Extends. */
static void run_extend(struct queue *base, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	struct settle_call *call = settle_call(msgs, n, cb, arg);
	struct sqltext ids = { 0 }, counts = { 0 };
	const char *params[2];

	for (size_t i = 0; i < n; i++) {
		sqltext_int(&ids, msgs[i]->id);
		sqltext_int(&counts, msgs[i]->read_ct);
	}
	params[0] = sqltext_end(&ids);
	params[1] = sqltext_end(&counts);
	queue_run(q, ST_EXTEND, 2, params, settle_answer, call);
	sqltext_free(&ids);
	sqltext_free(&counts);
}

/* ---- the rest of the table ---- */

/* Whether the connection is up. */
static bool run_is_up(const struct queue *base)
{
	return pgconn_is_up(((const struct queue_pg *)(const void *)base)->pg);
}

/* Whether there is a dead-letter queue. */
static bool run_has_dlq(const struct queue *base)
{
	return ((const struct queue_pg *)(const void *)base)->has_dlq;
}

/* A notification for this queue. */
static void run_announce(struct queue *base, const char *channel)
{
	struct queue_pg *q = queue_pg(base);

	notify_send(q->pg, channel, q->name, NULL, NULL);
}

/* Makes a new session. */
static void run_reconnect(struct queue *base, const char *reason)
{
	pgconn_restart(queue_pg(base)->pg, reason);
}

/* A plugin's statement. */
static void run_query(
	struct queue *base, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	pgconn_query(queue_pg(base)->pg, NULL, sql, nparams, params, cb, arg);
}

const struct queue_ops queue_run_ops = {
	.free = queue_pg_free,
	.is_up = run_is_up,
	.probe = queue_pg_probe,
	.has_dlq = run_has_dlq,
	.order = queue_pg_order,
	.claim = run_claim,
	.claim_row = run_claim_row,
	.awake = run_awake,
	.release_awake = run_release_awake,
	.settle = run_settle,
	.extend = run_extend,
	.ask_pause = run_ask_pause,
	.announce = run_announce,
	.reconnect = run_reconnect,
	.query = run_query,
};
