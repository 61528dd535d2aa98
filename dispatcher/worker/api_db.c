/* api_db.c: statements of a plugin on its worker's own connection, and what they return. */
#include "config.h"

#include "worker/api.h"

#include "base/xalloc.h"
#include "pg/pgconn.h"
#include "worker/flow.h"
#include "worker/queue.h"
#include "worker/settle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define HOLD_KEY "SELECT pgmqd.hold_key($1::text, $2::pg_catalog.jsonb, $3::pg_catalog.jsonb, $4::pg_catalog.float8)"

/* Results outlive their callbacks a little, empty, so that a plugin that keeps one is told and not harmed. */
#define RESULTS 64
struct pgmqd_result {
	const struct pgresult *r;
};
static struct pgmqd_result results[RESULTS];
static unsigned nresults;

struct query {
	struct msg_resource res;
	pgmqd_query_cb cb; /* NULL when the message no longer wants it */
	void *arg;
};

/* The statement goes on, its answer is dropped. */
static void query_end(struct msg_resource *r)
{
	TAILQ_REMOVE(&r->msg->resources, r, link);
	((struct query *)(void *)r)->cb = NULL;
}

/* The answer of a plugin's statement. */
static void query_answered(void *arg, const struct pgresult *r)
{
	struct query *q = arg;

	if (q->cb) {
		struct pgmqd_msg *m = q->res.msg;
		struct pgmqd_result *result = &results[nresults++ % RESULTS];
		struct plugin_call call = plugin_call_begin_msg(m);

		result->r = r;
		TAILQ_REMOVE(&m->resources, &q->res, link);
		q->cb(q->arg, result);
		result->r = NULL;
		plugin_call_end(call);
	}
	free(q);
}

/* A statement is over whose answer the plugin does not want to hear. The message's outcome has waited for it: once that
 * is stored, the plugin's own record of it is stored, too. */
static void query_over(void *arg, const struct pgresult *r)
{
	struct pgmqd_msg *m = arg;

	(void)r;
	if (--m->unheard == 0)
		flow_tick(m->worker->flow);
}

PGMQD_EXPORT int pgmqd_query(
	struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params, pgmqd_query_cb cb, void *arg)
{
	struct query *q;

	if (!(m && !cb && m->state == MSG_RUNNING) && !api_may_start(m, "pgmqd_query"))
		return -1;
	if (!sql || nparams < 0 || (nparams && !params)) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): api_may_start() is false without a message */
		plugin_call_misuse(
			m->worker, m->id, "pgmqd_query() without a statement, or with %d parameters", nparams);
		return -1;
	}
	if (!cb) { /* allowed from cancel(), too */
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as above */
		m->unheard++;
		queue_query(m->worker->queue, sql, nparams, params, query_over, m);
		return 0;
	}
	q = xcalloc(1, sizeof(*q));
	q->res.end = query_end;
	q->res.msg = m;
	q->cb = cb;
	q->arg = arg;
	TAILQ_INSERT_TAIL(&m->resources, &q->res, link);
	queue_query(m->worker->queue, sql, nparams, params, query_answered, q);
	return 0;
}

PGMQD_EXPORT void pgmqd_retry_key(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...)
{
	char seconds[32], *reason;
	const char *params[4];
	va_list ap;

	if (!api_may_start(m, "pgmqd_retry_key"))
		return;
	va_start(ap, fmt);
	reason = xvasprintf(fmt, ap);
	va_end(ap);
	delay_ms = delay_ms > 0 ? api_delay(delay_ms) : settle_patience(m);
	snprintf(seconds, sizeof(seconds), "%.3f", (double)delay_ms / 1000);
	params[0] = m->worker->qs->name;
	params[1] = m->headers;
	params[2] = m->text;
	params[3] = seconds;
	/* the message is given back after this: when it is due again, so is its key */
	pgmqd_query(m, HOLD_KEY, 4, params, NULL, NULL);
	pgmqd_postpone(m, delay_ms, "its key waits: %s", reason);
	free(reason);
}

/* Whether a result is still there. */
static bool result_is_there(const struct pgmqd_result *r, const char *function)
{
	if (r && r->r)
		return true;
	plugin_call_misuse(NULL, 0, "%s() of a result whose callback has returned", function);
	return false;
}

PGMQD_EXPORT const char *pgmqd_result_error(const struct pgmqd_result *r)
{
	return result_is_there(r, "pgmqd_result_error") ? r->r->error : "the result is gone";
}

PGMQD_EXPORT const char *pgmqd_result_sqlstate(const struct pgmqd_result *r)
{
	return result_is_there(r, "pgmqd_result_sqlstate") ? r->r->sqlstate : "";
}

PGMQD_EXPORT int pgmqd_result_rows(const struct pgmqd_result *r)
{
	return result_is_there(r, "pgmqd_result_rows") && !r->r->error ? PQntuples(r->r->res) : 0;
}

PGMQD_EXPORT int pgmqd_result_affected(const struct pgmqd_result *r)
{
	if (!result_is_there(r, "pgmqd_result_affected") || r->r->error)
		return 0;
	return *PQcmdTuples(r->r->res) ? atoi(PQcmdTuples(r->r->res)) : r->r->affected;
}

PGMQD_EXPORT const char *pgmqd_result_value(const struct pgmqd_result *r, int row, int col)
{
	if (!result_is_there(r, "pgmqd_result_value") || r->r->error || row < 0 || col < 0 ||
		row >= PQntuples(r->r->res) || col >= PQnfields(r->r->res) || PQgetisnull(r->r->res, row, col))
		return NULL;
	return PQgetvalue(r->r->res, row, col);
}
