/* exchange.c: statements go out over a connection, results and notifications come in.
 *
 * The rules of libpq that are easy to break, and where they are kept: the socket's event is level triggered; after
 * every PQconsumeInput and every result the notifications are drained (exchange_notifies); while PQflush has something
 * left both directions are watched (exchange_flush); a result counts only when its transaction was committed, which is
 * when the Sync comes back (exchange_synced).
 */
#include "config.h"

#include "pg/pgconn_private.h"

#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/pgstart.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define READ_ROUNDS 16 /* reads for one readiness event, while the socket announces more */
#define DRY_ROUNDS 4   /* reads when it announces nothing: see exchange_read() */
#define RESULTS_AT_ONCE 100000
#define READ_ONLY_TRANSACTION "25006"
#define MISSING_RIGHTS "42501"

/* Hands every notification that libpq holds to the owner. */
static void exchange_notifies(struct pgconn *c)
{
	PGnotify *n;

	while ((n = PQnotifies(c->pg)) != NULL) {
		if (c->events->notify)
			c->events->notify(c->arg, n->relname, n->extra, n->be_pid);
		PQfreemem(n);
	}
}

/* Sends what libpq still holds and watches for writability only while something is left. */
void exchange_flush(struct pgconn *c)
{
	int left = PQflush(c->pg);

	if (left < 0)
		pgconn_break(c, pgstart_error(c->pg));
	else
		pgconn_watch(c, left ? EV_READ | EV_WRITE : EV_READ, false);
}

/* Moves statements from unsent to the wire: all of them in pipeline mode, else one at a time. */
void exchange_send(struct pgconn *c)
{
	struct statement *s;

	if ((c->state != CONN_UP && c->state != CONN_CHECKING) || c->broken || c->in_group)
		return;
	if (TAILQ_EMPTY(&c->pending) && !TAILQ_EMPTY(&c->unsent))
		pulse_asked(c->pulse);
	while ((s = TAILQ_FIRST(&c->unsent)) != NULL) {
		if (!c->pipeline && !TAILQ_EMPTY(&c->pending))
			break;
		if (!statement_send(s, c->pg) || (c->pipeline && s->ends_group && !PQpipelineSync(c->pg))) {
			pgconn_break(c, pgstart_error(c->pg));
			return;
		}
		TAILQ_REMOVE(&c->unsent, s, link);
		TAILQ_INSERT_TAIL(&c->pending, s, link);
	}
	exchange_flush(c);
}

/* A group is committed or failed: its callbacks run. */
static void exchange_synced(struct pgconn *c)
{
	struct statement_list group = TAILQ_HEAD_INITIALIZER(group);
	struct statement *s;
	bool last = false, refused = false;

	while (!last && (s = TAILQ_FIRST(&c->pending)) != NULL) {
		const char *state = s->res ? PQresultErrorField(s->res, PG_DIAG_SQLSTATE) : NULL;

		last = s->ends_group;
		refused = refused ||
		          (state && (strcmp(state, READ_ONLY_TRANSACTION) == 0 || strcmp(state, MISSING_RIGHTS) == 0));
		TAILQ_REMOVE(&c->pending, s, link);
		TAILQ_INSERT_TAIL(&group, s, link);
	}
	statement_answer_all(&group);
	if (refused)
		pgconn_recheck(c);
}

/* libpq has lost an answer for lack of memory: only a new connection is in step with the server again. */
static void exchange_starve(struct pgconn *c)
{
	pgconn_break(c, xstrdup("libpq had no memory for an answer"));
}

/* Takes one result from libpq; false when there is none for now. */
static bool exchange_result(struct pgconn *c)
{
	struct statement *head = TAILQ_FIRST(&c->pending);
	PGresult *res;

	if (!head || PQisBusy(c->pg))
		return false;
	res = PQgetResult(c->pg);
	exchange_notifies(c);
	if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
		PQclear(res);
		c->current = NULL;
		exchange_synced(c);
		return true;
	}
	/* an error of libpq's own has no state: without memory it may lose an answer, and then the next ones are taken
	 * for others' */
	if (res && PQresultStatus(res) == PGRES_FATAL_ERROR && !PQresultErrorField(res, PG_DIAG_SQLSTATE) &&
		PQstatus(c->pg) != CONNECTION_BAD) {
		PQclear(res);
		exchange_starve(c);
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
		exchange_synced(c);
	}
	return true;
}

/* Whether the socket announces bytes. */
static bool exchange_socket_readable(const struct pgconn *c)
{
	struct pollfd p = { .fd = PQsocket(c->pg), .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* Whether libpq had no memory for the end of a pipeline's group: it notes that as text, and then waits for ever for
 * the end that it has read (pqParseInput3(), seen in libpq 15). */
static bool exchange_lost_sync(const struct pgconn *c)
{
	static const char mark[] = "out of memory"; /* libpq is not translated: the daemon sets no locale */
	const char *text;
	size_t len;

	if (!c->pipeline || TAILQ_EMPTY(&c->pending) || !PQisBusy(c->pg))
		return false;
	text = PQerrorMessage(c->pg);
	len = strlen(text);
	if (len > 0 && text[len - 1] == '\n') /* some versions end the text so */
		len--;
	if (len < sizeof(mark) - 1)
		return false;
	len -= sizeof(mark) - 1;
	return strncmp(text + len, mark, sizeof(mark) - 1) == 0 && (len == 0 || text[len - 1] == '\n');
}

/* Takes in what one read brings, and runs what it completes. */
static void exchange_read_once(struct pgconn *c)
{
	int results = 0;

	if (!PQconsumeInput(c->pg)) {
		pgconn_break(c, pgstart_error(c->pg));
		return;
	}
	exchange_notifies(c);
	c->dispatching = true;
	while (!c->broken && PQstatus(c->pg) != CONNECTION_BAD && results < RESULTS_AT_ONCE && exchange_result(c))
		results++;
	c->dispatching = false;
	if (!c->broken && PQstatus(c->pg) == CONNECTION_BAD)
		pgconn_break(c, pgstart_error(c->pg));
	else if (!c->broken && exchange_lost_sync(c))
		exchange_starve(c);
	else if (results == RESULTS_AT_ONCE && !c->broken)
		event_active(c->io, EV_READ, 0); /* the rest is in memory, where no socket announces it */
}

/* Reads all there is. Under TLS (or GSSAPI) one read takes at least 8 KiB of a record of up to 16 KiB, and the rest
 * waits, decrypted, where the socket does not announce it. So the last reads are some after the socket had nothing
 * more: they empty any record. */
void exchange_read(struct pgconn *c)
{
	bool encrypted = PQsslInUse(c->pg) || PQgssEncInUse(c->pg);

	for (int round = 1, dry = 0; dry < DRY_ROUNDS; round++) {
		exchange_read_once(c);
		if (c->broken || !encrypted)
			break;
		if (!exchange_socket_readable(c))
			dry++;
		else if (round < READ_ROUNDS)
			dry = 0;
		else
			break; /* its event comes again by itself */
	}
	if (!c->broken)
		exchange_send(c);
}
