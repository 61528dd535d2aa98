/* plugin_call.h: what a plugin holds as struct pgmqd_worker, and the doors through which the host calls it. */
#ifndef HOST_H
#define HOST_H

#include "base/log.h"
#include "pgmqd-plugin.h"
#include "template/template.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct flow;
struct http;

struct pgmqd_worker {
	struct flow *flow;
	struct event_base *base;
	struct http *http;               /* the process's curl multi */
	struct template_set **templates; /* loaded at the first use */
	const char *template_dir, *default_lang;
	const struct log_context *log;
	unsigned timers, transfers, children; /* that the plugin has and has to give back before its stop() returns */
	int64_t worst_us, warned_ms;          /* longest callback so far; when a long one was last told of */
};

/* Where a plugin's check() tells its findings: one JSON object a line, {"status", "seen", "remedy"}. */
struct pgmqd_check {
	FILE *out;
};

/* The worker whose plugin is being called, NULL between calls; and a number that is another one in each call out of the
 * loop. */
extern struct pgmqd_worker *host_current;
extern uint64_t host_serial;

/* Round every call into a plugin: sets the log's context and measures how long the loop stands still meanwhile. */
struct host_call {
	struct log_context former;
	struct pgmqd_worker *outer;
	int64_t began_us;
};
struct host_call host_call(struct pgmqd_worker *w, int64_t msg_id);
void host_return(struct host_call c);

/* The same, with the message's number and trace. */
struct pgmqd_msg;
struct host_call host_call_msg(const struct pgmqd_msg *m);
struct log_context host_enter_msg(const struct pgmqd_msg *m);

/* Microseconds of a clock that never jumps. */

/* Sets the log's context alone and gives the former one back. */
struct log_context host_enter(const struct pgmqd_worker *w, int64_t msg_id);
void host_leave(struct log_context former);

/* A plugin has broken its contract: counted, and told in one line that names the plugin. `w` may be NULL. */
void host_misuse(struct pgmqd_worker *w, int64_t msg_id, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
extern unsigned host_misuses;

/* Collects the programs that a plugin has ended; set when the first one is started, so that only who starts some links
 * it. */
extern void (*host_reap)(struct pgmqd_worker *w);

/* What the plugin still holds after its stop(). */
void host_check_left(struct pgmqd_worker *w);

/* The templates of this process; NULL after a log line when they cannot be loaded. `error` is malloc'd. */
struct template_set *host_templates(struct pgmqd_worker *w, char **error);

#endif
