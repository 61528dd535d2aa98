/* flow.h: the message path of one queue: look, claim, deliver, settle. flow_move() is the only mover between states. */
#ifndef FLOW_H
#define FLOW_H

#include "base/log.h"
#include "process/proc.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/message.h"
#include "worker/plugin.h"
#include "worker/plugin_call.h"
#include "worker/queue.h"

#include <event2/event.h>
#include <stdbool.h>

/* Why and when the worker looks; `us` 0: there was no reason yet. */
enum wake_cause { WOKE_OTHER = 0, WOKE_NOTIFY, WOKE_DUE, WOKE_POLL };
struct wake {
	enum wake_cause cause;
	int64_t us; /* real time */
};

enum wake_state { WAKE_ASLEEP = 0, WAKE_WAKING, WAKE_AWAKE, WAKE_CLOSING };

struct flow {
	struct pgmqd_worker host; /* what the plugin sees of us */
	const struct settings *settings;
	const struct queue_settings *qs;
	struct stats_slot *slot;
	struct log_context log;
	struct queue *queue;
	struct plugin *plugin;
	struct msg_list list[MSG_NSTATES]; /* each state is a list, in order of arrival */
	unsigned count[MSG_NSTATES];
	unsigned limit; /* messages in the plugin's hands at once */
	bool ready;     /* connected and probed */
	bool probing;
	bool looking;              /* a claim is under way */
	bool look_wanted;          /* there may be something to claim */
	bool look_again;           /* a wake-up came while the claim was under way */
	unsigned asked;            /* how many messages the last claim asked for */
	bool probe_failed, warned; /* said once */
	bool started;              /* the plugin's start() has run */
	bool draining, deaf;
	bool paused,
		probation; /* after a configuration error: no claims, then one message at a time until one succeeds */
	unsigned pauses;   /* in a row */
	bool probed;       /* ready as soon as it is known whether an operator has paused it */
	bool held;         /* paused by an operator */
	bool operated;     /* the answer to come ends a pause after a configuration error, too */
	bool cautious, one_by_one; /* after a crash: see quarantine.c */
	int64_t cautious_until;    /* boottime at which the leases of the process that died have ended */
	int64_t claim_lost_ms;     /* boottime of the last claim that was never answered */
	unsigned lost_alone; /* claims of one message that were never answered, in a row or soon after one another */
	int64_t looked_ms;   /* boottime when the claim under way was sent */
	struct wake woke, woke_again; /* what led to the look to come or under way, and to the one after it */
	int64_t probed_ms;            /* boottime of the last good probe */
	int64_t due_at_ms;            /* boottime that the due timer is set to */
	unsigned settling;            /* settling statements under way */
	int64_t lease_ms, deadline_ms;
	enum notify_mode notify;
	enum wake_state wake;
	bool closed;    /* "in flight" was had since "awake" was given up */
	bool shared;    /* another worker has this queue, too */
	bool full_look; /* the next look is also at what lies below the mark */
	int64_t burst_ms, poll_ms;
	unsigned burst, empty_looks;
	struct event *tick, *due, *poll, *busy, *lease, *deadline, *pause, *again;
	void (*on_idle)(void *arg); /* draining, and nothing is left */
	void *on_idle_arg;
};

/* The plugin must be loaded; `slot` is this queue's. The flow frees the plugin and the queue. */
struct flow *flow_new(const struct proc_env *env, const struct queue_settings *qs, struct stats_slot *slot,
	struct plugin *plugin, struct event_base *base, struct queue *queue, struct http *http,
	struct template_set **templates);
void flow_free(struct flow *f);
bool flow_start(struct flow *f);                 /* runs the plugin's start(); false: it refused */
void flow_up(struct flow *f);                    /* the connection is up: probe, then a full look */
void flow_down(struct flow *f);                  /* it is lost */
void flow_wake(struct flow *f);                  /* a notification for this queue */
void flow_hearing(struct flow *f, bool hearing); /* whether notifications are known to arrive */
void flow_resume(struct flow *f);                /* a paused queue tries at once */
void flow_operated(struct flow *f);              /* an operator has paused or resumed it */
void flow_drain(struct flow *f);                 /* claims nothing more; calls on_idle when all is settled */
void flow_give_up(struct flow *f);               /* the drain's time is over: cancels what runs and gives it back */
bool flow_is_idle(const struct flow *f);

/* An outcome from the plugin; false when it was refused (settled already, cancelled, stale). */
bool flow_settle(struct pgmqd_msg *m, enum msg_outcome outcome, int64_t delay_ms, char *reason);

/* Within the flow's own files. */
void flow_move(struct pgmqd_msg *m, enum msg_state to);
void flow_forget(struct pgmqd_msg *m); /* off its list and freed */
void flow_kick(struct flow *f);        /* does what can be done now */
void flow_tick(struct flow *f);        /* flow_kick at the end of this round of the loop */
void flow_cancel(struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, const char *reason);
void flow_end(struct pgmqd_msg *m, enum msg_outcome outcome, const char *class, int64_t delay_ms,
	char *reason);                          /* decides the outcome */
void flow_look(struct flow *f);                 /* claims, if that makes sense now */
void wakeup_due_in(struct flow *f, int64_t ms); /* wakeup.c: when to look; the next look is due in `ms` */
void wakeup_due_by(struct flow *f, int64_t ms); /* or sooner, if it is due sooner already */
bool wakeup_wants_due(const struct flow *f);    /* whether a look is to find out when the next one is due */
void wakeup_next(struct flow *f);
void wakeup_shared(struct flow *f, int shared);
void wakeup_poll_arm(struct flow *f);
void wakeup_due(evutil_socket_t fd, short what, void *arg);
void wakeup_poll(evutil_socket_t fd, short what, void *arg);
void wakeup_busy(evutil_socket_t fd, short what, void *arg);
void wakeup_observe(struct flow *f, const struct pgmqd_msg *m,
	bool missed); /* a message was claimed; missed: one that is found by a poll was missed */
void wakeup_looked(struct flow *f, int rows); /* a look came back */
void wakeup_close(struct flow *f);            /* the producers shall notify again */
void wakeup_no_room(struct flow *f);
void wakeup_release(struct flow *f);
void wakeup_up(struct flow *f);
void wakeup_down(struct flow *f);
void hold_ask(struct flow *f); /* pause.c: asks whether an operator has paused the queue; then the flow is ready */
void flow_show(struct flow *f);
void flow_reprobe(struct flow *f);
void flow_stale(struct flow *f); /* a statement says that the tables have changed */
bool flow_listener_hears(const struct stats *st);
void settle_send(struct flow *f);   /* settle.c: outcomes to the database */
void caution_begin(struct flow *f); /* quarantine.c: what may have crashed the process before this one runs alone */
void caution_claim_lost(struct flow *f);
unsigned caution_ask(const struct flow *f, unsigned n);
bool caution_small(const struct flow *f);
void caution_large(struct flow *f);
unsigned caution_room(const struct flow *f, unsigned room);
void caution_looked(struct flow *f, unsigned rows, unsigned asked);
struct pgmqd_msg *caution_next(struct flow *f);
void lease_arm(struct flow *f); /* lease.c: extends leases, ends what overran its deadline */
struct event *lease_event(struct flow *f);
struct event *lease_deadline_event(struct flow *f);
void lease_deadline_arm(struct flow *f);

#endif
