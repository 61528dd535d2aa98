/* queue_operate.c: what the worker asks of the operators' tables: whether its queue is paused, and which messages are
 * to be cancelled. */
#include "config.h"

#include "base/xalloc.h"
#include "worker/queue_private.h"

#include <stdlib.h>

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

void queue_pg_ask_pause(struct queue *base, queue_pause_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	struct pause_call *call = xcalloc(1, sizeof(*call));
	const char *params[1] = { q->name };

	call->cb = cb;
	call->arg = arg;
	pgconn_query(q->pg, NULL, "SELECT pgmqd.queue_pause($1)", 1, params, pause_answer, call);
}

struct cancels_call {
	queue_cancels_cb cb;
	void *arg;
};

/* The messages that are to be cancelled. */
static void cancels_answer(void *arg, const struct pgresult *r)
{
	struct cancels_call *call = arg;
	size_t n = r->error ? 0 : (size_t)PQntuples(r->res);
	struct queue_cancel *list = xcalloc(n + 1, sizeof(*list));

	for (size_t i = 0; i < n; i++) {
		list[i].id = atoll(PQgetvalue(r->res, (int)i, 0));
		list[i].born_us = atoll(PQgetvalue(r->res, (int)i, 1));
		list[i].read_ct = atoi(PQgetvalue(r->res, (int)i, 2));
		list[i].why = PQgetvalue(r->res, (int)i, 3);
	}
	call->cb(call->arg, list, n, r->error, r->sqlstate);
	free(list);
	free(call);
}

void queue_pg_ask_cancels(struct queue *base, queue_cancels_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	struct cancels_call *call = xcalloc(1, sizeof(*call));
	const char *params[1] = { q->name };

	call->cb = cb;
	call->arg = arg;
	pgconn_query(q->pg, NULL, "SELECT msg_id, born, read_ct, why FROM pgmqd.asked_cancels($1)", 1, params,
		cancels_answer, call);
}
