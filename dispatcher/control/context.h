/* context.h: what the parts of the control process share: its loop, its socket, its connection to the database. */
#ifndef CONTEXT_H
#define CONTEXT_H

#include "base/people.h"
#include "http/listen.h"
#include "http/request.h"
#include "process/proc.h"

#include <event2/event.h>
#include <stdint.h>

struct control_db;
struct history;
struct jobs_start;
struct jobs_watch_list;
struct mail;
struct schedules;

struct control {
	const struct proc_env *env;
	struct event_base *base;
	struct http_listen listen;
	struct control_db *db;
	struct people people;            /* that have a token */
	struct history *history;         /* for the status page */
	struct jobs_start *starts;       /* jobs that wait to be started */
	struct jobs_watch_list *watches; /* jobs that clients follow */
	struct schedules *schedules;     /* that run because an operator wants it */
	struct mail *mail;               /* events of mail services */
	int64_t beat_limit_ms;           /* a process that has sent no heartbeat for longer counts as hanging */
};

/* The control process that serves a request. */
static inline struct control *control_of(const struct http_request *req)
{
	return req->context;
}

#endif
