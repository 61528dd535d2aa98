/* pgconn.c: one PostgreSQL connection on the event loop: it connects, reconnects with backoff, and takes statements.
 *
 * libpq may change the socket during and after a connect, so its event is made anew after every step
 * (pgconn_watch). exchange.c moves statements and results.
 */
#include "config.h"

#include "pg/pgconn_private.h"

#include "base/backoff.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/pgstart.h"
#include "pg/timeline.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STATEMENT_TIMEOUT_S 60
#define ANSWER_SPARE_S 10 /* beyond the statement's time: what is given up here was given up by the server before */
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 8000 /* a server that is back has us within ten seconds */

/* A transaction that a statement begins would swallow all that follow; so the server gets this in its place, and with
 * it the other statements of the group fail, too. */
#define REFUSED_SQL                                                                                                    \
	"DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''2D000'', MESSAGE = "                                              \
	"''a statement may not begin or end a transaction'', HINT = ''each statement is committed by itself''; END'"

static void conn_connect(struct pgconn *c);
static void conn_check(struct pgconn *c);
static void conn_dialed(void *arg, PGconn *pg, const char *error);
static void conn_io(evutil_socket_t fd, short what, void *arg);

/* How long the answer to a statement may take. */
int64_t pgconn_answer_ms(const struct pgconn *c)
{
	return (int64_t)(c->session.statement_s + ANSWER_SPARE_S) * 1000;
}

/* Watches the current socket for `what`; made anew after each connect step since the descriptor may be another one. */
void pgconn_watch(struct pgconn *c, short what, bool anew)
{
	if (c->io && !anew && c->watching == what)
		return;
	if (c->io)
		event_free(c->io);
	c->io = loop_event(c->base, PQsocket(c->pg), what | EV_PERSIST, conn_io, c);
	loop_add(c->io, NULL);
	c->watching = what;
}

/* Closes the connection. */
static void conn_close(struct pgconn *c)
{
	dial_cancel(c->dial);
	if (c->io)
		event_free(c->io);
	c->io = NULL;
	pulse_stop(c->pulse);
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
void pgconn_break(struct pgconn *c, char *reason)
{
	if (c->broken || c->state == CONN_WAITING || c->state == CONN_IDLE) {
		free(reason);
		return;
	}
	c->broken = true;
	c->reason = reason;
	event_active(c->reap, 0, 0);
}

/* The server has fallen silent: other places are tried before this one. */
void pgconn_silent(struct pgconn *c, char *reason)
{
	if (c->state == CONN_UP)
		dial_avoid(c->dial);
	pgconn_break(c, reason);
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

/* The server is one that we want. */
static void conn_up(struct pgconn *c)
{
	evtimer_del(c->timer);
	dial_succeeded(c->dial);
	free(c->reasons);
	c->reasons = NULL;
	c->failures = 0;
	c->sessions++;
	c->state = CONN_UP;
	pulse_start(c->pulse);
	c->events->up(c->arg);
}

/* Which of the places that take writes this is. A server that cannot tell is taken as it is. */
static void conn_dated(void *arg, const struct pgresult *r)
{
	struct pgconn *c = arg;
	char *problem;

	if (r->error && !*r->sqlstate)
		return; /* the connection is lost */
	problem = r->error ? NULL : timeline_check(r->res);
	if (problem)
		pgconn_break(c, problem);
	else
		conn_up(c);
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
		pgconn_break(c, problem);
		return;
	}
	if (c->state == CONN_UP)
		return;
	c->pooled = found.pooled;
	c->backend_pid = found.backend_pid;
	if (dial_has_others(c->dial))
		pgconn_query(c, NULL, timeline_sql, 0, NULL, conn_dated, c);
	else
		conn_up(c);
}

/* Makes the session ours, and sees what kind of server this is. */
static void conn_check(struct pgconn *c)
{
	char *sql = session_first_sql(&c->session, c->pg);

	pgconn_query(c, NULL, sql, 0, NULL, conn_checked, c);
	free(sql);
}

/* The server refuses what it took before: it is a standby now, or something, as a plugin's statement, has changed the
 * session's settings or role. */
void pgconn_recheck(struct pgconn *c)
{
	if (c->rechecking || c->state != CONN_UP || c->broken)
		return;
	c->rechecking = true;
	pgconn_query(c, NULL, "RESET SESSION AUTHORIZATION", 0, NULL, NULL, NULL); /* the role of SET ROLE ends, too */
	pgconn_query(c, NULL, "RESET ROLE", 0, NULL, NULL, NULL); /* to one that the role's own settings name */
	conn_check(c);
}

/* Whether the other end of a socket is on this machine: a Unix socket, or TCP to an address that is ours, too. */
static bool conn_is_near(int fd)
{
	struct sockaddr_storage ours, theirs;
	socklen_t n = sizeof(ours), m = sizeof(theirs);
	const struct sockaddr_in *a = (const void *)&ours, *b = (const void *)&theirs;
	const struct sockaddr_in6 *a6 = (const void *)&ours, *b6 = (const void *)&theirs;

	if (getsockname(fd, (struct sockaddr *)&ours, &n) == -1 ||
		getpeername(fd, (struct sockaddr *)&theirs, &m) == -1)
		return false;
	if (ours.ss_family == AF_INET)
		return a->sin_addr.s_addr == b->sin_addr.s_addr;
	if (ours.ss_family == AF_INET6)
		return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
	return ours.ss_family == AF_UNIX;
}

/* The handshake is through. */
static void conn_ready(struct pgconn *c)
{
	if (PQsetnonblocking(c->pg, 1) != 0 || (c->pipeline && !PQenterPipelineMode(c->pg))) {
		pgconn_break(c, pgstart_error(c->pg));
		return;
	}
	c->near = conn_is_near(PQsocket(c->pg));
	c->state = CONN_CHECKING;
	pgconn_watch(c, EV_READ, true);
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
		pgconn_break(c, pgstart_error(c->pg));
	else
		pgconn_watch(c, st == PGRES_POLLING_READING ? EV_READ : EV_WRITE, true);
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
	pulse_heard(c->pulse);
	if (what & EV_WRITE)
		exchange_flush(c);
	if (!c->broken)
		exchange_read(c); /* also after a write: PQflush reads when it cannot send, and what it took in makes no
		                 socket readable */
	if (!c->broken && c->pg && c->state != CONN_CONNECTING)
		exchange_flush(c);
}

/* A connect that takes too long, or the end of a backoff. */
static void conn_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct pgconn *c = arg;

	(void)fd, (void)what;
	if (c->state == CONN_WAITING)
		conn_connect(c);
	else if (c->state == CONN_DIALING || c->state == CONN_CONNECTING || c->state == CONN_CHECKING)
		pgconn_break(c, xasprintf("no connection within %lld ms", (long long)dial_timeout_ms(c->dial)));
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
		pgconn_break(c, xstrdup(error));
		return;
	}
	c->state = CONN_CONNECTING;
	PQsetNoticeReceiver(c->pg, conn_notice, c);
	pgconn_watch(c, EV_WRITE, true);
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
	c->session = (struct session){ .statement_s = STATEMENT_TIMEOUT_S, .lock_s = PGCONN_LOCK_TIMEOUT_S };
	c->pipeline = pipeline;
	c->events = events;
	c->arg = arg;
	TAILQ_INIT(&c->unsent);
	TAILQ_INIT(&c->pending);
	c->timer = loop_timer_new(base, conn_timeout, c);
	c->reap = loop_event(base, -1, 0, conn_reap, c);
	c->pulse = pulse_new(c);
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
	pulse_free(c->pulse);
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
	pgconn_break(c, xstrdup(reason));
}

void pgconn_keep_quiet(struct pgconn *c, bool quiet)
{
	c->keeps_quiet = quiet;
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

bool pgconn_is_near(const struct pgconn *c)
{
	return c->near;
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
		exchange_send(c);
}

void pgconn_query(struct pgconn *c, const char *name, const char *sql, int nparams, const char *const *params,
	pgconn_result_cb cb, void *arg)
{
	if (!name && statement_is_transaction_control(sql))
		conn_submit(c, statement_new(NULL, REFUSED_SQL, 0, NULL, cb, arg));
	else
		conn_submit(c, statement_new(name, name ? NULL : sql, nparams, params, cb, arg));
}

/* A pooler may not know what to do with a Sync that follows nothing, and libpq sends one alone only in a pipeline. */
void pgconn_ping(struct pgconn *c)
{
	bool sync = c->pipeline && !c->pooled;
	struct statement *s = statement_new(NULL, sync ? NULL : "SELECT", 0, NULL, NULL, NULL);

	s->sync = sync;
	s->ping = true;
	conn_append(c, s, true);
	exchange_send(c);
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
		exchange_send(c);
}
