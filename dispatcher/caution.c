/* caution.c: after a crash: messages that may have caused it run alone, so that a poison message takes the blame by itself.
 *
 * What was in hand when the process died comes back as messages that were claimed before (suspects) when their leases end. Until
 * then and until they are through, a suspect is delivered only when nothing else is in hand, not even claimed, and nothing is claimed while
 * it runs; the other suspects of its claim go back without an attempt being counted. Fresh messages run as always meanwhile.
 */
#include "config.h"

#include "flow.h"

#include "xalloc.h"

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
	f->cautious_until = flow_boottime_ms() + f->lease_ms;
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

/* The claim that has just come in, of `rows` of the `asked` messages: suspects come one by one from here, or it is over. */
void caution_looked(struct flow *f, unsigned rows, unsigned asked)
{
	if (!f->cautious)
		return;
	f->one_by_one = find_suspect(f, MSG_WAITING) != NULL;
	if (rows < asked && !f->one_by_one && !find_suspect(f, MSG_RUNNING) && flow_boottime_ms() > f->cautious_until) {
		f->cautious = false;
		log_info("nothing is left of what was in hand when the process before this one died");
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
