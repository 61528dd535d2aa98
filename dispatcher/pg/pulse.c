/* pulse.c: whether the server at the other end of a connection still answers.
 *
 * A server that hangs, or a proxy that has lost it, refuses nothing and resets nothing. An idle connection asks for a
 * sign of life after a few seconds: a bare Sync, which costs the server no statement. While a statement's answer is
 * awaited, silence may mean a slow statement or one that waits for a lock. Then a second connection to the same place
 * asks what the server process is doing: it stays open for the next such question until the answer has come. When that
 * connection gets no answer either, or the server process is not there or has nothing to do, ours is given up.
 *
 * Behind a pooler the second connection has a server process of its own, and asks only whether that one answers. A pool
 * that has none to spare for so long cannot be told from a silent server.
 *
 * All of it counts from the last byte that was heard: eight seconds after it a silent server is left.
 */
#include "config.h"

#include "pg/pulse.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/pgconn_private.h"
#include "pg/pgstart.h"
#include "pg/sqlstate.h"

#include <ctype.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define QUIET_MS 3000  /* nothing was heard for so long: asks */
#define ASKED_MS 1000  /* but a statement has this time before a second connection is made because of it */
#define ANSWER_MS 4000 /* so long the answer may take */
#define IDLE_MS 1000   /* an answer that the server has sent may be on its way for so long */
#define LATE_MS 1000   /* the loop stood still (a plugin, SIGSTOP): what has come meanwhile is read first */

/* The second connection: not there, being made, asked, or kept for the next question. */
enum beside { BESIDE_NONE, BESIDE_CONNECTING, BESIDE_ASKED, BESIDE_KEPT };

struct pulse {
	struct pgconn *c;
	struct event *timer;
	int64_t heard_ms; /* the last sign of life */
	int64_t asked_ms; /* when the answer that is awaited was asked for */
	int unsent;       /* bytes that the other side had not taken when we looked */
	enum beside state;
	PGconn *pg;
	struct event *io;
	bool idle;      /* the server process was seen without work */
	int64_t due_ms; /* when the timer is to fire */
};

/* Looks again after `ms`. */
static void pulse_arm(struct pulse *p, int64_t ms)
{
	p->due_ms = clock_monotonic_ms() + ms;
	loop_timer(p->timer, ms);
}

/* Closes the second connection. */
static void beside_close(struct pulse *p)
{
	if (p->io)
		event_free(p->io);
	p->io = NULL;
	PQfinish(p->pg);
	p->pg = NULL;
	p->state = BESIDE_NONE;
	p->idle = false;
}

/* Gives the connection up. */
static void pulse_lost(struct pulse *p, const char *why)
{
	long long s = (clock_monotonic_ms() - p->heard_ms) / 1000;

	beside_close(p);
	pgconn_silent(p->c, xasprintf("no answer from the server for %lld s%s", s, why));
}

/* The server is there: it is asked again when it has said nothing for as long again. */
static void beside_lives(struct pulse *p)
{
	p->state = BESIDE_KEPT;
	pulse_arm(p, QUIET_MS);
}

/* There is no second connection, and that is not for silence: it is tried again later. */
static void beside_refused(struct pulse *p)
{
	beside_close(p);
	pulse_arm(p, QUIET_MS);
}

static void beside_io(evutil_socket_t fd, short what, void *arg);

/* Watches the second connection's socket. */
static void beside_watch(struct pulse *p, short what)
{
	if (p->io)
		event_free(p->io);
	p->io = loop_event(p->c->base, PQsocket(p->pg), what | EV_PERSIST, beside_io, p);
	loop_add(p->io, NULL);
}

/* Asks what the server process is doing. Behind a pooler it may be any, and the question is whether one answers. */
static void beside_ask(struct pulse *p)
{
	char *sql = p->c->pooled
	                    ? xstrdup("SELECT")
	                    : xasprintf("SELECT a.state FROM pg_catalog.pg_stat_get_activity(%d) a", p->c->backend_pid);

	p->state = BESIDE_ASKED;
	if (!PQsendQuery(p->pg, sql) || PQflush(p->pg) < 0)
		beside_refused(p);
	else
		beside_watch(p, EV_READ);
	free(sql);
}

/* The server has answered, or a pooler in its place. */
static void beside_answered(struct pulse *p, const PGresult *res)
{
	bool known = PQresultStatus(res) == PGRES_TUPLES_OK, awaited = !TAILQ_EMPTY(&p->c->pending);
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (p->c->pooled && state && sqlstate_class(state) == SQLSTATE_CONNECTION) {
		pulse_lost(p, ", and a pooler cannot reach it");
	} else if (p->c->pooled || !awaited) {
		beside_lives(p);
	} else if (known && PQntuples(res) == 0) {
		pulse_lost(p, ", and its server process is not there any more");
	} else if (!known || PQgetisnull(res, 0, 0) || strcmp(PQgetvalue(res, 0, 0), "idle") != 0) {
		p->idle = false;
		beside_lives(p);
	} else if (p->idle) {
		pulse_lost(p, ", and its server process has nothing to do");
	} else {
		p->idle = true;
		p->state = BESIDE_KEPT;
		pulse_arm(p, IDLE_MS);
	}
}

/* Reads the answer, and later its end. The end of that connection alone tells nothing: another one is made. */
static void beside_read(struct pulse *p)
{
	PGresult *res, *first = NULL;

	if (!PQconsumeInput(p->pg)) {
		beside_refused(p);
		return;
	}
	while (!PQisBusy(p->pg) && (res = PQgetResult(p->pg)) != NULL) {
		if (first)
			PQclear(res);
		else
			first = res;
	}
	if (first && p->state == BESIDE_ASKED)
		beside_answered(p, first);
	PQclear(first);
}

/* Whether the text of a connection's failure ends in an SQLSTATE: then the server has written it. */
static bool beside_server_said(const PGconn *pg)
{
	char *text = pgstart_error(pg);
	size_t len = strlen(text), n = 0;

	while (n < len && (isdigit((unsigned char)text[len - 1 - n]) || isupper((unsigned char)text[len - 1 - n])))
		n++;
	free(text);
	return n == 5 && n < len;
}

/* One step of the connect. A place that refuses or hangs up has no server any more; one that gets as far as a password,
 * say, has. */
static void beside_poll(struct pulse *p)
{
	ConnStatusType at = PQstatus(p->pg);
	PostgresPollingStatusType st;

	event_free(p->io); /* libpq may open another socket */
	p->io = NULL;
	st = PQconnectPoll(p->pg);
	if (st == PGRES_POLLING_OK) {
		PQsetnonblocking(p->pg, 1);
		beside_ask(p);
	} else if (st != PGRES_POLLING_FAILED) {
		beside_watch(p, st == PGRES_POLLING_READING ? EV_READ : EV_WRITE);
	} else if ((at == CONNECTION_STARTED || at == CONNECTION_MADE || at == CONNECTION_AWAITING_RESPONSE) &&
		   !beside_server_said(p->pg)) {
		pulse_lost(p, ", and a second connection is refused");
	} else {
		beside_refused(p);
	}
}

/* Something happens on the second connection. */
static void beside_io(evutil_socket_t fd, short what, void *arg)
{
	struct pulse *p = arg;

	(void)fd, (void)what;
	if (p->state == BESIDE_CONNECTING)
		beside_poll(p);
	else
		beside_read(p);
}

/* Makes the second connection. When that is not possible here (no descriptors), nothing is known of the server. */
static void beside_connect(struct pulse *p)
{
	p->pg = dial_beside(p->c->dial, p->c->no_options ? NULL : &p->c->session);
	if (!p->pg || PQstatus(p->pg) == CONNECTION_BAD) {
		beside_refused(p);
		return;
	}
	PQsetErrorVerbosity(p->pg, PQERRORS_SQLSTATE);
	p->state = BESIDE_CONNECTING;
	beside_watch(p, EV_WRITE);
}

/* An answer is overdue; or the connection has been quiet, and may not be asked itself. */
static void pulse_overdue(struct pulse *p, bool awaited, int64_t waited)
{
	if (awaited && waited >= pgconn_answer_ms(p->c)) {
		pulse_lost(p, ", which is more than its time limit");
	} else if (p->state == BESIDE_CONNECTING || p->state == BESIDE_ASKED) {
		pulse_lost(p, ", nor to a second connection");
	} else {
		pulse_arm(p, ANSWER_MS);
		if (p->state == BESIDE_KEPT)
			beside_ask(p);
		else
			beside_connect(p);
	}
}

/* Asks an idle connection for a sign of life. */
static void pulse_ping(struct pulse *p)
{
	pulse_arm(p, ANSWER_MS);
	pgconn_ping(p->c);
}

/* Whether something has happened that no event has told of yet: bytes that came while the loop stood still, or that the
 * other side has taken. */
static bool pulse_moves(struct pulse *p)
{
	struct pollfd fd = { .fd = PQsocket(p->c->pg), .events = POLLIN };
	int unsent = 0;
	bool moved;

	if (ioctl(fd.fd, SIOCOUTQ, &unsent) != 0)
		unsent = 0;
	moved = unsent != p->unsent;
	p->unsent = unsent;
	return moved || poll(&fd, 1, 0) > 0;
}

/* It is time to see whether the server still speaks. */
static void pulse_due(evutil_socket_t fd, short what, void *arg)
{
	struct pulse *p = arg;
	const struct statement *head = TAILQ_FIRST(&p->c->pending);
	int64_t now = clock_monotonic_ms(), quiet, waited = now - p->asked_ms;

	(void)fd, (void)what;
	if (p->c->state != CONN_UP || p->c->broken)
		return;
	if (pulse_moves(p))
		pulse_heard(p);
	quiet = now - p->heard_ms;
	if (now - p->due_ms > LATE_MS)
		pulse_arm(p, QUIET_MS);
	else if (quiet < QUIET_MS)
		pulse_arm(p, QUIET_MS - quiet);
	else if (!head && !p->c->keeps_quiet)
		pulse_ping(p);
	else if (head && waited < (head->ping ? ANSWER_MS : ASKED_MS))
		pulse_arm(p, (head->ping ? ANSWER_MS : ASKED_MS) - waited);
	else if (head && head->ping)
		pgconn_silent(p->c, xasprintf("no answer to a ping within %d s", ANSWER_MS / 1000));
	else
		pulse_overdue(p, head != NULL, waited);
}

void pulse_heard(struct pulse *p)
{
	p->heard_ms = clock_monotonic_ms();
	if (p->state != BESIDE_NONE) {
		beside_close(p);
		pulse_arm(p, QUIET_MS);
	}
}

void pulse_asked(struct pulse *p)
{
	p->asked_ms = clock_monotonic_ms();
}

void pulse_start(struct pulse *p)
{
	p->unsent = 0;
	p->heard_ms = p->asked_ms = clock_monotonic_ms();
	pulse_arm(p, QUIET_MS);
}

void pulse_stop(struct pulse *p)
{
	evtimer_del(p->timer);
	beside_close(p);
}

struct pulse *pulse_new(struct pgconn *c)
{
	struct pulse *p = xcalloc(1, sizeof(*p));

	p->c = c;
	p->timer = loop_timer_new(c->base, pulse_due, p);
	return p;
}

void pulse_free(struct pulse *p)
{
	pulse_stop(p);
	event_free(p->timer);
	free(p);
}
