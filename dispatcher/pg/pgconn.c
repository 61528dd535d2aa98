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
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/dial.h"
#include "pg/pgstart.h"
#include "pg/session.h"
#include "pg/statement.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_TIMEOUT_S 60
#define LOCK_TIMEOUT_S 10
#define ANSWER_SPARE_S 10 /* beyond the statement's time: what is given up here was given up by the server before */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 8000 /* a server that is back has us within ten seconds */
#define READ_ROUNDS 16      /* reads for one readiness event, while the socket announces more */
#define RESULTS_AT_ONCE 100000
#define SQLSTATE_READ_ONLY "25006"
#define DRY_ROUNDS 4 /* reads when it announces nothing: see conn_read() */

/* A transaction that a statement begins would swallow all that follow; so the server gets this in its place, and with
 * it the other statements of the group fail, too. */
#define REFUSED_SQL                                                                                                    \
	"DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''2D000'', MESSAGE = "                                              \
	"''a statement may not begin or end a transaction'', HINT = ''each statement is committed by itself''; END'"

enum conn_state { CONN_IDLE, CONN_DIALING, CONN_CONNECTING, CONN_CHECKING, CONN_UP, CONN_WAITING };

struct pgconn {
	struct event_base *base;
	struct dial *dial;
	struct session session;
	bool pipeline, in_group;
	bool no_options;   /* a pooler refuses our settings in the startup packet */
	unsigned sessions; /* counts the connects */
	bool pooled;       /* a pooler is in between: sessions of the server are not ours */
	bool rechecking;   /* the server said that it is read-only: is it still the primary? */
	int backend_pid;
	char *pooled_sql;
	const struct pgconn_events *events;
	void *arg;
	PGconn *pg;
	enum conn_state state;
	struct event *io, *timer, *reap;
	short watching;
	unsigned failures;
	struct statement_list unsent, pending; /* pending: sent, in order, until the Sync of its group has come back */
	struct statement *current;             /* the pending one whose results come now */
	bool broken;                           /* lost inside a callback; cleaned up at the end of the tick */
	bool dispatching;                      /* inside callbacks: no recursion into reading */
	char *reason, *reasons;                /* reasons: of the places of this round that failed */
};

static void conn_connect(struct pgconn *c);
static void conn_check(struct pgconn *c);
static void conn_dialed(void *arg, PGconn *pg, const char *error);
static void conn_io(evutil_socket_t fd, short what, void *arg);

/* How long the answer to a statement may take. */
static int64_t conn_answer_ms(const struct pgconn *c)
{
	return (int64_t)(c->session.statement_s + ANSWER_SPARE_S) * 1000;
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

/* Closes the connection. */
static void conn_close(struct pgconn *c)
{
	dial_cancel(c->dial);
	if (c->io)
		event_free(c->io);
	c->io = NULL;
	PQfinish(c->pg);
	c->pg = NULL;
	c->current = NULL;
	c->in_group = c->rechecking = false;
}

/* Closes the connection and answers every statement with "connection lost". */
static void conn_drop(struct pgconn *c)
{
	struct statement_list lost = TAILQ_HEAD_INITIALIZER(lost);

	conn_close(c);
	TAILQ_CONCAT(&lost, &c->pending, link);
	TAILQ_CONCAT(&lost, &c->unsent, link);
	c->state = CONN_WAITING; /* callbacks that send now get their error at the end of the tick */
	statement_lose_all(&lost, c->reason ? c->reason : "connection lost");
}

/* Begins with the next place of the connection string. False when there is none left. */
static bool conn_next_place(struct pgconn *c, bool again)
{
	const struct session *session = c->no_options ? NULL : &c->session;

	if (!(again ? dial_again : dial_next)(c->dial, session, conn_dialed, c))
		return false;
	c->state = CONN_DIALING;
	loop_timer(c->timer, dial_timeout_ms(c->dial));
	return true;
}

/* Puts the place in front of a reason, when there are several, and earlier places' reasons before it. */
static char *conn_reason(struct pgconn *c, char *reason)
{
	const char *where = dial_where(c->dial);
	char *full;

	if (!where || !reason || strstr(reason, where))
		full = xasprintf("%s%s%s", c->reasons ? c->reasons : "", c->reasons ? "; " : "", reason);
	else
		full = xasprintf("%s%s%s: %s", c->reasons ? c->reasons : "", c->reasons ? "; " : "", where, reason);
	free(c->reasons);
	c->reasons = NULL;
	free(reason);
	return full;
}

/* An attempt failed: the next place has its turn, or the next round comes after a backoff. */
static void conn_failed(struct pgconn *c, char *reason)
{
	bool again = !c->no_options && pgstart_options_refused(reason); /* a pooler: once more without */

	c->no_options = c->no_options || again;
	if (again)
		free(reason);
	else
		c->reasons = conn_reason(c, reason);
	conn_drop(c);
	if (conn_next_place(c, again))
		return;
	if (c->events->failed)
		c->events->failed(c->arg, c->reasons);
	free(c->reasons);
	c->reasons = NULL;
	loop_timer(c->timer, backoff_delay(++c->failures, BACKOFF_MIN_MS, BACKOFF_MAX_MS, backoff_random()));
}

/* The connection is of no use any more: says so, cleans up, comes back after a backoff. */
static void conn_lost(struct pgconn *c)
{
	char *reason = c->reason ? c->reason : xstrdup("connection lost");
	bool was_up = c->state == CONN_UP;

	c->reason = NULL;
	c->broken = false;
	evtimer_del(c->timer);
	if (!was_up) {
		conn_failed(c, reason);
		return;
	}
	c->reason = reason;
	conn_drop(c);
	c->reason = NULL;
	if (c->events->down)
		c->events->down(c->arg, reason);
	free(reason);
	loop_timer(c->timer, backoff_delay(++c->failures, BACKOFF_MIN_MS, BACKOFF_MAX_MS, backoff_random()));
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

/* End of tick: drops a connection that broke. Answers statements that were sent without one: only now, since callbacks
 * come after the call has returned. */
static void conn_reap(evutil_socket_t fd, short what, void *arg)
{
	struct pgconn *c = arg;
	struct statement_list refused = TAILQ_HEAD_INITIALIZER(refused);

	(void)fd, (void)what;
	if (c->broken) {
		conn_lost(c);
	} else if (c->state != CONN_UP && c->state != CONN_CHECKING) {
		TAILQ_CONCAT(&refused, &c->unsent, link);
		statement_lose_all(&refused, "not connected");
	}
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

/* Moves statements from unsent to the wire: all of them in pipeline mode, else one at a time. */
static void conn_send(struct pgconn *c)
{
	struct statement *s;

	if ((c->state != CONN_UP && c->state != CONN_CHECKING) || c->broken || c->in_group)
		return;
	while ((s = TAILQ_FIRST(&c->unsent)) != NULL) {
		if (!c->pipeline && !TAILQ_EMPTY(&c->pending))
			break;
		if (!statement_send(s, c->pg) || (c->pipeline && s->ends_group && !PQpipelineSync(c->pg))) {
			conn_break(c, pgstart_error(c->pg));
			return;
		}
		TAILQ_REMOVE(&c->unsent, s, link);
		TAILQ_INSERT_TAIL(&c->pending, s, link);
	}
	if (c->state == CONN_UP && !TAILQ_EMPTY(&c->pending) && !evtimer_pending(c->timer, NULL))
		loop_timer(c->timer, conn_answer_ms(c));
	conn_flush(c);
}

/* A group is committed or failed: its callbacks run. */
static void conn_synced(struct pgconn *c)
{
	struct statement_list group = TAILQ_HEAD_INITIALIZER(group);
	struct statement *s;
	bool last = false, read_only = false;

	while (!last && (s = TAILQ_FIRST(&c->pending)) != NULL) {
		const char *state = s->res ? PQresultErrorField(s->res, PG_DIAG_SQLSTATE) : NULL;

		last = s->ends_group;
		read_only = read_only || (state && strcmp(state, SQLSTATE_READ_ONLY) == 0);
		TAILQ_REMOVE(&c->pending, s, link);
		TAILQ_INSERT_TAIL(&group, s, link);
	}
	statement_answer_all(&group);
	if (read_only && !c->rechecking && c->state == CONN_UP && !c->broken) {
		c->rechecking = true;
		conn_check(c);
	}
}

/* Takes one result from libpq; false when there is none for now. */
static bool conn_result(struct pgconn *c)
{
	struct statement *head = TAILQ_FIRST(&c->pending);
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

/* Whether the socket announces bytes. */
static bool conn_socket_readable(const struct pgconn *c)
{
	struct pollfd p = { .fd = PQsocket(c->pg), .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* Takes in what one read brings, and runs what it completes. */
static void conn_read_once(struct pgconn *c)
{
	int results = 0;

	if (!PQconsumeInput(c->pg)) {
		conn_break(c, pgstart_error(c->pg));
		return;
	}
	conn_notifies(c);
	c->dispatching = true;
	while (!c->broken && PQstatus(c->pg) != CONNECTION_BAD && results < RESULTS_AT_ONCE && conn_result(c))
		results++;
	c->dispatching = false;
	if (!c->broken && PQstatus(c->pg) == CONNECTION_BAD)
		conn_break(c, pgstart_error(c->pg));
	else if (results == RESULTS_AT_ONCE && !c->broken)
		event_active(c->io, EV_READ, 0); /* the rest is in memory, where no socket announces it */
}

/* Reads all there is. Under TLS (or GSSAPI) one read takes at least 8 KiB of a record of up to 16 KiB, and the rest
 * waits, decrypted, where the socket does not announce it. So the last reads are some after the socket had nothing
 * more: they empty any record. */
static void conn_read(struct pgconn *c)
{
	bool encrypted = PQsslInUse(c->pg) || PQgssEncInUse(c->pg);

	for (int round = 1, dry = 0; dry < DRY_ROUNDS; round++) {
		conn_read_once(c);
		if (c->broken || !encrypted)
			break;
		if (!conn_socket_readable(c))
			dry++;
		else if (round < READ_ROUNDS)
			dry = 0;
		else
			break; /* its event comes again by itself */
	}
	if (c->broken)
		return;
	if (c->state == CONN_UP)
		evtimer_del(c->timer); /* something came: the next answer has its time anew */
	conn_send(c);
}

/* The first statement's answer: a standby cannot run a queue, nor can a session with settings that are not ours. */
static void conn_checked(void *arg, const struct pgresult *r)
{
	struct pgconn *c = arg;
	struct session_found found;
	char *problem = r->error ? xstrdup(r->error) : session_first_answer(r->res, c->pg, &found);

	c->rechecking = false;
	if (!problem && found.standby)
		problem = xstrdup(
			"the server is a standby (pg_is_in_recovery); set target_session_attrs=read-write in the "
			"connection string and name all hosts there");
	if (problem) {
		conn_break(c, problem);
		return;
	}
	if (c->state == CONN_UP)
		return;
	c->pooled = found.pooled;
	c->backend_pid = found.backend_pid;
	evtimer_del(c->timer);
	dial_succeeded(c->dial);
	free(c->reasons);
	c->reasons = NULL;
	c->failures = 0;
	c->sessions++;
	c->state = CONN_UP;
	c->events->up(c->arg);
}

/* Makes the session ours, and sees what kind of server this is. */
static void conn_check(struct pgconn *c)
{
	char *sql = session_first_sql(&c->session, c->pg);

	pgconn_query(c, NULL, sql, 0, NULL, conn_checked, c);
	free(sql);
}

/* The handshake is through. */
static void conn_ready(struct pgconn *c)
{
	if (PQsetnonblocking(c->pg, 1) != 0 || (c->pipeline && !PQenterPipelineMode(c->pg))) {
		conn_break(c, pgstart_error(c->pg));
		return;
	}
	c->state = CONN_CHECKING;
	conn_watch(c, EV_READ, true);
	conn_check(c);
}

/* One step of the asynchronous connect. */
static void conn_poll(struct pgconn *c)
{
	PostgresPollingStatusType st;

	if (c->io)
		event_free(c->io);
	c->io = NULL;
	errno = 0;
	st = PQconnectPoll(c->pg);
	if (st == PGRES_POLLING_OK)
		conn_ready(c);
	else if (st == PGRES_POLLING_FAILED)
		conn_break(c, pgstart_error(c->pg));
	else
		conn_watch(c, st == PGRES_POLLING_READING ? EV_READ : EV_WRITE, true);
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
	else if (c->state == CONN_DIALING || c->state == CONN_CONNECTING || c->state == CONN_CHECKING)
		conn_break(c, xasprintf("no connection within %lld ms", (long long)dial_timeout_ms(c->dial)));
	else if (c->state == CONN_UP &&
		 !TAILQ_EMPTY(&c->pending)) /* a link that died behind a proxy, where no keepalive reaches */
		conn_break(c, xasprintf("no answer to a statement within %lld s", (long long)conn_answer_ms(c) / 1000));
}

/* Server notices are for the log's debug level. */
static void conn_notice(void *arg, const PGresult *res)
{
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	(void)arg;
	log_debug("server says: %s", text ? text : "(nothing)");
}

/* A connect to one place has begun, or not. */
static void conn_dialed(void *arg, PGconn *pg, const char *error)
{
	struct pgconn *c = arg;

	c->pg = pg;
	if (!pg) {
		conn_break(c, xstrdup(error));
		return;
	}
	c->state = CONN_CONNECTING;
	PQsetNoticeReceiver(c->pg, conn_notice, c);
	conn_watch(c, EV_WRITE, true);
}

/* Starts a round through the places of the connection string. */
static void conn_connect(struct pgconn *c)
{
	c->no_options = false;
	dial_restart(c->dial);
	conn_next_place(c, false);
}

struct pgconn *pgconn_new(struct event_base *base, const char *conninfo, const char *application_name, bool pipeline,
	const struct pgconn_events *events, void *arg)
{
	struct pgconn *c = xcalloc(1, sizeof(*c));

	c->base = base;
	c->dial = dial_new(base, conninfo, application_name);
	c->session = (struct session){ .statement_s = STATEMENT_TIMEOUT_S, .lock_s = LOCK_TIMEOUT_S };
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

void pgconn_set_statement_timeout(struct pgconn *c, unsigned seconds)
{
	c->session.statement_s = seconds;
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
	if (!c)
		return;
	statement_free_all(&c->pending);
	statement_free_all(&c->unsent);
	conn_close(c);
	event_free(c->timer);
	event_free(c->reap);
	dial_free(c->dial);
	free(c->pooled_sql);
	free(c->reason);
	free(c->reasons);
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
	return c->sessions;
}

bool pgconn_is_pooled(const struct pgconn *c)
{
	return c->pooled;
}

int pgconn_backend_pid(const struct pgconn *c)
{
	return c->backend_pid;
}

/* Appends a statement to those that are to be sent. */
static void conn_append(struct pgconn *c, struct statement *s, bool ends_group)
{
	s->ends_group = ends_group;
	TAILQ_INSERT_TAIL(&c->unsent, s, link);
}

/* Behind a pooler each transaction begins with our settings. */
static void conn_begin_pooled(struct pgconn *c)
{
	if (!c->pooled_sql)
		c->pooled_sql = session_pooled_sql(&c->session);
	conn_append(c, statement_new(NULL, SESSION_POOLED_SQL, 0, NULL, NULL, NULL), false);
	conn_append(c, statement_new(NULL, c->pooled_sql, 0, NULL, NULL, NULL), false);
}

/* Queues a statement and sends it if the connection can take it. */
static void conn_submit(struct pgconn *c, struct statement *s)
{
	const struct statement *before = TAILQ_LAST(&c->unsent, statement_list);

	if (c->pooled && c->pipeline && c->state == CONN_UP && (!before || before->ends_group))
		conn_begin_pooled(c);
	conn_append(c, s, !c->in_group);
	if (c->state != CONN_UP && c->state != CONN_CHECKING)
		event_active(c->reap, 0, 0);
	else if (!c->dispatching)
		conn_send(c);
}

void pgconn_query(struct pgconn *c, const char *name, const char *sql, int nparams, const char *const *params,
	pgconn_result_cb cb, void *arg)
{
	if (!name && statement_is_transaction_control(sql))
		conn_submit(c, statement_new(NULL, REFUSED_SQL, 0, NULL, cb, arg));
	else
		conn_submit(c, statement_new(name, name ? NULL : sql, nparams, params, cb, arg));
}

void pgconn_prepare(struct pgconn *c, const char *name, const char *sql, pgconn_result_cb cb, void *arg)
{
	struct statement *s = statement_new(name, sql, 0, NULL, cb, arg);

	s->prepare = true;
	conn_submit(c, s);
}

void pgconn_group_begin(struct pgconn *c)
{
	c->in_group = true;
}

void pgconn_group_end(struct pgconn *c)
{
	struct statement *last = TAILQ_LAST(&c->unsent, statement_list);

	c->in_group = false;
	if (last)
		last->ends_group = true;
	if (!c->dispatching)
		conn_send(c);
}
