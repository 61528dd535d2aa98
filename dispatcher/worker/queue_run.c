/* queue_run.c: the statements of queue.c at work: the handshake's locks, settling, extending. */
#include "config.h"

#include "worker/queue_private.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "pg/notify.h"
#include "pg/sqlstate.h"
#include "worker/second.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- statements ---- */

/* The effect of each statement, as the end of the name under which it is prepared. */
static const char *const words[ST_COUNT] = {
	[ST_CLAIM] = "claim",
	[ST_AHEAD] = "ahead",
	[ST_SPOT] = "spot",
	[ST_DONE] = "done",
	[ST_DONE_CAREFUL] = "done_careful",
	[ST_RETRY] = "retry",
	[ST_RELEASE] = "release",
	[ST_FAIL] = "fail",
	[ST_REPLACE] = "replace",
	[ST_KNOWN] = "known",
	[ST_CANCEL] = "cancel",
	[ST_EXTEND] = "extend",
	[ST_STILL] = "still",
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

/* A statement that is being prepared. */
struct prepare_call {
	struct queue_pg *queue;
	enum stmt st;
	unsigned texts;
	pgconn_result_cb cb;
	void *arg;
};

/* A statement was prepared, or not: then the next one that needs it tries again. */
static void prepare_answer(void *arg, const struct pgresult *r)
{
	struct prepare_call *call = arg;
	bool ok = r->res && PQresultStatus(r->res) == PGRES_COMMAND_OK;

	if (call->texts == call->queue->texts)
		call->queue->statement[call->st].prepared = ok ? PREPARED_YES : PREPARED_NOT;
	if (call->cb)
		call->cb(call->arg, r);
	free(call);
}

void queue_prepare(struct queue_pg *q, enum stmt st, pgconn_result_cb cb, void *arg)
{
	struct statement *s = &q->statement[st];
	struct prepare_call *call = xcalloc(1, sizeof(*call));
	char name[NAME_SIZE];

	if (!s->text)
		s->text = queue_sql(q, st);
	*call = (struct prepare_call){ .queue = q, .st = st, .texts = q->texts, .cb = cb, .arg = arg };
	s->prepared = PREPARED_UNDER_WAY;
	/* behind a pooler only checked: the next statement may meet another session */
	pgconn_prepare(q->pg, q->pooled ? "" : statement_name(q, st, name), s->text, prepare_answer, call);
}

void queue_forget(struct queue_pg *q)
{
	char name[NAME_SIZE], *sql;

	queue_forget_fence(q);
	queue_second_forget(q);
	q->texts++;
	for (int i = 0; i < ST_COUNT; i++) {
		if (q->statement[i].prepared != PREPARED_NOT && !q->pooled && q->session == pgconn_session(q->pg)) {
			sql = xasprintf("DEALLOCATE \"%s\"", statement_name(q, (enum stmt)i, name));
			pgconn_query(q->pg, NULL, sql, 0, NULL, NULL, NULL);
			free(sql);
		}
		free(q->statement[i].text);
		q->statement[i] = (struct statement){ 0 };
	}
}

/* The first time it prepares the statement in the same transaction, so that an error of the one (a lock, say) is that
 * of the other. While it is not known whether that succeeds, and behind a pooler, the text goes along. */
void queue_run_grouped(
	struct queue_pg *q, enum stmt st, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	const struct statement *s = &q->statement[st];
	bool by_name = s->prepared != PREPARED_UNDER_WAY && !q->pooled;
	char name[NAME_SIZE];

	if (s->prepared == PREPARED_NOT)
		queue_prepare(q, st, NULL, NULL);
	pgconn_query(q->pg, by_name ? statement_name(q, st, name) : NULL, by_name ? NULL : s->text, nparams, params, cb,
		arg);
}

void queue_run(struct queue_pg *q, enum stmt st, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	pgconn_group_begin(q->pg);
	queue_run_grouped(q, st, nparams, params, cb, arg);
	pgconn_group_end(q->pg);
}

void queue_run_still(struct queue_pg *q)
{
	if (!q->triggers)
		return;
	pgconn_query(q->pg, NULL, "SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL, NULL);
	queue_run_grouped(q, ST_STILL, 0, NULL, NULL, NULL);
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

/* ---- settling ---- */

/* A call for these messages; its first parameters are their claims. */
static struct settle_call *settle_call(struct queue *base, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb,
	void *arg, const char **params)
{
	struct settle_call *call = xcalloc(1, sizeof(*call) + n * sizeof(call->wanted[0]));

	call->queue = queue_pg(base);
	call->cb = cb;
	call->arg = arg;
	call->n = n;
	for (size_t i = 0; i < n; i++) {
		call->wanted[i] = msgs[i]->id;
		sqltext_int(&call->ids, msgs[i]->id);
		sqltext_int(&call->tokens, (int64_t)msgs[i]->read_ct * NONCES + msgs[i]->nonce);
		sqltext_int(&call->born, msgs[i]->born_us);
	}
	params[0] = sqltext_end(&call->ids);
	params[1] = sqltext_end(&call->tokens);
	params[2] = sqltext_end(&call->born);
	return call;
}

/* Frees it. */
static void settle_call_free(struct settle_call *call)
{
	sqltext_free(&call->ids);
	sqltext_free(&call->tokens);
	sqltext_free(&call->born);
	sqltext_free(&call->results);
	free(call->fate);
	free(call);
}

/* The fate that the second column of an answer tells. */
static enum queue_fate fate_of(const PGresult *res, int row)
{
	return PQgetisnull(res, row, 1)          ? QUEUE_REFUSED
	       : *PQgetvalue(res, row, 1) == 't' ? QUEUE_LOCKED
	                                         : QUEUE_SETTLED;
}

/* Sets the fate of each message that the answer names; the answers mostly come in the order of the messages. Returns
 * how many remain lost. */
static size_t settle_fates(const struct settle_call *call, const PGresult *res, enum queue_fate *fate)
{
	size_t at = 0, lost = 0;

	for (int i = 0; i < PQntuples(res); i++) {
		int64_t id = atoll(PQgetvalue(res, i, 0));

		queue_follow_failed(res, i, PQgetvalue(res, i, 0));

		for (size_t tried = 0; tried < call->n; tried++, at++) {
			if (at >= call->n)
				at = 0;
			if (fate[at] == QUEUE_LOST && call->wanted[at] == id) {
				fate[at++] = fate_of(res, i);
				break;
			}
		}
	}
	for (size_t i = 0; i < call->n; i++)
		lost += fate[i] == QUEUE_LOST;
	return lost;
}

/* Whether something stood in the way that ST_DONE_CAREFUL goes round: a row that another session has locked, or a
 * number that the archive has given to another message. */
static bool settle_is_blocked(const char *sqlstate)
{
	return strcmp(sqlstate, "55P03") == 0 || strcmp(sqlstate, "23505") == 0;
}

static void settle_carefully(struct settle_call *call, bool again);

/* The answer to the fence of done_with and the plugin's statement. */
static void fence_fates(struct settle_call *call, const struct pgresult *r, struct queue_settled *s)
{
	bool failed = r->error && strcmp(r->sqlstate, "22P02") == 0;

	if (failed && strstr(r->error, FENCE_MARK)) {
		s->error = NULL;
		s->lost = true;
	} else if (failed && strstr(r->error, FENCE_KEPT)) {
		s->error = QUEUE_REFUSED_ERROR;
		s->sqlstate = QUEUE_REFUSED_STATE;
	}
	for (size_t i = 0; !r->error && i < call->n; i++)
		call->fate[i] = QUEUE_SETTLED;
}

/* The answer that tells why ST_DONE has left some messages where they are; without one they are asked for again. */
static void settle_explained(void *arg, const struct pgresult *r)
{
	struct settle_call *call = arg;
	struct queue_settled s = { .sqlstate = "", .n = call->n, .fate = call->fate };

	if (!r->error)
		settle_fates(call, r->res, call->fate);
	for (size_t i = 0; r->error && i < call->n; i++)
		if (call->fate[i] == QUEUE_LOST)
			call->fate[i] = QUEUE_LOCKED;
	call->cb(call->arg, &s);
	settle_call_free(call);
}

void queue_settle_answer(void *arg, const struct pgresult *r)
{
	struct settle_call *call = arg;
	struct queue_settled s = { .error = r->error, .sqlstate = r->sqlstate, .n = call->n };

	if (call->counted)
		second_answered(call->queue->second);

	if (call->plain && r->error && settle_is_blocked(r->sqlstate)) {
		settle_carefully(call, false);
		return;
	}
	call->fate = xcalloc(call->n + 1, sizeof(*call->fate));
	if (call->fence)
		fence_fates(call, r, &s);
	else if (!r->error && settle_fates(call, r->res, call->fate) > 0 && call->plain) {
		/* by the first connection: a claim of this worker that has taken it is answered before */
		settle_carefully(call, false);
		return;
	}
	s.fate = s.error ? NULL : call->fate;
	s.ours = call->ours;
	call->cb(call->arg, &s);
	settle_call_free(call);
}

/* Archives what can be archived, whatever stands in the way of the rest, and tells what that is; `again`: it may be
 * archived already. */
static void settle_carefully(struct settle_call *call, bool again)
{
	const char *params[5] = { call->ids.buf, call->tokens.buf, call->born.buf, again ? "t" : "f",
		call->results.buf };

	call->plain = call->counted = false;
	queue_run(call->queue, ST_DONE_CAREFUL, queue_follows(call->queue) ? 5 : 4, params,
		call->fate ? settle_explained : queue_settle_answer, call);
}

/* The parameters of a retry or a release behind the claims. */
static void settle_retry(
	struct queue_pg *q, enum stmt st, struct pgmqd_msg *const *msgs, const char **params, struct settle_call *call)
{
	struct sqltext delays = { 0 }, reasons = { 0 }, starts = { 0 };

	for (size_t i = 0; i < call->n; i++) {
		sqltext_int(&delays, msgs[i]->delay_ms);
		sqltext_str(&reasons, msgs[i]->reason ? msgs[i]->reason : "");
		sqltext_int(&starts, msgs[i]->started_us);
		/* A message that goes back to its place is below the mark. */
		if (msgs[i]->delay_ms < 0)
			q->mark_us = 0;
	}
	params[3] = sqltext_end(&delays);
	params[5] = q->table;
	params[6] = sqltext_end(&reasons);
	params[7] = sqltext_end(&starts);
	queue_run(q, st, st == ST_RELEASE ? 6 : 8, params, queue_settle_answer, call);
	sqltext_free(&delays);
	sqltext_free(&reasons);
	sqltext_free(&starts);
}

/* The parameters of a dead-lettering behind the claims. */
static void settle_fail(
	struct queue_pg *q, struct pgmqd_msg *const *msgs, const char **params, struct settle_call *call)
{
	struct sqltext reasons = { 0 }, classes = { 0 }, attempts = { 0 };

	for (size_t i = 0; i < call->n; i++) {
		sqltext_str(&reasons, msgs[i]->reason ? msgs[i]->reason : "");
		sqltext_str(&classes, msgs[i]->class ? msgs[i]->class : "permanent");
		sqltext_int(&attempts, msgs[i]->attempt);
	}
	params[3] = sqltext_end(&reasons);
	params[4] = sqltext_end(&classes);
	params[5] = sqltext_end(&attempts);
	queue_run(q, ST_FAIL, 7, params, queue_settle_answer, call);
	sqltext_free(&reasons);
	sqltext_free(&classes);
	sqltext_free(&attempts);
}

/* Settles. */
static void run_settle(struct queue *base, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n,
	bool again, queue_settled_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	const char *params[8] = { NULL }, *flag = again ? "t" : "f";
	struct settle_call *call = settle_call(base, msgs, n, cb, arg, params);
	char delay[24];

	switch (outcome) {
	case OUT_DONE:
		call->plain = !again;
		params[3] = queue_follow_results(q, msgs, n, &call->results);
		if (again)
			settle_carefully(call, true);
		else if (!queue_second_done(q, params, call))
			queue_run(q, ST_DONE, params[3] ? 4 : 3, params, queue_settle_answer, call);
		break;
	case OUT_RETRY:
		params[4] = flag;
		settle_retry(q, ST_RETRY, msgs, params, call);
		break;
	case OUT_CONFIG:
	case OUT_RELEASE:
		params[4] = flag;
		settle_retry(q, ST_RELEASE, msgs, params, call);
		break;
	case OUT_FAIL:
		params[6] = flag;
		settle_fail(q, msgs, params, call);
		break;
	case OUT_CANCEL:
		params[3] = q->name;
		queue_run(q, ST_CANCEL, 4, params, queue_settle_answer, call);
		break;
	case OUT_REPLACE:
		snprintf(delay, sizeof(delay), "%lld", (long long)msgs[0]->delay_ms);
		params[3] = msgs[0]->sql;
		params[4] = delay;
		params[5] = flag;
		params[6] = q->name;
		queue_run(q, ST_REPLACE, 7, params, queue_settle_answer, call);
		break;
	case OUT_DONE_WITH:
		if (again) /* only asks: what is not known comes back as not settled, and is then tried as if for the
		              first time */
			queue_run(q, ST_KNOWN, 3, params, queue_settle_answer, call);
		else
			queue_settle_done_with(q, msgs, n, call);
		break;
	default:
		abort();
	}
}

/* Extends. */
static void run_extend(struct queue *base, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	const char *params[3];
	struct settle_call *call = settle_call(base, msgs, n, cb, arg, params);

	pgconn_group_begin(call->queue->pg);
	queue_run_grouped(call->queue, ST_EXTEND, 3, params, queue_settle_answer, call);
	queue_run_still(call->queue);
	pgconn_group_end(call->queue->pg);
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

const struct queue_ops queue_run_ops = {
	.free = queue_pg_free,
	.is_up = run_is_up,
	.probe = queue_pg_probe,
	.has_dlq = run_has_dlq,
	.order = queue_pg_order,
	.claim = queue_pg_claim,
	.claim_row = queue_pg_claim_row,
	.awake = run_awake,
	.release_awake = run_release_awake,
	.settle = run_settle,
	.extend = run_extend,
	.ask_pause = queue_pg_ask_pause,
	.ask_cancels = queue_pg_ask_cancels,
	.announce = run_announce,
	.reconnect = run_reconnect,
	.query = queue_plugin_query,
};
