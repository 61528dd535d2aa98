/* queue_refused.c: rows that the database cannot claim, because of a trigger of the user's, say. Claims pass them over.
 * When others can be claimed, such a row is handed to the owner, who makes a dead letter of it. Where the error is one
 * that passes, the row is only put aside, and handed over when it has come again and again. */
#include "config.h"

#include "worker/queue_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>

#define REFUSED_MS 60000 /* a row that was handed over as refused is tried again after that */
#define ASIDE_MS 1000    /* the same when its error says that it passes: then four times as long, and so on */
#define ASIDE_MIN 2      /* such a row is handed over after so many tries, and not before max_attempts */

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

void queue_refused_due(struct queue_pg *q)
{
	int64_t now = clock_boottime_ms();

	for (size_t i = q->nrefused; i > 0; i--) {
		struct refused *r = &q->refused[i - 1];

		if (r->again || !r->until_ms || r->until_ms > now)
			continue;
		r->again = r->passes;
		if (!r->passes)
			refused_forget(q, i - 1);
	}
}

/* Whether it is one of this look, and not of one before. */
static bool refused_is_new(const struct refused *r)
{
	return !r->until_ms && !r->again;
}

/* Whether it is to be handed over, now that others can be claimed. */
static bool refused_is_hopeless(const struct queue_pg *q, const struct refused *r)
{
	return refused_is_new(r) && (!r->passes || (r->tries >= ASIDE_MIN && r->tries >= q->rules.max_attempts));
}

size_t queue_refused_new(const struct queue_pg *q, size_t *hopeless)
{
	size_t n = 0;

	*hopeless = 0;
	for (size_t i = 0; i < q->nrefused; i++) {
		n += refused_is_new(&q->refused[i]) && !q->refused[i].proven;
		*hopeless += refused_is_hopeless(q, &q->refused[i]);
	}
	return n;
}

void queue_refused_told(struct queue_pg *q)
{
	for (size_t i = 0; i < q->nrefused; i++)
		if (refused_is_hopeless(q, &q->refused[i]))
			q->refused[i].until_ms = clock_boottime_ms() + REFUSED_MS;
}

char *queue_refused_all(struct queue_pg *q)
{
	const struct refused *first = q->refused;
	char *error;

	while (!refused_is_new(first) || first->proven)
		first++;
	if (!first->passes) {
		error = xasprintf("none of the due messages can be claimed (a trigger on %s?): message %lld: %s",
			q->queue_table, (long long)first->id, first->error);
		queue_forget_refused(q);
		return error;
	}
	error = xstrdup(first->error); /* it may be of all rows, and stands for itself */
	for (size_t i = 0; i < q->nrefused; i++)
		if (refused_is_new(&q->refused[i])) {
			q->refused[i].tries -= !q->refused[i].proven;
			q->refused[i].until_ms = clock_boottime_ms() + ASIDE_MS;
		}
	return error;
}

/* Puts a row aside, for longer each time. */
static void refused_wait(struct refused *r)
{
	int64_t ms = ASIDE_MS;

	for (unsigned i = 1; i < r->tries && ms < REFUSED_MS; i++)
		ms *= 4;
	r->until_ms = clock_boottime_ms() + ms;
	r->proven = true;
	if (r->tries == 1)
		log_error("message %lld cannot be claimed: %s; others go before it, and it is tried again",
			(long long)r->id, r->error);
}

int64_t queue_refused_aside(struct queue_pg *q, int64_t ms)
{
	int64_t now = clock_boottime_ms();

	for (size_t i = 0; i < q->nrefused; i++) {
		struct refused *r = &q->refused[i];

		if (refused_is_new(r) && !refused_is_hopeless(q, r))
			refused_wait(r);
		if (r->passes && !r->again && r->until_ms && r->until_ms - now < ms)
			ms = r->until_ms > now ? r->until_ms - now : 0;
	}
	return ms;
}

bool queue_refused_is_below(const struct queue_pg *q)
{
	for (size_t i = 0; i < q->nrefused; i++)
		if (q->refused[i].passes)
			return true;
	return false;
}

void queue_refused_claimed(struct queue_pg *q, const PGresult *res, int n, bool all)
{
	for (size_t i = q->nrefused; i > 0; i--) {
		const struct refused *r = &q->refused[i - 1];
		bool claimed = all;

		for (int row = 0; r->again && !claimed && row < n; row++)
			claimed = atoll(PQgetvalue(res, row, 0)) == r->id;
		if (r->again && claimed)
			refused_forget(q, i - 1);
	}
}

void queue_refused_row(const struct queue_pg *q, int row, struct pgmqd_msg *m)
{
	const struct refused *r = q->refused;

	for (; !refused_is_hopeless(q, r) || row > 0; r++)
		row -= refused_is_hopeless(q, r);
	m->id = r->id;
	m->read_ct = r->read_ct;
	m->nonce = r->nonce;
	m->born_us = m->enqueued_us = m->due_us = m->first_due_us = r->born_us;
	m->attempt = (unsigned)r->read_ct;
	m->unreadable = xasprintf("the database cannot claim the message: %s", r->error);
}

void queue_refused_add(struct queue_pg *q, struct refused row)
{
	for (size_t i = q->nrefused; i > 0; i--)
		if (q->refused[i - 1].id == row.id) {
			if (q->refused[i - 1].born_us == row.born_us) {
				row.tries = q->refused[i - 1].tries;
				row.proven = q->refused[i - 1].proven;
			}
			refused_forget(q, i - 1);
		}
	row.tries++;
	q->refused = xrealloc(q->refused, q->nrefused + 1, sizeof(*q->refused));
	q->refused[q->nrefused++] = row;
}

void queue_refused_kept(struct queue_pg *q, const char *rows)
{
	long long id, born;
	int read_ct, nonce, len;

	for (; q->nrefused < QUEUE_REFUSED_MAX &&
		sscanf(rows, "%lld %d %lld %d%n", &id, &read_ct, &born, &nonce, &len) == 4;
		rows += len + (rows[len] == ','))
		queue_refused_add(q, (struct refused){ .id = id,
					     .read_ct = read_ct,
					     .born_us = born,
					     .nonce = nonce,
					     .error = xstrdup(QUEUE_REFUSED_ERROR) });
}
