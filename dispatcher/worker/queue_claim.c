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
#define REFUSED_MAX 64
#define REFUSED_MS 60000 /* a row that was handed over as refused is tried again after that */
#define FULL_SHARE 10    /* full looks may take one in so many parts of the time */

struct claim_call {
	struct queue_pg *queue;
	struct queue_look look;
	unsigned most;  /* look.n, or one less when that one may come ahead */
	unsigned asked; /* of the server, which is less than look.n after a claim that failed on a row */
	bool full;
	int nonce;
	char *error, sqlstate[6]; /* why the row that is being looked for cannot be claimed */
	queue_claim_cb cb;
	void *arg;
};

/* ---- rows that cannot be claimed ---- */

/* A row that the database cannot update, because of a trigger of the user's, say. Claims pass it over. When others can
 * be claimed, it is handed to the owner, who makes a dead letter of it. */
struct refused {
	int64_t id, born_us, until_ms; /* until_ms: handed over, and not looked at again before */
	int read_ct, nonce;
	char *error;
};

void queue_forget_refused(struct queue_pg *q)
{
	for (size_t i = 0; i < q->nrefused; i++)
		free(q->refused[i].error);
	free(q->refused);
	q->refused = NULL;
	q->nrefused = 0;
}

/* Forgets one; the last takes its place. */
static void refused_forget(struct queue_pg *q, size_t i)
{
	free(q->refused[i].error);
	q->refused[i] = q->refused[--q->nrefused];
}

/* How many have not been handed over; those for which it is time are looked at again. */
static size_t refused_new(struct queue_pg *q)
{
	int64_t now = clock_monotonic_ms();
	size_t n = 0;

	for (size_t i = q->nrefused; i > 0; i--) {
		if (q->refused[i - 1].until_ms && q->refused[i - 1].until_ms <= now)
			refused_forget(q, i - 1);
		else
			n += !q->refused[i - 1].until_ms;
	}
	return n;
}

/* They have been handed over. */
static void refused_told(struct queue_pg *q)
{
	for (size_t i = 0; i < q->nrefused; i++)
		if (!q->refused[i].until_ms)
			q->refused[i].until_ms = clock_monotonic_ms() + REFUSED_MS;
}

/* One of them as a message: without its text, which is as little to be had as the message itself. */
static void refused_row(const struct queue_pg *q, int row, struct pgmqd_msg *m)
{
	const struct refused *r = q->refused;

	for (; r->until_ms || row > 0; r++)
		row -= !r->until_ms;
	m->id = r->id;
	m->read_ct = r->read_ct;
	m->nonce = r->nonce;
	m->born_us = m->enqueued_us = m->due_us = m->first_due_us = r->born_us;
	m->attempt = (unsigned)r->read_ct;
	m->unreadable = xasprintf("the database cannot claim the message: %s", r->error);
}

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

/* No message can be claimed: it is not the row that is at fault. All of them are tried again with the next claim. */
static void claim_hopeless(struct claim_call *call)
{
	struct queue_pg *q = call->queue;
	char *error = xasprintf("none of the due messages can be claimed (a trigger on %s?): message %lld: %s",
		q->queue_table, (long long)q->refused[q->nrefused - 1].id, q->refused[q->nrefused - 1].error);

	queue_forget_refused(q);
	claim_fail(call, error, "P0000");
	free(error);
}

/* Tries again without the rows that cannot be claimed. */
static void claim_pass_over(struct claim_call *call)
{
	if (call->queue->nrefused >= REFUSED_MAX)
		claim_hopeless(call);
	else
		claim_send(call);
}

/* One more row that could not be claimed. Takes over `error`. */
static void refused_add(struct queue_pg *q, int64_t id, int read_ct, int64_t born_us, int nonce, char *error)
{
	q->refused = xrealloc(q->refused, q->nrefused + 1, sizeof(*q->refused));
	q->refused[q->nrefused++] = (struct refused){
		.id = id, .read_ct = read_ct, .born_us = born_us, .nonce = nonce, .error = error
	};
}

/* Rows that a claim has picked and not changed, each as "id read_ct born nonce": a trigger keeps them as they are. */
static void refused_kept(struct queue_pg *q, const char *rows)
{
	long long id, born;
	int read_ct, nonce, len;

	for (; q->nrefused < REFUSED_MAX && sscanf(rows, "%lld %d %lld %d%n", &id, &read_ct, &born, &nonce, &len) == 4;
		rows += len + (rows[len] == ','))
		refused_add(q, id, read_ct, born, nonce, xstrdup(QUEUE_REFUSED_ERROR));
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
		refused_add(
			q, id, atoi(PQgetvalue(r->res, 0, 1)), born_us, atoi(PQgetvalue(r->res, 0, 3)), call->error);
		call->error = NULL;
	}
	free(call->error);
	call->error = NULL;
	free(q->unreadable);
	q->unreadable = NULL;
	claim_pass_over(call);
}

/* ---- claims ---- */

/* Halves what is claimed at once until the row that is at fault is alone; that one is claimed without reading it, and
 * when even that fails, passed over. */
static void claim_isolate(struct claim_call *call, const struct pgresult *r)
{
	struct queue_pg *q = call->queue;

	if (call->asked > 1) {
		q->claim_max = call->asked / 2;
		claim_send(call);
	} else if (!q->unreadable) {
		q->claim_max = 1;
		q->unreadable = xstrdup(r->error);
		claim_send(call);
	} else {
		call->error = xstrdup(r->error);
		snprintf(call->sqlstate, sizeof(call->sqlstate), "%s", r->sqlstate);
		claim_pick(call, ST_SPOT, claim_spotted);
	}
}

/* A claim has succeeded: the next one may be larger again. */
static void claim_grow(struct queue_pg *q)
{
	free(q->unreadable);
	q->unreadable = NULL;
	q->spotted_id = 0;
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

/* The claim's answer: rows, and one last row about the queue. */
static void claim_answer(void *arg, const struct pgresult *r)
{
	struct claim_call *call = arg;
	struct queue_pg *q = call->queue;
	struct queue_claim claim = {
		.error = r->error, .sqlstate = r->sqlstate, .kept = r->res, .nonce = call->nonce, .shared = -1
	};
	struct pgresult changed = { .error = QUEUE_CHANGED_ERROR, .sqlstate = r->sqlstate };
	int last = r->error ? -1 : PQntuples(r->res) - 1;

	if (r->error && strstr(r->error, STILL_MARK)) {
		claim_isolate(call, &changed);
		return;
	}
	if (r->error && sqlstate_blames_row(sqlstate_class(r->sqlstate))) {
		claim_isolate(call, r);
		return;
	}
	if (last >= 0) {
		if (PQnfields(r->res) != CLAIM_COLUMNS) { /* libpq without memory may lose an answer, and then they all
			                                     belong to others */
			log_error("out of memory: an answer of the database is not that of its statement");
			abort();
		}
		refused_kept(q, PQgetvalue(r->res, last, 15));
		if (last == 0 && !PQgetisnull(r->res, last, 15)) {
			claim_pass_over(call);
			return;
		}
		if (last == 0 && refused_new(q) > 0) {
			claim_hopeless(call);
			return;
		}
		claim.rows = last;
		q->more = (unsigned)last == call->asked;
		claim.refused = (int)refused_new(q);
		claim.unreadable = q->unreadable;
		claim.due_ms = PQgetisnull(r->res, last, 6) ? QUEUE_NOT_DUE : atoll(PQgetvalue(r->res, last, 6));
		if (call->look.ask_shared)
			claim.shared = PQgetvalue(r->res, last, 9)[0] != 't'    ? 0
			               : PQgetvalue(r->res, last, 14)[0] != 't' ? 1
			                                                        : 2;
		claim.changed = PQgetvalue(r->res, last, 11)[0] == 't';
		claim.silent = call->look.full ? PQgetvalue(r->res, last, 12)[0] == 't' : -1;
		if (!queue_passes_over(q)) /* else due rows are left behind */
			claim_mark(q, call, r->res, last);
		if (!call->full && claim.due_ms > q->full_ms - clock_monotonic_ms())
			claim.due_ms = q->full_ms > clock_monotonic_ms() ? q->full_ms - clock_monotonic_ms() : 0;
		if (((unsigned)last == call->asked && call->asked < call->look.n) || !PQgetisnull(r->res, last, 15))
			claim.due_ms = 0;
	}
	call->cb(call->arg, &claim);
	if (last >= 0) {
		refused_told(q);
		claim_grow(q);
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
	claim_pick(call, ST_CLAIM, claim_answer);
}

/* ---- one message ahead ---- */

/* The statement that brings one message of a look while the queue is idle. It promises nothing: the claim behind it is
 * a look as any other, and brings what this one has left, whatever the reason. */
struct ahead_call {
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
		.sqlstate = r->sqlstate, .ahead = true, .kept = r->res, .nonce = call->nonce, .shared = -1, .silent = -1
	};

	if (!r->error && PQntuples(r->res) == 1 && PQnfields(r->res) == AHEAD_COLUMNS) {
		claim.rows = 1;
		call->cb(call->arg, &claim);
	}
	free(call);
}

/* Sends it. */
static void ahead_send(const struct claim_call *claim)
{
	struct queue_pg *q = claim->queue;
	struct ahead_call *call = xcalloc(1, sizeof(*call));
	char mark[32] = "-Infinity", nonce[16];
	const char *params[2] = { mark, nonce };

	*call = (struct ahead_call){ .nonce = claim_nonce(), .cb = claim->cb, .arg = claim->arg };
	if (q->mark_us)
		snprintf(mark, sizeof(mark), "%lld.%06lld", (long long)(q->mark_us / 1000000),
			(long long)(q->mark_us % 1000000));
	snprintf(nonce, sizeof(nonce), "0.%06d", call->nonce);
	queue_run(q, ST_AHEAD, 2, params, ahead_answer, call);
}

void queue_pg_claim(struct queue *base, const struct queue_look *look, queue_claim_cb cb, void *arg)
{
	struct claim_call *call = xcalloc(1, sizeof(*call));

	call->queue = queue_pg(base);
	call->look = *look;
	call->cb = cb;
	call->arg = arg;
	call->most = look->n;
	if (ahead_may(call->queue, look)) {
		ahead_send(call);
		call->most--;
	}
	claim_send(call);
}

void queue_pg_claim_row(const struct queue *base, const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	const struct queue_pg *q = (const struct queue_pg *)(const void *)base;
	const PGresult *res = claim->kept;
	int refunded;

	if (row >= claim->rows) {
		refused_row(q, row - claim->rows, m);
		return;
	}
	refunded = atoi(PQgetvalue(res, row, 2));
	m->id = atoll(PQgetvalue(res, row, 0));
	m->read_ct = atoi(PQgetvalue(res, row, 1));
	m->nonce = claim->nonce;
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
