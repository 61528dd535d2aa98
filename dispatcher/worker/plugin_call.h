/* plugin_call.h: what a plugin holds as struct pgmqd_worker, and the doors through which the host calls it. */
#ifndef PLUGIN_CALL_H
#define PLUGIN_CALL_H

#include "base/log.h"
#include "pgmqd-plugin.h"
#include "template/template.h"
#include "worker/message.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct flow;
struct plugin;
struct queue;
struct queue_settings;
struct settings;
struct stats_slot;
struct transfers;

/* One queue in this process. Plugins know it by its name alone; the parts of the queue's message path share it. */
struct pgmqd_worker {
	struct flow *flow;
	const struct settings *settings;
	const struct queue_settings *qs;
	struct stats *stats;     /* of all processes; NULL: there are no others */
	struct stats_slot *slot; /* the queue's */
	struct plugin *plugin;
	struct messages *messages;
	struct queue *queue;
	struct event_base *base;
	struct transfers *transfers;     /* the process's curl multi */
	bool up;                         /* connected, and the queue's tables are known: statements may be sent */
	struct template_set **templates; /* loaded at the first use */
	const struct log_context *log;
	unsigned timers, handles, children; /* that the plugin has and has to give back before its stop() returns */
	int64_t worst_us, warned_ms;        /* longest callback so far; when a long one was last reported */
};

/* Where a plugin's check() tells its findings: one JSON object a line, {"status", "seen", "remedy"}. */
struct pgmqd_check {
	FILE *out;
};

/* The worker whose plugin is being called, NULL between calls; and a number that differs in each call out of the loop.
 */
extern struct pgmqd_worker *plugin_call_current;
extern uint64_t plugin_call_serial;

/* Round every call into a plugin: sets the log's context and measures how long the loop stands still meanwhile. */
struct plugin_call {
	struct log_context former;
	struct pgmqd_worker *outer;
	int64_t began_us;
};
struct plugin_call plugin_call_begin(struct pgmqd_worker *w, int64_t msg_id);
struct plugin_call plugin_call_begin_msg(const struct pgmqd_msg *m); /* with the message's number and trace */
void plugin_call_end(struct plugin_call c);
void plugin_call_reload(struct pgmqd_worker *w);

/* The plugin's callbacks; cancel() ends the resources of the message first. */
bool plugin_call_start(struct pgmqd_worker *w); /* false: it refused */
void plugin_call_deliver(struct pgmqd_msg *m);
void plugin_call_deliver_batch(struct pgmqd_worker *w, struct pgmqd_msg *const *msgs, size_t n);
void plugin_call_cancel(struct pgmqd_msg *m);
void plugin_call_stop(struct pgmqd_worker *w);

/* Set the log's context alone and return the former one. */
struct log_context plugin_call_enter(const struct pgmqd_worker *w, int64_t msg_id);
struct log_context plugin_call_enter_msg(const struct pgmqd_msg *m);
void plugin_call_leave(struct log_context former);

/* A plugin has broken its contract: counted, and reported in one line that names the plugin. `w` may be NULL. */
void plugin_call_misuse(struct pgmqd_worker *w, int64_t msg_id, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
extern unsigned plugin_call_misuses;

/* Collects the programs that a plugin has ended. Set by the first start of a program, so that other programs need not
 * link that part. */
extern void (*plugin_call_reap)(struct pgmqd_worker *w);

/* Reports what the plugin still holds after its stop(). */
void plugin_call_check_left(struct pgmqd_worker *w);

/* The templates of this process; NULL after a log line when they cannot be loaded. `error` is malloc'd. */
struct template_set *plugin_call_templates(struct pgmqd_worker *w, char **error);

#endif
