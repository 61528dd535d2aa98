/* queue_claim.c: claims of a queue at work: the low-water mark, and rows that the database cannot claim or read. */
#include "config.h"

#include "worker/queue_private.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM_COLUMNS 16
#define AHEAD_COLUMNS 14
#define CLAIM_LIMITED 1024 /* more than a claim asks for */
#define SLOW_MS 10000      /* a claim that was cancelled after that may have a row that takes so long to read */
#define WAITED_MS 200 /* a claim that failed after that has waited for a lock, which mostly is one of all rows ... */
#define WAITED_MIN 12 /* ... so that it is a row's only when so many have failed */
#define WAITED_MAX 3  /* each row that is tried by itself waits, too: no more of them in one look */
#define FULL_SHARE 10 /* full looks may take one in so many parts of the time */

struct claim_call {
	struct queue_pg *queue;
	struct queue_look look;
	unsigned most;  /* look.n, or one less when that one may come ahead */
	unsigned asked; /* of the server, which is less than look.n after a claim that failed on a row */
	bool full;
	bool waited; /* its last error came after a while: something is locked, for all rows or for one */
	bool passes; /* the errors of this look say that they pass, and they come again: it goes on to its end */
	int nonce;
	int64_t sent_ms;
	char *error, sqlstate[6]; /* why the row that is being looked for cannot be claimed */
	queue_claim_cb cb;
	void *arg;
};

static void claim_send(struct claim_call *call);
static void claim_pick(struct claim_call *call, enum stmt st, pgconn_result_cb cb);

/* Ends a claim with an error. */
static void claim_fail(struct claim_call *call, const char *error, const char *sqlstate)
{
	struct queue_claim claim = { .error = error, .sqlstate = sqlstate, .shared = -1 };

	call->cb(call->arg, &claim);
	free(call->error);
	free(call);
}

/* No message can be claimed: it is not the row that is at fault. */
static void claim_hopeless(struct claim_call *call)
{
	char *error = queue_refused_all(call->queue);

	claim_fail(call, error, call->passes ? call->sqlstate : "P0000");
	free(error);
}

/* Tries again without the rows that cannot be claimed. */
static void claim_pass_over(struct claim_call *call)
{
	size_t hopeless, new = queue_refused_new(call->queue, &hopeless);

	if ((new && call->queue->nrefused >= QUEUE_REFUSED_MAX) || (call->waited && new >= WAITED_MAX))
		claim_hopeless(call);
	else
		claim_send(call);
}

/* Whether the row was spotted before. Between a claim that failed and the look for its row another message may have
 * come that goes first, and is not at fault: so a claim follows, and only the row that is spotted after that one, too,
 * is passed over. */
static bool spotted_again(struct queue_pg *q, int64_t id, int64_t born_us)
{
	bool again = q->spotted_id == id && q->spotted_us == born_us;

	q->spotted_id = again ? 0 : id;
	q->spotted_us = born_us;
	return again;
}

/* The row that could not be claimed. */
static void claim_spotted(void *arg, const struct pgresult *r)
{
	struct claim_call *call = arg;
	struct queue_pg *q = call->queue;
	int64_t id, born_us;

	if (r->error) {
		claim_fail(call, *r->sqlstate ? call->error : r->error, *r->sqlstate ? call->sqlstate : r->sqlstate);
		return;
	}
	if (PQntuples(r->res) == 1) {
		id = atoll(PQgetvalue(r->res, 0, 0));
		born_us = atoll(PQgetvalue(r->res, 0, 2));
		if (!spotted_again(q, id, born_us)) {
			free(call->error);
			call->error = NULL;
			claim_send(call);
			return;
		}
		queue_refused_add(q, (struct refused){ .id = id,
					     .read_ct = atoi(PQgetvalue(r->res, 0, 1)),
					     .born_us = born_us,
					     .nonce = atoi(PQgetvalue(r->res, 0, 3)),
					     .passes = call->passes,
					     .error = call->error });
		call->error = NULL;
	} else if (call->passes) { /* no row is in the way: it is what it says */
		claim_fail(call, call->error, call->sqlstate);
		return;
	}
	free(call->error);
	call->error = NULL;
	free(q->unreadable);
	q->unreadable = NULL;
	claim_pass_over(call);
}

/* ---- claims ---- */

/* Halves what is claimed at once until the row that is at fault is alone; that one is claimed without reading it, and
 * when even that fails, passed over. What is too long to be read takes so long each time that one is tried at once. An
 * error that passes is not that of reading. */
static void claim_isolate(struct claim_call *call, const struct pgresult *r)
{
	struct queue_pg *q = call->queue;

	if (call->asked > 1) {
		q->claim_max = clock_boottime_ms() - call->sent_ms >= SLOW_MS / 10 ? 1 : call->asked / 2;
		claim_send(call);
	} else if (!q->unreadable && !call->passes) {
		q->claim_max = 1;
		q->unreadable = xstrdup(r->error);
		claim_send(call);
	} else {
		call->error = xstrdup(r->error);
		snprintf(call->sqlstate, sizeof(call->sqlstate), "%s", r->sqlstate);
		claim_pick(call, ST_SPOT, claim_spotted);
	}
}

/* A claim has succeeded: the next one may be larger again. The owner may ask for that one as soon as it has this one's
 * rows. */
static void claim_grow(struct queue_pg *q)
{
	q->unreadable = NULL;
	q->spotted_id = 0;
	if (!q->nrefused)
		q->failing = SQLSTATE_ROW_NONE;
	q->claim_max = q->claim_max && q->claim_max < UINT_MAX / 2 ? q->claim_max * 2 : 0;
	if (q->claim_max > CLAIM_LIMITED)
		q->claim_max = 0;
}

/* Moves the low-water mark, and says when the next full look may be.
 *
 * Claimed and settled rows leave dead entries at the lower end of the index on vt, and while an old snapshot is open,
 * each look from there walks over all of them. So a look begins at the mark: what the last one has left nothing below.
 * That is a shortcut and no promise, since a row may appear below it at any time. Full looks keep the promise. They are
 * made whenever they cost no more than a share of the time, which is nearly always; and a look that was not full is
 * followed by one that is, as soon as that share allows. */
static void claim_mark(struct queue_pg *q, const struct claim_call *call, const PGresult *res, int last)
{
	int64_t mark_us = atoll(PQgetvalue(res, last, 7)), took_us = atoll(PQgetvalue(res, last, 8));

	if (mark_us > 0)
		q->mark_us = mark_us;
	if (call->full)
		q->full_ms = clock_monotonic_ms() + FULL_SHARE * took_us / 1000;
}

/* Whether one of the rows may be the cause of an error: of its class, or since it says that it passes and comes again
 * and again; at once where that was seen of a row before, or where the claim had the time to read much. */
static bool claim_blames_row(struct claim_call *call, const char *sqlstate)
{
	struct queue_pg *q = call->queue;
	int64_t took_ms = clock_boottime_ms() - call->sent_ms;
	bool lock = sqlstate_class(sqlstate) == SQLSTATE_LOCK, known, insists;

	call->waited = lock && took_ms >= WAITED_MS;
	if (call->passes && *sqlstate)
		return true;
	if (sqlstate_blames_row(sqlstate_class(sqlstate))) {
		call->passes = false;
		return true;
	}
	known = *sqlstate && ((q->nrefused && strcmp(q->failing.state, sqlstate) == 0) || (lock && took_ms >= SLOW_MS));
	insists = sqlstate_insists(&q->failing, sqlstate);
	call->passes = known || (insists && (!call->waited || q->failing.n >= WAITED_MIN));
	return call->passes;
}

/* Whether one of the rows has another nonce than the claim gave it. */
static bool claim_is_rewritten(const PGresult *res, int rows, int nonce)
{
	for (int i = 0; i < rows; i++)
		if (atoi(PQgetvalue(res, i, 7)) != nonce)
			return true;
	return false;
}

/* The claim's answer: rows, and one last row about the queue. */
static void claim_answer(void *arg, const struct pgresult *r)
{
	struct claim_call *call = arg;
	struct queue_pg *q = call->queue;
	struct queue_claim claim = {
		.error = r->error, .sqlstate = r->sqlstate, .kept = r->res, .shared = -1, .sent_ms = call->sent_ms
	};
	struct pgresult changed = { .error = QUEUE_CHANGED_ERROR, .sqlstate = r->sqlstate };
	int last = r->error ? -1 : PQntuples(r->res) - 1;
	size_t new, hopeless;
	char *unreadable;

	if (r->error && strstr(r->error, STILL_MARK)) {
		claim_isolate(call, &changed);
		return;
	}
	if (r->error && claim_blames_row(call, r->sqlstate)) {
		claim_isolate(call, r);
		return;
	}
	if (last >= 0) {
		if (PQnfields(r->res) != CLAIM_COLUMNS) { /* libpq without memory may lose an answer, and then they all
			                                     belong to others */
			log_error("out of memory: an answer of the database is not that of its statement");
			abort();
		}
		queue_refused_kept(q, PQgetvalue(r->res, last, 15));
		if (last == 0 && !PQgetisnull(r->res, last, 15)) {
			claim_pass_over(call);
			return;
		}
		new = queue_refused_new(q, &hopeless);
		if (last == 0 && new > 0) {
			claim_hopeless(call);
			return;
		}
		claim.rows = last;
		claim.rewritten = claim_is_rewritten(r->res, last, call->nonce);
		q->more = (unsigned)last == call->asked;
		claim.refused = (int)hopeless;
		claim.unreadable = q->unreadable;
		claim.due_ms = PQgetisnull(r->res, last, 6) ? QUEUE_NOT_DUE : atoll(PQgetvalue(r->res, last, 6));
		if (call->look.ask_shared)
			claim.shared = PQgetvalue(r->res, last, 9)[0] != 't'    ? 0
			               : PQgetvalue(r->res, last, 14)[0] != 't' ? 1
			                                                        : 2;
		claim.changed = PQgetvalue(r->res, last, 11)[0] == 't';
		claim.silent = call->look.full ? PQgetvalue(r->res, last, 12)[0] == 't' : -1;
		if (queue_refused_is_below(q))
			q->mark_us = 0;
		else if (!queue_passes_over(q)) /* else due rows are left behind */
			claim_mark(q, call, r->res, last);
		if (!call->full && claim.due_ms > q->full_ms - clock_monotonic_ms())
			claim.due_ms = q->full_ms > clock_monotonic_ms() ? q->full_ms - clock_monotonic_ms() : 0;
		if (((unsigned)last == call->asked && call->asked < call->look.n) || !PQgetisnull(r->res, last, 15))
			claim.due_ms = 0;
		claim.due_ms = queue_refused_aside(q, claim.due_ms);
		queue_refused_claimed(q, r->res, last, (unsigned)last < call->asked);
	}
	unreadable = q->unreadable;
	if (last >= 0)
		claim_grow(q);
	call->cb(call->arg, &claim);
	if (last >= 0) {
		queue_refused_told(q);
		free(unreadable);
	}
	free(call);
}

/* Runs the claim's statement, or the one that tells which row it would take. */
static void claim_pick(struct claim_call *call, enum stmt st, pgconn_result_cb cb)
{
	struct queue_pg *q = call->queue;
	const struct queue_look *look = &call->look;
	char count[16], mark[32] = "-Infinity", nonce[16];
	struct sqltext refused = { 0 };
	const char *params[9] = { count, q->table, mark, look->full ? "t" : "f", look->ask_shared ? "t" : "f",
		look->ask_due ? "t" : "f", nonce,
		q->unreadable ? "2"
		: look->small ? "1"
			      : "0" };

	snprintf(count, sizeof(count), "%u", call->asked);
	snprintf(nonce, sizeof(nonce), "0.%06d", call->nonce);
	if (!call->full)
		snprintf(mark, sizeof(mark), "%lld.%06lld", (long long)(q->mark_us / 1000000),
			(long long)(q->mark_us % 1000000));
	for (size_t i = 0; i < q->nrefused; i++)
		if (!q->refused[i].again)
			sqltext_int(&refused, q->refused[i].id);
	params[8] = sqltext_end(&refused);
	pgconn_group_begin(q->pg);
	if (queue_passes_over(q)) /* by turns: each claim's snapshot has to show what the one before has done */
		queue_run_grouped(q, ST_TURN, 0, NULL, NULL, NULL);
	queue_run_grouped(q, st, 9, params, cb, call);
	if (st == ST_CLAIM)
		queue_run_still(q);
	pgconn_group_end(q->pg);
	sqltext_free(&refused);
}

/* A nonce: vt has whole milliseconds only in a message that waits. */
static int claim_nonce(void)
{
	int nonce = (int)(backoff_random() % NONCES);

	return nonce % 1000 == 0 ? nonce + 1 : nonce;
}

/* Sends the claim's statement. */
static void claim_send(struct claim_call *call)
{
	struct queue_pg *q = call->queue;
	const struct queue_look *look = &call->look;

	call->asked = q->claim_max && q->claim_max < call->most ? q->claim_max : call->most;
	call->full = look->full || queue_passes_over(q) || !q->mark_us || clock_monotonic_ms() >= q->full_ms;
	call->nonce = claim_nonce();
	call->sent_ms = clock_boottime_ms();
	claim_pick(call, ST_CLAIM, claim_answer);
}

/* ---- one message ahead ---- */

/* The statement that brings one message of a look while the queue is idle. It promises nothing: the claim behind it is
 * a look as any other, and brings what this one has left, whatever the reason.
 *
 * To a server far away the two go out together, which spares a round trip. From a server on this machine the worker
 * mostly read both answers at once, so that the message waited for the second. So there the claim goes out when the
 * message is with the plugin. */
struct ahead_call {
	struct claim_call *claim; /* goes out behind the answer; NULL: it is on its way */
	int nonce;
	queue_claim_cb cb;
	void *arg;
};

/* Whether one message of this look may come ahead: the first by time, and no row is at fault. */
static bool ahead_may(const struct queue_pg *q, const struct queue_look *look)
{
	return look->hurry && look->n > 1 && !look->small && !queue_passes_over(q) && !q->priority && !q->triggers &&
	       !q->claim_max && !q->unreadable && !q->nrefused;
}

/* Its answer; an error is that of the claim behind it, too, or of a row that the claim isolates. */
static void ahead_answer(void *arg, const struct pgresult *r)
{
	struct ahead_call *call = arg;
	struct queue_claim claim = {
		.sqlstate = r->sqlstate, .ahead = true, .kept = r->res, .shared = -1, .silent = -1
	};

	if (!r->error && PQntuples(r->res) == 1 && PQnfields(r->res) == AHEAD_COLUMNS) {
		claim.rows = 1;
		claim.rewritten = claim_is_rewritten(r->res, 1, call->nonce);
		call->cb(call->arg, &claim);
	}
	if (call->claim && r->error && !*r->sqlstate) /* the connection is lost */
		claim_fail(call->claim, r->error, r->sqlstate);
	else if (call->claim)
		claim_send(call->claim);
	free(call);
}

/* Sends it; `alone`: the claim follows its answer. */
static void ahead_send(struct claim_call *claim, bool alone)
{
	struct queue_pg *q = claim->queue;
	struct ahead_call *call = xcalloc(1, sizeof(*call));
	char mark[32] = "-Infinity", nonce[16];
	const char *params[2] = { mark, nonce };

	*call = (struct ahead_call){
		.claim = alone ? claim : NULL, .nonce = claim_nonce(), .cb = claim->cb, .arg = claim->arg
	};
	if (q->mark_us)
		snprintf(mark, sizeof(mark), "%lld.%06lld", (long long)(q->mark_us / 1000000),
			(long long)(q->mark_us % 1000000));
	snprintf(nonce, sizeof(nonce), "0.%06d", call->nonce);
	queue_run(q, ST_AHEAD, 2, params, ahead_answer, call);
}

void queue_pg_claim(struct queue *base, const struct queue_look *look, queue_claim_cb cb, void *arg)
{
	struct claim_call *call = xcalloc(1, sizeof(*call));
	bool alone = false;

	call->queue = queue_pg(base);
	call->look = *look;
	call->cb = cb;
	call->arg = arg;
	call->most = look->n;
	queue_refused_due(call->queue);
	if (ahead_may(call->queue, look)) {
		alone = pgconn_is_near(call->queue->pg);
		call->most--;
		ahead_send(call, alone);
	}
	if (!alone)
		claim_send(call);
}

void queue_pg_claim_row(const struct queue *base, const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	const struct queue_pg *q = (const struct queue_pg *)(const void *)base;
	const PGresult *res = claim->kept;
	int refunded;

	if (row >= claim->rows) {
		queue_refused_row(q, row - claim->rows, m);
		return;
	}
	refunded = atoi(PQgetvalue(res, row, 2));
	m->id = atoll(PQgetvalue(res, row, 0));
	m->read_ct = atoi(PQgetvalue(res, row, 1));
	m->nonce = atoi(PQgetvalue(res, row, 7));
	m->born_us = atoll(PQgetvalue(res, row, 3));
	m->enqueued_us = m->born_us < clock_realtime_us() ? m->born_us : clock_realtime_us();
	m->attempt = m->read_ct > refunded ? (unsigned)(m->read_ct - refunded) : 1;
	if (claim->unreadable)
		m->unreadable = xasprintf("the database cannot read the message: %s", claim->unreadable);
	m->due_us = atoll(PQgetvalue(res, row, 13)); /* 0 for an SQL null */
	m->due_us = m->due_us < m->enqueued_us ? m->enqueued_us : m->due_us;
	m->priority = strtod(PQgetvalue(res, row, 10), NULL); /* 0 for an SQL null */
	if (!PQgetisnull(res, row, 4)) {
		m->text_len = (size_t)PQgetlength(res, row, 4);
		/* one message that is too large must not end the process; without memory for a small one, the process
		 * is what is wrong */
		m->text = m->text_len < QUEUE_LARGE ? xrealloc(NULL, m->text_len + 1, 1) : malloc(m->text_len + 1);
		if (m->text)
			memcpy(m->text, PQgetvalue(res, row, 4), m->text_len + 1);
	} else if (!PQgetisnull(res, row, 6)) {
		m->text_len = (size_t)atoll(PQgetvalue(res, row, 6));
	}
	if (!PQgetisnull(res, row, 5))
		m->headers = xstrdup(PQgetvalue(res, row, 5));
	m->first_due_us = message_first_due(m);
}
