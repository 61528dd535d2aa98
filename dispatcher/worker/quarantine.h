/* quarantine.h: after a crash: the messages that were in hand run alone, so that a poison message takes the blame by
 * itself. */
#ifndef QUARANTINE_H
#define QUARANTINE_H

#include "worker/plugin_call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settle;

struct quarantine {
	struct pgmqd_worker *worker;
	struct settle *settle;
	int64_t lease_ms;
	int64_t *suspects; /* numbers of the messages that were in hand in the process that died */
	size_t n;
	bool all;              /* more were in hand than could be written down: every message claimed before is one */
	bool careful;          /* messages are claimed one by one */
	bool lost;             /* after claims whose answer was lost: which messages they held is unknown */
	int64_t until_ms;      /* boottime at which the leases of the process that died have ended */
	int64_t began_ms;      /* boottime at which the suspect that runs was delivered; 0: none runs */
	int64_t others_ms;     /* boottime until which the others go before the next suspect */
	int64_t claim_lost_ms; /* boottime of the last claim that was never answered */
	unsigned lost_alone;   /* claims of one message that were never answered, in a row or soon after one another */
};

void quarantine_init(struct quarantine *q, struct pgmqd_worker *w, struct settle *settle, bool after_crash);
void quarantine_close(struct quarantine *q);

/* Claims: how many messages to ask for and how many may be in hand, given how many it would be else; whether what is
 * large is withheld. */
unsigned quarantine_ask(const struct quarantine *q, unsigned n);
unsigned quarantine_room(const struct quarantine *q, unsigned room);
bool quarantine_withholds(const struct quarantine *q);
/* The rows of a claim that was sent at that boottime are waiting now; `more`: it got as many as it asked for. */
void quarantine_claimed(struct quarantine *q, int64_t sent_ms, bool more);
void quarantine_claim_lost(struct quarantine *q, unsigned asked); /* a claim was never answered */
void quarantine_withheld(struct quarantine *q);                   /* a large message came without its text */

/* Whether messages are claimed one by one, and suspects may be among them. */
bool quarantine_is_careful(const struct quarantine *q);

/* The waiting message that may be delivered now; NULL when none may. `claiming`: a claim is under way. */
struct pgmqd_msg *quarantine_next(struct quarantine *q, bool claiming);

#endif
