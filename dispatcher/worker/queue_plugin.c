/* queue_plugin.c: statements of plugins: their own ones, and those that commit together with the archive (done_with).
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "worker/plugin_db.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_SIZE 32

/* As on the worker's own session, but for the time limits of locks, which are the plugin's to meet, and for
 * pgmqd.worker: whatever a plugin's statement makes due earlier wakes the worker of that queue. */
#define SESSION "SELECT pg_catalog.set_config('enable_seqscan', 'off', false)"

/* The fence waits for no lock for long: meanwhile the outcomes behind it would not be stored. */
#define FENCE_LOCKS(ms) "SELECT pg_catalog.set_config('lock_timeout', '" ms "', true)"
#define PLUGIN_LOCKS "SELECT pg_catalog.set_config('lock_timeout', '" SQLTEXT_NUMBER(PGCONN_LOCK_TIMEOUT_S) "s', true)"

/* A statement that waits for its connection. */
struct plugin_statement {
	struct queue_pg *queue;
	char *sql;
	int nparams;
	char **params;
	pgconn_result_cb cb;
	void *arg;
	struct settle_call *settles; /* done_with: what it archives */
	char *sends;                 /* done_with: messages that go out with it; NULL: none */
	bool hurry;                  /* a lock in the way is to be known at once, since the effect is stored without the
	                                archive then, and a process that is killed before that forgets it */
};

/* Keeps a statement; parameters are to be filled in. */
static struct plugin_statement *statement_new(struct queue_pg *q, const char *sql, int nparams)
{
	struct plugin_statement *s = xcalloc(1, sizeof(*s));

	s->queue = q;
	s->sql = xstrdup(sql);
	s->nparams = nparams;
	s->params = xcalloc((size_t)nparams + 1, sizeof(*s->params));
	return s;
}

/* Frees it. */
static void statement_free(struct plugin_statement *s)
{
	for (int i = 0; i < s->nparams; i++)
		free(s->params[i]);
	free(s->params);
	free(s->sends);
	free(s->sql);
	free(s);
}

/* The fence's name on the plugins' connection. */
static const char *fence_name(const struct queue_pg *q, char *buf)
{
	snprintf(buf, NAME_SIZE, "q%u_fence", q->serial);
	return buf;
}

/* The fence's answer, which comes before that of the plugin's statement: only the one that failed has an error of its
 * own. */
static void fence_answer(void *arg, const struct pgresult *r)
{
	struct settle_call *call = arg;

	call->ours = call->ours || (r->error && r->res && PQresultStatus(r->res) == PGRES_FATAL_ERROR);
	if (!r->error)
		queue_follow_failed(r->res, 0, PQnfields(r->res) > 1 ? PQgetvalue(r->res, 0, 1) : "");
}

/* The fence, as text or prepared; on the plugins' connection it is prepared once a session. */
static void fence_run(struct queue_pg *q, struct pgconn *c, const char *const *params, struct settle_call *call)
{
	char name[NAME_SIZE];

	pgconn_query(c, pgconn_is_pooled(c) ? NULL : fence_name(q, name), pgconn_is_pooled(c) ? q->fence : NULL,
		queue_follows(q) ? 4 : 3, params, fence_answer, call);
}

/* The fence was prepared, or not: then the next one tries again. */
static void fence_prepared(void *arg, const struct pgresult *r)
{
	struct settle_call *call = arg;

	if (!r->error)
		return;
	call->ours = r->res && PQresultStatus(r->res) == PGRES_FATAL_ERROR;
	if (call->ours || !r->res)
		call->queue->fence_conn = NULL;
}

/* Whether the session of this connection does not know the fence. */
static bool fence_is_new(struct queue_pg *q, struct pgconn *c)
{
	if (!q->fence)
		q->fence = queue_sql(q, ST_FENCE);
	return !pgconn_is_pooled(c) && !(q->fence_conn == c && q->fence_session == pgconn_session(c));
}

/* Makes the session know it, within the transaction that needs it: a lock in the way is that transaction's error. */
static void fence_prepare(struct queue_pg *q, struct pgconn *c, struct settle_call *call)
{
	char name[NAME_SIZE];

	pgconn_prepare(c, fence_name(q, name), q->fence, fence_prepared, call);
	q->fence_conn = c;
	q->fence_session = pgconn_session(c);
}

void queue_forget_fence(struct queue_pg *q)
{
	char name[NAME_SIZE], *sql;

	if (q->fence_conn && pgconn_is_up(q->fence_conn) && q->fence_session == pgconn_session(q->fence_conn)) {
		sql = xasprintf("DEALLOCATE \"%s\"", fence_name(q, name));
		pgconn_query(q->fence_conn, NULL, sql, 0, NULL, NULL, NULL);
		free(sql);
	}
	free(q->fence);
	q->fence = NULL;
	q->fence_conn = NULL;
}

/* The connection is there. */
static void statement_send(void *arg, struct pgconn *c)
{
	struct plugin_statement *s = arg;
	const char *const *params = (const char *const *)s->params;

	if (s->settles) {
		const char *claims[4] = { s->settles->ids.buf, s->settles->tokens.buf, s->settles->born.buf,
			s->settles->results.buf };

		bool is_new = fence_is_new(s->queue, c);

		if (is_new)
			pgconn_query(c, NULL, SESSION, 0, NULL, NULL, NULL);
		pgconn_group_begin(c);
		pgconn_query(c, NULL, s->hurry ? FENCE_LOCKS("10") : FENCE_LOCKS(QUEUE_LOCK_TIMEOUT_MS), 0, NULL, NULL,
			NULL);
		if (is_new)
			fence_prepare(s->queue, c, s->settles);
		fence_run(s->queue, c, claims, s->settles);
		pgconn_query(c, NULL, PLUGIN_LOCKS, 0, NULL, NULL, NULL);
		queue_follow_send(c, s->sends);
		pgconn_query(c, NULL, s->sql, s->nparams, params, queue_settle_answer, s->settles);
		pgconn_group_end(c);
	} else {
		pgconn_query(c, NULL, s->sql, s->nparams, params, s->cb, s->arg);
	}
	statement_free(s);
}

/* Sends it by the plugins' connection, as soon as there is one. */
static void statement_run(struct plugin_statement *s)
{
	if (s->queue->plugin_db)
		plugin_db_use(s->queue->plugin_db, statement_send, s);
	else
		statement_send(s, s->queue->pg);
}

void queue_plugin_query(
	struct queue *base, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	struct plugin_statement *s = statement_new(queue_pg(base), sql, nparams);

	for (int i = 0; i < nparams; i++)
		s->params[i] = xstrdup(params[i]);
	s->cb = cb;
	s->arg = arg;
	statement_run(s);
}

/* done_with: the fence and the plugin's statement as one transaction; for several messages that share it, its
 * parameters are arrays. */
void queue_settle_done_with(struct queue_pg *q, struct pgmqd_msg *const *msgs, size_t n, struct settle_call *call)
{
	const struct pgmqd_msg *first = msgs[0];
	struct plugin_statement *s = statement_new(q, first->sql, first->nparams);

	for (int p = 0; p < first->nparams; p++)
		s->params[p] = message_param(msgs, n, p);
	s->hurry = q->rules.records && !first->recorded;
	call->fence = true;
	(void)queue_follow_results(q, msgs, n, &call->results);
	s->sends = queue_follow_sends(msgs, n);
	s->settles = call;
	statement_run(s);
}
