/* delivery.h: waiting messages on their way to the plugin: one by one, or many in one call. */
#ifndef DELIVERY_H
#define DELIVERY_H

#include "worker/plugin_call.h"

#include <event2/event.h>
#include <stdbool.h>

struct lease;
struct pause;
struct quarantine;
struct settle;

/* The parts of the queue that it asks. */
struct delivery_parts {
	struct settle *settle;
	struct lease *lease;
	const struct pause *pause;
	struct quarantine *quarantine;
};

struct delivery {
	struct pgmqd_worker *worker;
	struct delivery_parts parts;
	void (*kick)(void *arg); /* something can be done now */
	void *arg;
	unsigned limit;   /* messages in the plugin's hands at once that were given to it one by one */
	unsigned batch;   /* messages in one call; 1: the plugin gets them one by one */
	unsigned batches; /* such calls at once */
	int64_t since_ms; /* boottime at which the present batch began to gather; 0: none does */
	int64_t told_ms;  /* when it was last said that a header is not followed */
	struct event *wait;
};

void delivery_init(struct delivery *d, struct pgmqd_worker *w, const struct delivery_parts *parts,
	void (*kick)(void *arg), void *arg);
void delivery_close(struct delivery *d);

/* Hands over what waits while there are free places. `claiming`: a claim is under way. True: this round of the loop has
 * had enough of it, and more may wait. */
bool delivery_feed(struct delivery *d, bool claiming);
/* A message whose call was for many, and failed as a whole, waits again, with the claim that it has, and goes alone. */
void delivery_apart(struct pgmqd_msg *m);
/* How many messages may be with the plugin now. */
unsigned delivery_window(const struct delivery *d);

#endif
