/* queue_second.c: what is done goes by the worker's second connection while there is a backlog.
 *
 * Only ST_DONE does, and what it refuses goes by the first one again. A retry or a release leaves a row that a claim on
 * the first connection may take before the answer of the second one is here, and so would end that claim unseen. Where
 * claims pass rows over, which the rows that are done hold back, they follow each other on one connection.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/xalloc.h"
#include "worker/second.h"

#include <stdio.h>
#include <stdlib.h>

#define NAME_SIZE 32

/* The name under which ST_DONE is prepared there. */
static const char *done_name(const struct queue_pg *q, char *buf)
{
	snprintf(buf, NAME_SIZE, "q%u_done", q->serial);
	return buf;
}

struct done_call {
	struct queue_pg *queue;
	unsigned session, texts;
};

/* ST_DONE was prepared, or not: then the next one that needs it tries again. */
static void done_prepared(void *arg, const struct pgresult *r)
{
	struct done_call *call = arg;
	struct queue_pg *q = call->queue;

	if (call->session == q->second_session && call->texts == q->texts) /* it stays when the transaction fails */
		q->second_done = r->res && PQresultStatus(r->res) == PGRES_COMMAND_OK ? PREPARED_YES : PREPARED_NOT;
	free(call);
}

/* Prepares it, in the transaction that needs it. */
static void done_prepare(struct queue_pg *q, struct pgconn *c)
{
	struct done_call *call = xcalloc(1, sizeof(*call));
	char name[NAME_SIZE];

	*call = (struct done_call){ .queue = q, .session = q->second_session, .texts = q->texts };
	q->second_done = PREPARED_UNDER_WAY;
	pgconn_prepare(c, done_name(q, name), q->statement[ST_DONE].text, done_prepared, call);
}

/* A session that is new to this queue. */
static void done_meet(struct queue_pg *q, struct pgconn *c)
{
	if (q->second_session == second_session(q->second))
		return;
	q->second_session = second_session(q->second);
	q->second_done = PREPARED_NOT;
	pgconn_query(c, NULL, queue_session_sql, 0, NULL, NULL, NULL);
}

bool queue_second_done(struct queue_pg *q, const char *const *params, struct settle_call *call)
{
	struct statement *s = &q->statement[ST_DONE];
	char name[NAME_SIZE];
	struct pgconn *c;
	bool by_name;

	if (!q->second || queue_passes_over(q))
		return false;
	c = second_use(q->second, call->n, q->more);
	call->counted = true;
	if (c == q->pg)
		return false;
	if (!s->text)
		s->text = queue_sql(q, ST_DONE);
	done_meet(q, c);
	by_name = q->second_done != PREPARED_UNDER_WAY;
	pgconn_group_begin(c);
	if (q->second_done == PREPARED_NOT)
		done_prepare(q, c);
	pgconn_query(c, by_name ? done_name(q, name) : NULL, by_name ? NULL : s->text, params[3] ? 4 : 3, params,
		queue_settle_answer, call);
	pgconn_group_end(c);
	return true;
}

void queue_second_forget(struct queue_pg *q)
{
	struct pgconn *c = second_conn(q->second);
	char name[NAME_SIZE], *sql;

	if (c && q->second_done != PREPARED_NOT && q->second_session == second_session(q->second)) {
		sql = xasprintf("DEALLOCATE \"%s\"", done_name(q, name));
		pgconn_query(c, NULL, sql, 0, NULL, NULL, NULL);
		free(sql);
	}
	q->second_done = PREPARED_NOT;
}
