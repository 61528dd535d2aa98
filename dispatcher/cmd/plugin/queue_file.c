/* queue_file.c: stands in for queue.c and pgconn.c when a plugin is tried without PostgreSQL: messages come from a
 * file, and the outcomes that would go to the database go to standard output.
 */
#include "config.h"

#include "cmd/plugin/test.h"

#include "base/xalloc.h"
#include "pg/pgconn.h"
#include "worker/queue.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define ENQUEUED_US 1767225600000000 /* 2026-01-01, for all messages: the answers must not depend on the clock */

struct queue {
	struct pgconn *pg;
};

struct pgconn {
	struct event_base *base;
};

/* An answer that the flow waits for; given in the next round of the loop, as a database would. */
struct answer {
	struct event *ev;
	void (*give)(struct answer *a);
	void *cb, *arg;
	enum msg_outcome outcome;
	size_t n;
	int64_t *ids;
	struct kit_message **claimed;
	PGresult *res;
	char *error;
	int affected;
};

static struct kit *kit;

/* Gives an answer and frees it. */
static void answer_now(evutil_socket_t fd, short what, void *arg)
{
	struct answer *a = arg;

	(void)fd, (void)what;
	a->give(a);
	event_free(a->ev);
	PQclear(a->res);
	free(a->ids);
	free(a->claimed);
	free(a->error);
	free(a);
}

/* Prepares an answer. */
static struct answer *answer_new(struct pgconn *pg, void (*give)(struct answer *a), size_t n, void *arg)
{
	struct answer *a = xcalloc(1, sizeof(*a));

	a->give = give;
	a->arg = arg;
	a->n = n;
	a->ids = xcalloc(n + 1, sizeof(*a->ids));
	a->claimed = xcalloc(n + 1, sizeof(struct kit_message *));
	a->ev = evtimer_new(pg->base, answer_now, a);
	if (!a->ev)
		abort();
	event_active(a->ev, 0, 0);
	return a;
}

/* ---- the connection ---- */

struct pgconn *kit_connect(struct kit *k, struct event_base *base)
{
	struct pgconn *c = xcalloc(1, sizeof(*c));

	kit = k;
	c->base = base;
	return c;
}

void kit_disconnect(struct pgconn *c)
{
	free(c);
}

bool pgconn_is_up(const struct pgconn *c)
{
	return c != NULL;
}

/* A function pointer in a void pointer, which POSIX allows. */
#define KEEP(a, f) (*(__typeof__(f) *)(void *)&(a)->cb = (f))
#define CALL(type, a) (*(type *)(void *)&(a)->cb)

/* The answer to a plugin's statement. */
static void give_result(struct answer *a)
{
	struct pgresult r = {
		.res = a->res, .error = a->error, .sqlstate = a->error ? "XX000" : "00000", .affected = a->affected
	};

	CALL(pgconn_result_cb, a)(a->arg, &r);
}

/* Rows out of the answers file, {"rows": [[...]], "affected": n} or {"error": "..."}, as a result of the server's. */
static PGresult *make_rows(const cJSON *rows)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	int ncols = cJSON_GetArraySize(cJSON_GetArrayItem(rows, 0)), r = 0, c;
	PGresAttDesc *cols = xcalloc((size_t)ncols + 1, sizeof(*cols));
	const cJSON *row, *value;
	char name[] = "column";

	for (c = 0; c < ncols; c++)
		cols[c].name = name;
	if (!res || (ncols && !PQsetResultAttrs(res, ncols, cols)))
		abort();
	cJSON_ArrayForEach(row, rows)
	{
		c = 0;
		cJSON_ArrayForEach(value, row)
		{
			char *text = cJSON_IsNull(value)     ? NULL
			             : cJSON_IsString(value) ? xstrdup(value->valuestring)
			                                     : cJSON_PrintUnformatted(value);

			if (c < ncols && !PQsetvalue(res, r, c++, text, text ? (int)strlen(text) : -1))
				abort();
			free(text);
		}
		r++;
	}
	free(cols);
	return res;
}

void pgconn_query(struct pgconn *c, const char *name, const char *sql, int nparams, const char *const *params,
	pgconn_result_cb cb, void *arg)
{
	struct answer *a = answer_new(c, give_result, 0, arg);
	const cJSON *reply = kit_answer(kit, sql, nparams, params), *error, *affected;

	(void)name;
	KEEP(a, cb);
	if (!reply) {
		a->error = xstrdup("there is no database here; --answers FILE says what it would answer");
		return;
	}
	error = cJSON_GetObjectItemCaseSensitive(reply, "error");
	affected = cJSON_GetObjectItemCaseSensitive(reply, "affected");
	if (cJSON_IsString(error))
		a->error = xstrdup(error->valuestring);
	else
		a->res = make_rows(cJSON_GetObjectItemCaseSensitive(reply, "rows"));
	a->affected = cJSON_IsNumber(affected) ? affected->valueint : 0;
}

/* ---- the queue ---- */

struct queue *queue_new(struct pgconn *c, const char *name, int64_t lease_ms, const struct queue_rules *rules,
	const char *plugin, const char *version)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	(void)name, (void)lease_ms, (void)rules, (void)plugin, (void)version;
	q->pg = c;
	return q;
}

void queue_free(struct queue *q)
{
	free(q);
}

/* The catalogue is as it should be. */
static void give_probe(struct answer *a)
{
	CALL(queue_probe_cb, a)(a->arg, NULL, NULL);
}

void queue_probe(struct queue *q, queue_probe_cb cb, void *arg)
{
	KEEP(answer_new(q->pg, give_probe, 0, arg), cb);
}

bool queue_has_dlq(const struct queue *q)
{
	(void)q;
	return true;
}

const char *queue_order(const struct queue *q)
{
	(void)q;
	return "by time";
}

bool queue_is_stale(const char *sqlstate)
{
	(void)sqlstate;
	return false;
}

/* The messages that were claimed. */
static struct answer *giving;
static void give_claim(struct answer *a)
{
	struct queue_claim claim = { .rows = (int)a->n, .due_ms = INT64_C(86400000), .shared = -1 };

	giving = a;
	CALL(queue_claim_cb, a)(a->arg, &claim);
	giving = NULL;
}

void queue_claim(struct queue *q, unsigned n, bool full, bool ask, bool due, bool small, queue_claim_cb cb, void *arg)
{
	struct answer *a = answer_new(q->pg, give_claim, n, arg);

	(void)full, (void)ask, (void)due, (void)small;
	KEEP(a, cb);
	for (a->n = 0; a->n < n && (a->claimed[a->n] = kit_next(kit)) != NULL; a->n++)
		;
}

/* There are no other dispatchers. */
void queue_notify(struct pgconn *c, const char *channel, const char *payload, pgconn_result_cb cb, void *arg)
{
	(void)c, (void)channel, (void)payload, (void)cb, (void)arg;
}

/* No operator is there. */
void queue_pause(struct queue *q, queue_pause_cb cb, void *arg)
{
	(void)q;
	cb(arg, NULL, NULL);
}

/* There is nobody to be silent: the lock is never had, and always free. */
void queue_awake(struct queue *q, queue_lock_cb cb, void *arg)
{
	(void)q;
	cb(arg, false);
}

void queue_doze(struct queue *q, bool held, queue_lock_cb cb, void *arg)
{
	(void)q, (void)held;
	cb(arg, true);
}

void queue_claim_row(const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	struct kit_message *k = giving->claimed[row];

	(void)claim;
	m->id = k->id;
	m->attempt = k->attempt;
	m->read_ct = (int)k->attempt;
	m->enqueued_us = m->due_us = ENQUEUED_US;
	m->text = xstrdup(k->text);
	m->text_len = strlen(k->text);
	m->headers = xstrdup(k->headers);
}

/* The outcomes are known. */
static void give_settled(struct answer *a)
{
	struct queue_settled s = { .nids = (int)a->n };

	giving = a;
	CALL(queue_settled_cb, a)(a->arg, &s);
	giving = NULL;
}

int64_t queue_settled_id(const struct queue_settled *s, int row)
{
	(void)s;
	return giving->ids[row];
}

void queue_settle(struct queue *q, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n, bool again,
	queue_settled_cb cb, void *arg)
{
	struct answer *a = answer_new(q->pg, give_settled, n, arg);

	(void)outcome, (void)again;
	KEEP(a, cb);
	for (size_t i = 0; i < n; i++) {
		a->ids[i] = msgs[i]->id;
		kit_outcome(kit, msgs[i]);
	}
}

void queue_extend(struct queue *q, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	struct answer *a = answer_new(q->pg, give_settled, n, arg);

	KEEP(a, cb);
	for (size_t i = 0; i < n; i++)
		a->ids[i] = msgs[i]->id;
}
