/* pgconn.c: one PostgreSQL connection on the event loop: connect, reconnect with backoff, statements in order,
 * notifications.
 *
 * The rules of libpq that are easy to break, and where they are kept: the socket may change during and after a connect,
 * so the event is made anew after every step (conn_watch); the event is level triggered; after every PQconsumeInput and
 * every result the notifications are drained (conn_notifies); while PQflush has something left both directions are
 * watched (conn_flush); a result counts only when its transaction was committed, which is when the Sync comes back
 * (conn_synced).
 */
#include "config.h"

#include "pg/pgconn.h"

#include "base/backoff.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "pg/pgstart.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define CONNECT_TIMEOUT_S 10
#define ANSWER_TIMEOUT_S                                                                                               \
	70 /* longer than statement_timeout, so that what is given up here was given up by the server before */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
#define TLS_ROUNDS                                                                                                     \
	4 /* reads of one readiness event: TLS may hold a record's rest (16 KiB) that the socket does not announce */

/* The guards of pgstart.c that are needed most, for a server that refuses them in the startup packet. */
#define SESSION_SETS "SELECT set_config('statement_timeout','60s',false), set_config('idle_session_timeout','0',false)"

enum conn_state { CONN_IDLE, CONN_CONNECTING, CONN_CHECKING, CONN_UP, CONN_WAITING };

/* One statement on its way: in `pending` until its group's Sync has come back. */
struct request {
	TAILQ_ENTRY(request) link;
	char *name, *sql; /* name only: execute prepared; both: prepare; sql only: query */
	bool prepare;
	int nparams;
	char **params;
	bool sent, ends_group;
	PGresult *res; /* its result, kept until the group's Sync */
	pgconn_result_cb cb;
	void *arg;
};
TAILQ_HEAD(request_list, request);

struct pgconn {
	struct event_base *base;
	char *conninfo, *application_name;
	bool pipeline, in_group, no_options;
	unsigned session; /* counts the connects */
	bool pooled;      /* a pooler is in between: sessions of the server are not ours */
	const struct pgconn_events *events;
	void *arg;
	PGconn *pg;
	enum conn_state state;
	struct event *io, *timer, *reap;
	short watching;
	unsigned failures;
	struct request_list unsent, pending; /* pending: sent, in order */
	struct request *current;             /* the pending one whose results come now */
	bool broken;                         /* lost inside a callback; cleaned up at the end of the tick */
	bool dispatching;                    /* inside callbacks: no recursion into reading */
	char *reason;
};

static void conn_connect(struct pgconn *c);
static void conn_io(evutil_socket_t fd, short what, void *arg);

/* Frees a request and all that it owns. */
static void request_free(struct request *r)
{
	for (int i = 0; i < r->nparams; i++)
		free(r->params[i]);
	free(r->params);
	free(r->name);
	free(r->sql);
	PQclear(r->res);
	free(r);
}

/* Watches the current socket for `what`; made anew after each connect step since the descriptor may be another one. */
static void conn_watch(struct pgconn *c, short what, bool anew)
{
	if (c->io && !anew && c->watching == what)
		return;
	if (c->io)
		event_free(c->io);
	c->io = event_new(c->base, PQsocket(c->pg), what | EV_PERSIST, conn_io, c);
	if (!c->io || event_add(c->io, NULL) != 0) {
		log_error("out of events for the database connection");
		abort();
	}
	c->watching = what;
}

/* Arms the one timer in `ms`. */
static void conn_timer(struct pgconn *c, int64_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };

	evtimer_add(c->timer, &tv);
}

/* Answers every statement with "connection lost" and closes the connection. */
static void conn_drop(struct pgconn *c)
{
	struct request_list lost = TAILQ_HEAD_INITIALIZER(lost);
	struct pgresult r = { .res = NULL, .error = c->reason ? c->reason : "connection lost", .sqlstate = "" };
	struct request *q;

	if (c->io)
		event_free(c->io);
	c->io = NULL;
	PQfinish(c->pg);
	c->pg = NULL;
	c->current = NULL;
	c->in_group = false;
	TAILQ_CONCAT(&lost, &c->pending, link);
	TAILQ_CONCAT(&lost, &c->unsent, link);
	c->state = CONN_WAITING; /* callbacks that send now get their error at the end of the tick */
	while ((q = TAILQ_FIRST(&lost)) != NULL) {
		TAILQ_REMOVE(&lost, q, link);
		if (q->cb)
			q->cb(q->arg, &r);
		request_free(q);
	}
}

/* The connection is of no use any more: tell, clean up, come back after a backoff. */
static void conn_lost(struct pgconn *c, enum conn_state was)
{
	char *reason = c->reason ? c->reason : xstrdup("connection lost");
	int64_t delay = backoff_delay(++c->failures, BACKOFF_MIN_MS, BACKOFF_MAX_MS, backoff_random());

	c->reason = reason;
	c->broken = false;
	evtimer_del(c->timer);
	conn_drop(c);
	c->reason = NULL;
	if (was == CONN_UP && c->events->down)
		c->events->down(c->arg, reason);
	else if (was != CONN_UP && c->events->failed)
		c->events->failed(c->arg, reason);
	free(reason);
	c->state = CONN_WAITING;
	conn_timer(c, delay);
}

/* Remembers why the connection is to be dropped; the dropping itself happens outside of callbacks. */
static void conn_break(struct pgconn *c, char *reason)
{
	if (c->broken || c->state == CONN_WAITING || c->state == CONN_IDLE) {
		free(reason);
		return;
	}
	c->broken = true;
	c->reason = reason;
	event_active(c->reap, 0, 0);
}

/* Answers what was submitted while there was no connection: later, since nobody expects an answer before his call has
 * returned. */
static void conn_refuse(struct pgconn *c)
{
	struct request_list refused = TAILQ_HEAD_INITIALIZER(refused);
	struct pgresult r = { .res = NULL, .error = "not connected", .sqlstate = "" };
	struct request *q;

	TAILQ_CONCAT(&refused, &c->unsent, link);
	while ((q = TAILQ_FIRST(&refused)) != NULL) {
		TAILQ_REMOVE(&refused, q, link);
		if (q->cb)
			q->cb(q->arg, &r);
		request_free(q);
	}
}

/* End of tick: drops a connection that broke. */
static void conn_reap(evutil_socket_t fd, short what, void *arg)
{
	struct pgconn *c = arg;

	(void)fd, (void)what;
	if (c->broken)
		conn_lost(c, c->state);
	else if (c->state != CONN_UP && c->state != CONN_CHECKING)
		conn_refuse(c);
}

/* Hands every notification that libpq holds to the owner. */
static void conn_notifies(struct pgconn *c)
{
	PGnotify *n;

	while ((n = PQnotifies(c->pg)) != NULL) {
		if (c->events->notify)
			c->events->notify(c->arg, n->relname, n->extra, n->be_pid);
		PQfreemem(n);
	}
}

/* Sends what libpq still holds and watches for writability only while something is left. */
static void conn_flush(struct pgconn *c)
{
	int left = PQflush(c->pg);

	if (left < 0)
		conn_break(c, pgstart_error(c->pg));
	else
		conn_watch(c, left ? EV_READ | EV_WRITE : EV_READ, false);
}

/* Gives one statement to libpq. */
static bool conn_send_one(struct pgconn *c, struct request *q)
{
	const char *const *params = (const char *const *)q->params;
	int ok;

	if (q->prepare)
		ok = PQsendPrepare(c->pg, q->name, q->sql, 0, NULL);
	else if (q->name)
		ok = PQsendQueryPrepared(c->pg, q->name, q->nparams, params, NULL, NULL, 0);
	else
		ok = PQsendQueryParams(c->pg, q->sql, q->nparams, NULL, params, NULL, NULL, 0);
	if (ok && c->pipeline && q->ends_group)
		ok = PQpipelineSync(c->pg);
	return ok;
}

/* Moves statements from unsent to the wire: all of them in pipeline mode, else one at a time. */
static void conn_send(struct pgconn *c)
{
	struct request *q;

	if ((c->state != CONN_UP && c->state != CONN_CHECKING) || c->broken || c->in_group)
		return;
	while ((q = TAILQ_FIRST(&c->unsent)) != NULL) {
		if (!c->pipeline && !TAILQ_EMPTY(&c->pending))
			break;
		if (!conn_send_one(c, q)) {
			conn_break(c, pgstart_error(c->pg));
			return;
		}
		TAILQ_REMOVE(&c->unsent, q, link);
		q->sent = true;
		TAILQ_INSERT_TAIL(&c->pending, q, link);
	}
	if (c->state == CONN_UP && !TAILQ_EMPTY(&c->pending) && !evtimer_pending(c->timer, NULL))
		conn_timer(c, ANSWER_TIMEOUT_S * 1000);
	conn_flush(c);
}

/* A group is committed or failed: its callbacks run, in order, each with its own result or the group's error. */
static void conn_synced(struct pgconn *c)
{
	struct request_list group = TAILQ_HEAD_INITIALIZER(group);
	struct request *q, *bad = NULL;
	bool last = false;

	while (!last && (q = TAILQ_FIRST(&c->pending)) != NULL) {
		ExecStatusType st = q->res ? PQresultStatus(q->res) : PGRES_FATAL_ERROR;

		last = q->ends_group;
		TAILQ_REMOVE(&c->pending, q, link);
		TAILQ_INSERT_TAIL(&group, q, link);
		if (!bad && st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
			bad = q;
	}
	while ((q = TAILQ_FIRST(&group)) != NULL) {
		struct pgresult r = { .res = q->res, .sqlstate = "00000" };

		TAILQ_REMOVE(&group, q, link);
		if (bad) { /* the culprit's error stands for all: nothing of the group was committed */
			const char *text = bad->res ? PQresultErrorField(bad->res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
			const char *state = bad->res ? PQresultErrorField(bad->res, PG_DIAG_SQLSTATE) : NULL;
			r.error = text ? text : "no memory for the result";
			r.sqlstate = state ? state : "53200";
		}
		if (q->cb)
			q->cb(q->arg, &r);
		if (q != bad)
			request_free(q);
	}
	if (bad)
		request_free(bad);
}

/* Takes one result from libpq; false when there is none for now. */
static bool conn_result(struct pgconn *c)
{
	struct request *head = TAILQ_FIRST(&c->pending);
	PGresult *res;

	if (!head || PQisBusy(c->pg))
		return false;
	res = PQgetResult(c->pg);
	conn_notifies(c);
	if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
		PQclear(res);
		c->current = NULL;
		conn_synced(c);
		return true;
	}
	/* an error of libpq's own has no state: without memory it may lose an answer, and then the next ones are taken
	 * for others' */
	if (res && PQresultStatus(res) == PGRES_FATAL_ERROR && !PQresultErrorField(res, PG_DIAG_SQLSTATE) &&
		PQstatus(c->pg) != CONNECTION_BAD) {
		PQclear(res);
		conn_break(c, xstrdup("libpq had no memory for an answer"));
		return false;
	}
	c->current = c->current ? c->current : head;
	if (res) {
		/* an error that comes after the statement's own result (a commit that failed) replaces it */
		if (c->current->res && PQresultStatus(res) == PGRES_FATAL_ERROR) {
			PQclear(c->current->res);
			c->current->res = NULL;
		}
		if (c->current->res)
			PQclear(res);
		else
			c->current->res = res;
		return true;
	}
	/* NULL: this statement is through */
	if (c->pipeline) {
		if (TAILQ_NEXT(c->current, link) && !c->current->ends_group)
			c->current = TAILQ_NEXT(c->current, link);
	} else {
		c->current = NULL;
		conn_synced(c);
	}
	return true;
}

/* Reads all there is and runs what it completes. */
static void conn_read(struct pgconn *c)
{
	int rounds = PQsslInUse(c->pg) ? TLS_ROUNDS : 1;

	for (int round = 0; round < rounds && !c->broken; round++) {
		if (!PQconsumeInput(c->pg)) {
			conn_break(c, pgstart_error(c->pg));
			return;
		}
		conn_notifies(c);
		c->dispatching = true;
		for (int n = 0; !c->broken && n < 100000 && conn_result(c); n++)
			if (PQstatus(c->pg) == CONNECTION_BAD)
				break;
		c->dispatching = false;
		if (!c->broken && PQstatus(c->pg) == CONNECTION_BAD) {
			conn_break(c, pgstart_error(c->pg));
			return;
		}
	}
	if (!c->broken && c->state == CONN_UP)
		evtimer_del(c->timer); /* something came: the next answer has its time anew */
	if (!c->broken)
		conn_send(c);
}

/* The first statement's answer: a standby cannot run a queue. */
static void conn_checked(void *arg, const struct pgresult *r)
{
	struct pgconn *c = arg;

	if (r->error) {
		conn_break(c, xstrdup(r->error));
		return;
	}
	if (PQntuples(r->res) == 1 && strcmp(PQgetvalue(r->res, 0, 0), "t") == 0) {
		conn_break(c, xstrdup("the server is a standby (pg_is_in_recovery); set "
				      "target_session_attrs=read-write in the connection "
				      "string and name all hosts there"));
		return;
	}
	c->pooled = atoi(PQgetvalue(r->res, 0, 1)) != PQbackendPID(c->pg);
	if (c->no_options && !c->pooled)
		pgconn_query(c, NULL, SESSION_SETS, 0, NULL, NULL, NULL);
	evtimer_del(c->timer);
	c->failures = 0;
	c->session++;
	c->state = CONN_UP;
	c->events->up(c->arg);
}

/* The handshake is through: pipeline mode, and a look at what kind of server this is. */
static void conn_ready(struct pgconn *c)
{
	if (PQsetnonblocking(c->pg, 1) != 0 || (c->pipeline && !PQenterPipelineMode(c->pg))) {
		conn_break(c, pgstart_error(c->pg));
		return;
	}
	c->state = CONN_CHECKING;
	conn_watch(c, EV_READ, true);
	pgconn_query(c, NULL, "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_backend_pid()", 0, NULL,
		conn_checked, c);
}

/* One step of the asynchronous connect. */
static void conn_poll(struct pgconn *c)
{
	PostgresPollingStatusType st;

	if (c->io)
		event_free(c->io);
	c->io = NULL;
	st = PQconnectPoll(c->pg);
	if (st == PGRES_POLLING_OK) {
		conn_ready(c);
	} else if (st == PGRES_POLLING_FAILED) {
		char *why = pgstart_error(c->pg);

		if (!c->no_options && strstr(why, "startup parameter"))
			c->no_options = true; /* a pooler: next time without */
		conn_break(c, why);
	} else {
		conn_watch(c, st == PGRES_POLLING_READING ? EV_READ : EV_WRITE, true);
	}
}

/* The socket is ready. */
static void conn_io(evutil_socket_t fd, short what, void *arg)
{
	struct pgconn *c = arg;

	(void)fd;
	if (c->broken || !c->pg)
		return;
	if (c->state == CONN_CONNECTING) {
		conn_poll(c);
		return;
	}
	if (what & EV_WRITE)
		conn_flush(c);
	if (!c->broken)
		conn_read(c); /* also after a write: PQflush reads when it cannot send, and what it took in makes no
		                 socket readable */
	if (!c->broken && c->pg && c->state != CONN_CONNECTING)
		conn_flush(c);
}

/* The one timer: a connect or an answer that takes too long, or the end of a backoff. */
static void conn_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct pgconn *c = arg;

	(void)fd, (void)what;
	if (c->state == CONN_WAITING)
		conn_connect(c);
	else if (c->state == CONN_CONNECTING || c->state == CONN_CHECKING)
		conn_break(c, xasprintf("no connection within %d s", CONNECT_TIMEOUT_S));
	else if (c->state == CONN_UP &&
		 !TAILQ_EMPTY(&c->pending)) /* a link that died behind a proxy, where no keepalive reaches */
		conn_break(c, xasprintf("no answer to a statement within %d s", ANSWER_TIMEOUT_S));
}

/* Server notices are for the log's debug level. */
static void conn_notice(void *arg, const PGresult *res)
{
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	(void)arg;
	log_debug("server says: %s", text ? text : "(nothing)");
}

/* Starts a connect. */
static void conn_connect(struct pgconn *c)
{
	c->state = CONN_CONNECTING;
	c->pg = pgstart(c->conninfo, c->application_name, !c->no_options);
	conn_timer(c, CONNECT_TIMEOUT_S * 1000);
	if (!c->pg || PQstatus(c->pg) == CONNECTION_BAD) {
		conn_break(c, pgstart_error(c->pg));
		return;
	}
	PQsetNoticeReceiver(c->pg, conn_notice, c);
	conn_watch(c, EV_WRITE, true);
}

struct pgconn *pgconn_new(struct event_base *base, const char *conninfo, const char *application_name, bool pipeline,
	const struct pgconn_events *events, void *arg)
{
	struct pgconn *c = xcalloc(1, sizeof(*c));

	c->base = base;
	c->conninfo = xstrdup(conninfo ? conninfo : "");
	c->application_name = xstrdup(application_name);
	c->pipeline = pipeline;
	c->events = events;
	c->arg = arg;
	TAILQ_INIT(&c->unsent);
	TAILQ_INIT(&c->pending);
	c->timer = evtimer_new(base, conn_timeout, c);
	c->reap = event_new(base, -1, 0, conn_reap, c);
	if (!c->timer || !c->reap)
		abort();
	return c;
}

/* Begins to connect. */
void pgconn_start(struct pgconn *c)
{
	if (c->state == CONN_IDLE)
		conn_connect(c);
}

void pgconn_hang_up(struct pgconn *c)
{
	if (c->state != CONN_IDLE)
		conn_drop(c);
}

/* Closes and frees without callbacks. */
void pgconn_free(struct pgconn *c)
{
	struct request *q;

	if (!c)
		return;
	while ((q = TAILQ_FIRST(&c->pending)) != NULL || (q = TAILQ_FIRST(&c->unsent)) != NULL) {
		TAILQ_REMOVE(q->sent ? &c->pending : &c->unsent, q, link);
		request_free(q);
	}
	if (c->io)
		event_free(c->io);
	event_free(c->timer);
	event_free(c->reap);
	PQfinish(c->pg);
	free(c->conninfo);
	free(c->application_name);
	free(c->reason);
	free(c);
}

void pgconn_restart(struct pgconn *c, const char *reason)
{
	conn_break(c, xstrdup(reason));
}

bool pgconn_is_up(const struct pgconn *c)
{
	return c->state == CONN_UP && !c->broken;
}

unsigned pgconn_session(const struct pgconn *c)
{
	return c->session;
}

bool pgconn_is_pooled(const struct pgconn *c)
{
	return c->pooled;
}

/* Queues a request and sends it if the connection can take it. */
static void conn_submit(struct pgconn *c, struct request *q)
{
	q->ends_group = !c->in_group;
	TAILQ_INSERT_TAIL(&c->unsent, q, link);
	if (c->state != CONN_UP && c->state != CONN_CHECKING)
		event_active(c->reap, 0, 0);
	else if (!c->dispatching)
		conn_send(c);
}

/* A request that is not on its way yet. */
static struct request *request_new(const char *name, const char *sql, pgconn_result_cb cb, void *arg)
{
	struct request *q = xcalloc(1, sizeof(*q));

	q->name = xstrdup(name);
	q->sql = xstrdup(sql);
	q->cb = cb;
	q->arg = arg;
	return q;
}

void pgconn_query(struct pgconn *c, const char *name, const char *sql, int nparams, const char *const *params,
	pgconn_result_cb cb, void *arg)
{
	struct request *q = request_new(name, name ? NULL : sql, cb, arg);

	q->nparams = nparams;
	q->params = nparams ? xcalloc((size_t)nparams, sizeof(*q->params)) : NULL;
	for (int i = 0; i < nparams; i++)
		q->params[i] = xstrdup(params[i]);
	conn_submit(c, q);
}

void pgconn_prepare(struct pgconn *c, const char *name, const char *sql, pgconn_result_cb cb, void *arg)
{
	struct request *q = request_new(name, sql, cb, arg);

	q->prepare = true;
	conn_submit(c, q);
}

void pgconn_group_begin(struct pgconn *c)
{
	c->in_group = true;
}

void pgconn_group_end(struct pgconn *c)
{
	struct request *last = TAILQ_LAST(&c->unsent, request_list);

	c->in_group = false;
	if (last)
		last->ends_group = true;
	if (!c->dispatching)
		conn_send(c);
}
