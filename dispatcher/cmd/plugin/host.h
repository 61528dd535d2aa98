/* host.h: runs a plugin on messages that do not come from a queue: its own loop, the daemon's message path. */
#ifndef HOST_H
#define HOST_H

#include "cmd/plugin/queue_file.h"
#include "settings/settings.h"

#include <event2/event.h>
#include <stdbool.h>

struct flow;
struct plugin;
struct stats;
struct template_set;
struct transfers;

struct host {
	struct event_base *base;
	struct transfers *transfers;
	struct flow *flow;
	struct stats *stats;
	struct template_set *templates;
	struct event *again;
	bool skip_time;   /* what only a timer waits for happens at once */
	bool own_sockets; /* both ends of all sockets are this process's: what is not there now will not come */
	bool idle;        /* everything is settled */
};

/* Takes a plugin that is loaded, and the messages that `source` has. */
void host_open(struct host *h, struct settings *s, struct queue_settings *q, struct plugin *p,
	const struct queue_file_source *source, void *arg);
bool host_start(struct host *h);  /* false: the plugin's start() refused */
void host_run(struct host *h);    /* until host_finish() has settled everything */
void host_again(struct host *h);  /* there are messages to deliver once more */
void host_finish(struct host *h); /* there are none to come */
void host_close(struct host *h);

struct cJSON;

/* The outcome that a plugin asked for, by name, and as an object. */
const char *host_outcome_name(const struct pgmqd_msg *m);
struct cJSON *host_outcome(const struct pgmqd_msg *m);

#endif
