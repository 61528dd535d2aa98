/* flow.h: the message path of one queue: claim, deliver, settle. */
#ifndef FLOW_H
#define FLOW_H

#include "process/proc.h"
#include "process/stats.h"
#include "process/wakepipe.h"
#include "settings/settings.h"
#include "template/template.h"
#include "worker/message.h"
#include "worker/plugin.h"

#include <event2/event.h>
#include <stdbool.h>

struct flow;
struct queue;
struct transfers;

/* The plugin must be loaded; `slot` is this queue's. The flow frees the plugin and the queue. */
struct flow *flow_new(const struct proc_env *env, const struct queue_settings *qs, struct stats_slot *slot,
	struct plugin *plugin, struct event_base *base, struct queue *queue, struct transfers *transfers,
	struct template_set **templates);
void flow_free(struct flow *f);
bool flow_start(struct flow *f);                 /* runs the plugin's start(); false: it refused */
void flow_up(struct flow *f);                    /* the connection is up: probe, settle what is known, then claim */
void flow_down(struct flow *f);                  /* it is lost */
void flow_told(struct flow *f, wake_word news);  /* WAKE_OPERATED, WAKE_TAKEN, WAKE_FREE; else a notification */
void flow_hearing(struct flow *f, bool hearing); /* whether notifications are known to arrive */
void flow_tick(struct flow *f);                  /* something can be done: at the end of this round of the loop */
void flow_resume(struct flow *f);                /* a queue that pauses after a configuration error tries at once */
/* Claims nothing more; calls on_idle when all is settled. */
void flow_drain(struct flow *f, void (*on_idle)(void *arg), void *arg);
void flow_give_up(struct flow *f); /* the drain's time is over: cancels what runs and gives it back */
bool flow_is_idle(const struct flow *f);
unsigned flow_begun(const struct flow *f);    /* messages that were begun and are not stored yet */
unsigned flow_children(const struct flow *f); /* programs of the plugin that run */

/* An outcome from the plugin; false when it was refused (settled already, cancelled, stale). */
bool flow_settle(struct pgmqd_msg *m, enum msg_outcome outcome, int64_t delay_ms, char *reason);

#endif
