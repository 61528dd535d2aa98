/* probe.h: whether the queue's tables are there and as they should be. */
#ifndef PROBE_H
#define PROBE_H

#include "worker/plugin_call.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct probe {
	struct pgmqd_worker *worker; /* its `up` is set by flow.c and cleared here */
	void (*known)(void *arg);    /* the tables are known: statements may be sent */
	void (*unknown)(void *arg);  /* not any more */
	void *arg;
	bool under_way, failed, warned; /* failed, warned: said once */
	int64_t good_ms;                /* boottime of the last good one */
	int64_t doubt_ms;               /* no doubt is looked into before */
	struct event *again;
};

void probe_init(
	struct probe *p, struct pgmqd_worker *w, void (*known)(void *arg), void (*unknown)(void *arg), void *arg);
void probe_close(struct probe *p);
void probe_up(struct probe *p);    /* the connection is up */
void probe_down(struct probe *p);  /* it is lost */
void probe_now(struct probe *p);   /* looks at the tables; until they are known, no statement is sent */
void probe_stale(struct probe *p); /* a statement says that the tables have changed */
void probe_doubt(struct probe *p); /* they may have, which has no hurry */

#endif
