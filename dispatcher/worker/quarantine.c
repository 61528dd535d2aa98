/* quarantine.c: after a crash: the messages that were in hand run alone, so that a poison message takes the blame by
 * itself.
 *
 * The numbers of the messages in hand stand in the shared statistics, which outlive the process. The next process finds
 * them there: they are the suspects. When its lease has ended, a suspect is claimed and waits; it is delivered when
 * nothing else is in hand, not even claimed, and nothing is claimed while it runs. Between two suspects the others have
 * their turn, so that they pass. No other message is delayed, whether it is new or a retry.
 *
 * Until the leases of the process that died have ended, messages are claimed one by one, since one that is too large
 * for the memory does its harm on the way here. Two claims in a short time that were never answered count as a crash in
 * this sense, too, and end when all that they may have held has come back. When claims of one message are lost again
 * and again, though the connection is made and other statements are answered between them, libpq may not be able to
 * take the message in: the server never commits such a claim, so that no attempt is counted. The next claim withholds
 * what is large, and a message that comes so has had an attempt. It is claimed whole the next time, for memory may come
 * back.
 */
#include "config.h"

#include "worker/quarantine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/settle.h"

#include <stdlib.h>

#define LOST_AGAIN_LEASES 4 /* a second unanswered claim within so many leases is no accident */
#define LOST_ALONE 3        /* claims of one message, after which what is large is withheld */
#define LEASE_MORE_MS 1000  /* a lease lasts up to so much longer: the claim's nonce ends it */
#define OTHERS_MIN_MS 200   /* least time for the others between two suspects */
#define OTHERS_MAX_MS 5000
#define SUSPECT_AGAIN_MS 1000 /* a suspect that has to wait for another one is claimed again so much later */

/* ---- the suspects ---- */

/* Where a number stands among the suspects; n when it is none of them. */
static size_t suspect_at(const struct quarantine *q, int64_t id)
{
	size_t i = 0;

	while (i < q->n && q->suspects[i] != id)
		i++;
	return i;
}

/* Whether a message that waits was in hand at the crash. */
static bool is_suspect(const struct quarantine *q, const struct pgmqd_msg *m)
{
	return (q->n && suspect_at(q, m->id) < q->n) || (q->all && m->attempt > 1);
}

/* The first suspect that waits, behind `after` if that is not NULL. */
static struct pgmqd_msg *find_suspect(const struct quarantine *q, struct pgmqd_msg *after)
{
	struct pgmqd_msg *m = after ? TAILQ_NEXT(after, link) : TAILQ_FIRST(&q->worker->messages->list[MSG_WAITING]);

	while (m && !is_suspect(q, m))
		m = TAILQ_NEXT(m, link);
	return m;
}

/* A suspect is delivered: from here on it stands among the messages in hand again. */
static void suspect_begins(struct quarantine *q, const struct pgmqd_msg *m)
{
	size_t at = suspect_at(q, m->id);

	if (at < q->n) {
		q->suspects[at] = q->suspects[--q->n];
		hand_forget(&q->worker->slot->hand, m->id, m->hand);
	}
	q->began_ms = clock_boottime_ms();
}

/* Whether the suspect that was delivered last is still in the plugin's hands; when it has ended, the others have a turn
 * as long as it took. */
static bool suspect_runs(struct quarantine *q)
{
	int64_t took;

	if (!q->began_ms)
		return false;
	if (q->worker->messages->count[MSG_RUNNING])
		return true;
	took = clock_boottime_ms() - q->began_ms;
	q->began_ms = 0;
	took = took < OTHERS_MIN_MS ? OTHERS_MIN_MS : took > OTHERS_MAX_MS ? OTHERS_MAX_MS : took;
	q->others_ms = clock_boottime_ms() + took;
	return false;
}

/* ---- claims ---- */

/* From now on, and until the leases that began before have ended, messages are claimed one by one. */
static void careful_begin(struct quarantine *q)
{
	q->careful = true;
	q->until_ms = clock_boottime_ms() + q->lease_ms + LEASE_MORE_MS;
}

/* Whether a claim was lost a short time ago. */
static bool lost_lately(const struct quarantine *q)
{
	return q->claim_lost_ms && clock_boottime_ms() - q->claim_lost_ms < LOST_AGAIN_LEASES * q->lease_ms;
}

/* One lost claim may be a network fault. A later successful claim does not clear the suspicion: it skips the locked
 * message until the server drops the dead session. */
void quarantine_claim_lost(struct quarantine *q, unsigned asked)
{
	if (lost_lately(q)) {
		q->lost_alone += asked == 1;
		if (!q->careful)
			log_warn("two claims were never answered: messages are claimed one by one "
				 "until theirs have come back");
		careful_begin(q);
		q->lost = true;
	} else {
		q->lost_alone = 0;
	}
	q->claim_lost_ms = clock_boottime_ms();
}

bool quarantine_withholds(const struct quarantine *q)
{
	return q->lost_alone >= LOST_ALONE && lost_lately(q);
}

/* The message loses an attempt: that takes as many lost claims anew. */
void quarantine_withheld(struct quarantine *q)
{
	q->lost_alone = 0;
}

bool quarantine_is_careful(const struct quarantine *q)
{
	return q->careful;
}

unsigned quarantine_ask(const struct quarantine *q, unsigned n)
{
	return q->careful && n > 1 ? 1 : n;
}

unsigned quarantine_room(const struct quarantine *q, unsigned room)
{
	bool others = clock_boottime_ms() < q->others_ms;

	if (q->began_ms && q->worker->messages->count[MSG_RUNNING])
		return 0;
	return find_suspect(q, NULL) && !others ? 0 : room;
}

/* Whether what the lost claims held may still be ahead: claims go by the time at which messages fall due, so a message
 * that was enqueued after the last lost claim comes behind all of them. */
static bool lost_are_ahead(const struct quarantine *q, bool more)
{
	const struct pgmqd_msg *m = TAILQ_LAST(&q->worker->messages->list[MSG_WAITING], msg_list);
	int64_t since_ms = clock_boottime_ms() - q->claim_lost_ms;

	return q->lost && more && !(m && m->attempt == 1 && m->enqueued_us > clock_realtime_us() - since_ms * 1000);
}

/* Ends the care when its time was over as the claim began: the answer of one that began before may come late, and says
 * nothing of what fell due meanwhile. Suspects that another dispatcher has taken never come: they are forgotten a lease
 * later. */
void quarantine_claimed(struct quarantine *q, int64_t sent_ms, bool more)
{
	if (!q->careful || sent_ms < q->until_ms || find_suspect(q, NULL) || lost_are_ahead(q, more))
		return;
	if ((q->n || q->all) && sent_ms < q->until_ms + 2 * q->lease_ms)
		return;
	if (q->n)
		log_info("%zu of the messages that were in hand at the crash did not come back here", q->n);
	else
		log_info("nothing is left of what was in hand at the crash before");
	for (size_t i = 0; i < q->n; i++)
		hand_forget(&q->worker->slot->hand, q->suspects[i], HAND_MAX);
	q->n = 0;
	q->careful = q->all = q->lost = false;
}

/* ---- deliveries ---- */

/* Whether anything but this message is in hand, or settled and not stored: it would be handled again if this one takes
 * the process down. What the database refuses again and again does not count. */
static bool others_in_hand(const struct quarantine *q, const struct pgmqd_msg *alone)
{
	const struct messages *all = q->worker->messages;
	const struct pgmqd_msg *m;

	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		TAILQ_FOREACH(m, &all->list[s], link)
	if (m != alone && !m->refused)
		return true;
	return false;
}

/* Gives the suspects behind the first one back; they are claimed again when it is through. */
static void quarantine_release(struct quarantine *q, struct pgmqd_msg *first)
{
	struct pgmqd_msg *m;

	while ((m = find_suspect(q, first)) != NULL)
		settle_end(q->settle, m, OUT_RELEASE, NULL, SUSPECT_AGAIN_MS,
			xstrdup("another message runs alone after a crash"));
}

struct pgmqd_msg *quarantine_next(struct quarantine *q, bool claiming)
{
	struct pgmqd_msg *m = TAILQ_FIRST(&q->worker->messages->list[MSG_WAITING]), *suspect;

	if (suspect_runs(q))
		return NULL;
	if (!m || (!q->n && !q->all) || (suspect = find_suspect(q, NULL)) == NULL)
		return m;
	quarantine_release(q, suspect);
	for (; m; m = TAILQ_NEXT(m, link))
		if (m != suspect)
			return m;
	if (claiming || others_in_hand(q, suspect))
		return NULL;
	suspect_begins(q, suspect);
	return suspect;
}

/* ---- life ---- */

void quarantine_init(struct quarantine *q, struct pgmqd_worker *w, struct settle *settle, bool after_crash)
{
	*q = (struct quarantine){ .worker = w, .settle = settle, .lease_ms = w->qs->visibility_timeout };
	if (!after_crash) {
		hand_clear(&w->slot->hand);
		return;
	}
	q->suspects = xcalloc(HAND_MAX, sizeof(*q->suspects));
	q->n = hand_left(&w->slot->hand, q->suspects, &q->all);
	careful_begin(q);
	if (q->all)
		log_warn("the process before this one died with many messages in hand: each message that was claimed "
			 "before "
			 "runs alone");
	else if (q->n)
		log_warn("the process before this one died with %zu messages in hand: each runs alone when its lease "
			 "has ended",
			q->n);
}

void quarantine_close(struct quarantine *q)
{
	hand_clear(&q->worker->slot->hand);
	free(q->suspects);
}
