/* host.h: what a plugin holds as struct pgmqd_worker, and the doors through which the host calls it. */
#ifndef HOST_H
#define HOST_H

#include "log.h"
#include "pgmqd-plugin.h"
#include "template.h"

#include <event2/event.h>
#include <stdint.h>

struct flow;
struct http;
struct pgconn;

struct pgmqd_worker {
	struct flow *flow;
	struct event_base *base;
	struct http *http;   /* the process's curl multi */
	struct pgconn *pg;
	struct template_set **templates; /* loaded at the first use */
	const char *template_dir, *default_lang;
	const struct log_context *log;
};

/* Round every call into a plugin: sets the log's context and gives the former one back. */
struct log_context host_enter(const struct pgmqd_worker *w, int64_t msg_id);
void host_leave(struct log_context former);

/* The templates of this process; NULL after a log line when they cannot be loaded. `error` is malloc'd. */
struct template_set *host_templates(struct pgmqd_worker *w, char **error);

#endif
