/* quarantine.c: after a crash: messages that may have caused it run alone, so that a poison message takes the blame by
 * itself.
 *
 * What was in hand when the process died comes back as messages that were claimed before (suspects) when their leases
 * end. Until then and until they are through, messages are claimed one by one, since one that is too large for the
 * memory does its harm on the way here, and a suspect is delivered only when nothing else is in hand, not even claimed,
 * and nothing is claimed while it runs. Fresh messages run beside each other meanwhile. Two claims in a short time that
 * were never answered are a crash in this sense, too.
 *
 * When claims of one message are lost again and again, though the connection is made and other statements are answered
 * between them, the message may be one that libpq cannot take in: the server never commits such a claim, so that no
 * attempt is counted. The next claim withholds what is large, and a message that comes so has had an attempt. It is
 * claimed whole the next time, for memory may come back.
 */
#include "config.h"

#include "base/clock.h"
#include "worker/flow.h"

#include "base/xalloc.h"

#define LOST_AGAIN_LEASES 4 /* a second unanswered claim within so many leases is no accident */
#define LOST_ALONE 3        /* claims of one message, after which what is large is withheld */

/* Whether it was claimed before: a retry looks the same as one whose process died. */
static bool is_suspect(const struct pgmqd_msg *m)
{
	return m->attempt > 1;
}

/* The first suspect of a list. */
static struct pgmqd_msg *find_suspect(const struct flow *f, enum msg_state s)
{
	struct pgmqd_msg *m;

	TAILQ_FOREACH(m, &f->list[s], link)
	if (is_suspect(m))
		return m;
	return NULL;
}

/* The process before this one died: be careful until its leases have ended. */
void caution_begin(struct flow *f)
{
	f->cautious = true;
	f->cautious_until = clock_boottime_ms() + f->lease_ms;
}

/* Whether a claim was lost a short time ago. */
static bool lost_lately(const struct flow *f)
{
	return f->claim_lost_ms && clock_boottime_ms() - f->claim_lost_ms < LOST_AGAIN_LEASES * f->lease_ms;
}

/* A claim was never answered. Once is the network's affair. Answers to others in between prove nothing: they pass the
 * lost one's message over until the server has noticed that its connection is gone. */
void caution_claim_lost(struct flow *f)
{
	if (lost_lately(f)) {
		f->lost_alone += f->asked == 1;
		caution_begin(f);
	} else {
		f->lost_alone = 0;
	}
	f->claim_lost_ms = clock_boottime_ms();
}

/* Whether the next claim is to withhold what is large. */
bool caution_small(const struct flow *f)
{
	return f->lost_alone >= LOST_ALONE && lost_lately(f);
}

/* A large message came without its text, and loses an attempt: that takes as many lost claims anew. */
void caution_large(struct flow *f)
{
	f->lost_alone = 0;
}

/* How many messages to ask for, given how many it would be else. */
unsigned caution_ask(const struct flow *f, unsigned n)
{
	return f->cautious && n > 1 ? 1 : n;
}

/* How many messages may be in hand, claimed ones included, given how many it would be else. */
unsigned caution_room(const struct flow *f, unsigned room)
{
	if (!f->cautious)
		return room;
	if (find_suspect(f, MSG_WAITING) || find_suspect(f, MSG_RUNNING))
		return 0;
	return f->one_by_one ? 1 : room;
}

/* Whether the claim that has just come in shows that no suspect is behind it: claims go by the time at which messages
 * fall due, so a fresh one that is younger than the leases in question comes after all of them. */
static bool no_suspect_left(const struct flow *f, unsigned rows, unsigned asked)
{
	const struct pgmqd_msg *m = TAILQ_LAST(&f->list[MSG_WAITING], msg_list);
	int64_t since = clock_boottime_ms() - f->cautious_until;

	if (since <= 0 || f->one_by_one || find_suspect(f, MSG_RUNNING))
		return false;
	return rows < asked || (m && m->read_ct == 1 && m->enqueued_us > clock_realtime_us() - since * 1000);
}

/* The claim that has just come in, of `rows` of the `asked` messages: suspects come one by one from here, or it is
 * over. */
void caution_looked(struct flow *f, unsigned rows, unsigned asked)
{
	if (!f->cautious)
		return;
	f->one_by_one = find_suspect(f, MSG_WAITING) != NULL;
	if (no_suspect_left(f, rows, asked)) {
		f->cautious = false;
		log_info("nothing is left of what was in hand at the crash before");
	}
}

/* The waiting message that may be delivered now; NULL when none may. */
struct pgmqd_msg *caution_next(struct flow *f)
{
	struct pgmqd_msg *m, *next, *first = TAILQ_FIRST(&f->list[MSG_WAITING]);

	if (!f->cautious || !first)
		return first;
	if (find_suspect(f, MSG_RUNNING))
		return NULL;
	TAILQ_FOREACH(m, &f->list[MSG_WAITING], link)
	if (!is_suspect(m))
		return m;
	for (m = TAILQ_NEXT(first, link); m; m = next) {
		next = TAILQ_NEXT(m, link);
		flow_end(m, OUT_RELEASE, NULL, 0, xstrdup("another message runs alone after a crash"));
	}
	/* what is settled but not told would be handled again if this one takes the process down */
	if (f->looking || f->count[MSG_RUNNING] || f->count[MSG_SETTLED] || f->count[MSG_SENT])
		return NULL;
	return first;
}
