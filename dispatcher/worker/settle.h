/* settle.h: outcomes and their way to the database: decided, batched, fenced, kept until they are stored. */
#ifndef SETTLE_H
#define SETTLE_H

#include "worker/message.h"
#include "worker/plugin_call.h"

#include <event2/event.h>
#include <stdbool.h>

/* Events of the queue that follow from outcomes. */
struct settle_events {
	void (*kick)(void *arg);            /* something can be done now: at the end of this round of the loop */
	void (*sent)(void *arg);            /* outcomes are on their way: a claim behind them may find more */
	void (*due)(void *arg, int64_t ms); /* a message is visible again after `ms` */
	void (*stale)(void *arg);           /* the tables have changed */
	void (*doubt)(void *arg);     /* a lease was lost before its end: there may be a new trigger on the table */
	void (*read_only)(void *arg); /* the session cannot write */
};

/* Statements of the daemon alone, and those in which a statement of the plugin runs; they do not wait for each other.
 */
enum settle_lane { SETTLE_OURS = 0, SETTLE_PLUGINS, SETTLE_NLANES };

struct settle {
	struct pgmqd_worker *worker;
	const struct settle_events *events;
	void *arg;
	unsigned under_way[SETTLE_NLANES]; /* statements */
	bool draining;                     /* what is released is announced to other dispatchers */
	int64_t told_ms;                   /* when a refusal was last logged */
	struct event *again;               /* outcomes that were refused for a passing reason are due again */
};

void settle_init(struct settle *s, struct pgmqd_worker *w, const struct settle_events *events, void *arg);
void settle_close(struct settle *s);

/* The delay, below zero, that gives a message its place in the queue back: it was due before those behind it. */
int64_t settle_place(const struct pgmqd_msg *m);
/* The delay of a message that no attempt is counted for: it grows with its claims, but not beyond its age, since some
 * of the claims only found a server away. */
int64_t settle_patience(const struct pgmqd_msg *m);

/* Decides a message's outcome: backoff and the limit of attempts included. Takes over `reason`. */
void settle_end(struct settle *s, struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, int64_t delay_ms,
	char *reason);
/* Whether a claimed row is a message that is in hand already: its lease ended, and this worker claimed it anew. The new
 * claim is that message's from here on, whatever its state; it is not delivered again. */
bool settle_reclaimed(struct settle *s, const struct pgmqd_msg *row, int64_t until_ms);
/* Takes a running message back from its plugin and decides its outcome. */
void settle_cancel(
	struct settle *s, struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, const char *reason);
/* There is a new connection: what was refused on the one before is due at once. */
void settle_connected(struct settle *s);
/* Sends what can be sent now. */
void settle_send(struct settle *s);

#endif
