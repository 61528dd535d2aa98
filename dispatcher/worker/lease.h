/* lease.h: leases of the messages in hand: extended, lost, and the deadline of the plugin. */
#ifndef LEASE_H
#define LEASE_H

#include "worker/plugin_call.h"

#include <event2/event.h>
#include <stdint.h>

struct settle;

struct lease {
	struct pgmqd_worker *worker;
	struct settle *settle;
	void (*kick)(void *arg); /* something can be done now */
	void *arg;
	int64_t ms;          /* the visibility timeout */
	int64_t deadline_ms; /* longest time in the plugin's hands */
	int64_t told_ms;     /* when it was logged last that some cannot be extended; 0: never */
	struct event *extend, *deadline;
};

void lease_init(struct lease *l, struct pgmqd_worker *w, struct settle *settle, void (*kick)(void *arg), void *arg);
void lease_close(struct lease *l);
void lease_arm(struct lease *l);     /* messages are in hand: their leases need care */
void lease_started(struct lease *l); /* a message was given to the plugin */
/* Whether a lease that ends at `until_ms` is too short for anything to be begun. */
bool lease_is_short(const struct lease *l, int64_t until_ms);

#endif
