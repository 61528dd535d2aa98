/* control.h: what the parts of the control process share: its loop, the socket it listens on, its connection. */
#ifndef CONTROL_H
#define CONTROL_H

#include "http/listen.h"
#include "process/proc.h"

#include <event2/event.h>
#include <stdint.h>

struct history;
struct httpdb;
struct httpstart;
struct httpwatch_list;

struct control {
	const struct proc_env *env;
	struct event_base *base;
	struct httplisten listen;
	struct httpdb *db;
	struct history *history;        /* for the status page */
	struct httpstart *starts;       /* of jobs */
	struct httpwatch_list *watches; /* of jobs */
	int64_t beat_limit_ms;          /* a process that has not beaten for longer counts as hanging */
};

#endif
