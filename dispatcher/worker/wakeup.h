/* wakeup.h: when a queue's worker claims, and when its producers may stay silent. */
#ifndef WAKEUP_H
#define WAKEUP_H

#include "worker/message.h"
#include "worker/plugin_call.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

/* Why and when the worker claims; `us` 0: there was no reason yet. */
enum wake_cause { WOKE_OTHER = 0, WOKE_NOTIFY, WOKE_DUE, WOKE_POLL };
struct wake {
	enum wake_cause cause;
	int64_t us; /* real time */
};

enum wake_state { WAKE_ASLEEP = 0, WAKE_WAKING, WAKE_AWAKE, WAKE_CLOSING };

/* The calls of wakeup.c to the queue's flow. */
struct wakeup_events {
	void (*claim)(
		void *arg); /* there may be something to claim: called directly, so that no turn of the loop is lost */
	void (*polled)(void *arg); /* notifications do not arrive, and a poll has come */
};

struct wakeup {
	struct pgmqd_worker *worker;
	const struct wakeup_events *events;
	void *arg;
	enum wake_state state;
	bool wanted;                  /* there may be something to claim */
	bool wanted_again;            /* the same, since the claim under way was sent */
	bool claiming;                /* a claim is under way */
	bool full;                    /* the next claim also covers what lies below the mark */
	bool unnotified;              /* notifications are not known to arrive */
	bool silent;                  /* the server's notification queue fills up, so producers do not notify */
	bool taken;                   /* somebody else has the queue's advisory locks, so producers may not notify */
	bool closed;                  /* "in flight" was had since "awake" was given up */
	bool shared;                  /* another worker has this queue, too */
	unsigned quiet;               /* polls in a row that found every worker asleep and nothing to do */
	struct wake woke, woke_again; /* what led to the claim to come or under way, and to the one after it */
	int64_t due_at_ms;            /* boottime that the due timer is set to */
	int64_t burst_ms, poll_ms, period_ms;
	unsigned burst, empty_claims;
	struct event *due, *poll, *busy;
};

void wakeup_init(struct wakeup *u, struct pgmqd_worker *w, const struct wakeup_events *events, void *arg);
void wakeup_close(struct wakeup *u);
void wakeup_up(struct wakeup *u);
void wakeup_down(struct wakeup *u);
void wakeup_drain(struct wakeup *u);

void wakeup_notified(struct wakeup *u);               /* a notification for this queue */
void wakeup_listener(struct wakeup *u, bool hearing); /* at the start: what the listener knows of notifications */
void wakeup_hearing(struct wakeup *u, bool hearing);  /* whether notifications are known to arrive */
void wakeup_taken(struct wakeup *u, bool taken);      /* whether somebody else has advisory locks of the queue */
void wakeup_want(struct wakeup *u);                   /* something has changed: there may be something to claim */
void wakeup_next(struct wakeup *u);                   /* the same, for a claim behind statements that were just sent */
void wakeup_due_in(struct wakeup *u, int64_t ms);     /* the next claim is due in `ms` */
void wakeup_due_by(struct wakeup *u, int64_t ms);     /* or sooner, if it is due sooner already */
void wakeup_release(struct wakeup *u);                /* nothing is claimed here for now: the producers notify */
void wakeup_no_room(struct wakeup *u);                /* the same, because a claim that is wanted cannot be made now */

/* Round a claim. wakeup_wants() says whether one is wanted and none is under way. */
bool wakeup_wants(const struct wakeup *u);
struct wakeup_claim {
	bool full;      /* also what lies below the mark */
	bool ask_share; /* also whether another worker has the queue */
	bool ask_due;   /* also when the next message falls due */
	bool hurry;     /* a message was notified of, and waits */
};
struct wakeup_claim wakeup_claim(struct wakeup *u);               /* a claim is being sent: with these */
void wakeup_observe(struct wakeup *u, const struct pgmqd_msg *m); /* a message came with it */
void wakeup_claimed(
	struct wakeup *u, bool more, int64_t due_ms, int shared); /* it was answered; more: got all it asked for */
void wakeup_silent(struct wakeup *u, int silent);                 /* what a full claim says of the producers */
void wakeup_fed(struct wakeup *u, int rows);                      /* its rows are with the plugin: what next? */
void wakeup_claim_failed(struct wakeup *u, int64_t again_ms);     /* 0: as soon as it can be sent again */

#endif
