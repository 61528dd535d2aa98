/* jobs_watch.h: jobs that clients follow: their state after each change, and every few seconds. */
#ifndef JOBS_WATCH_H
#define JOBS_WATCH_H

#include "control/context.h"
#include "pg/pgconn.h"

#include <stdbool.h>
#include <stdint.h>

struct jobs_watch_list;
struct jobs_watch;

/* How a watched job stands. */
struct jobs_watch_state {
	int64_t version;        /* grows with each change */
	bool finished, waiting; /* waiting: for the next try of what is missing */
	bool completed;
	int attempts, missing;
	const char *info; /* the status, as JSON text */
};

/* Called with the state, first as soon as it is known, then after changes and every few seconds; or with NULL and the
 * statement's error. It may remove the watch. */
typedef void (*jobs_watch_cb)(void *arg, const struct jobs_watch_state *state, const struct pgresult *error);

struct jobs_watch_list *jobs_watch_list_new(struct control *c); /* connects with the first watch */
void jobs_watch_list_free(struct jobs_watch_list *l);

/* Follows a job for a client (http_request_peer). NULL when there are too many, in all or of that client. */
struct jobs_watch *jobs_watch_add(
	struct control *c, const char *client, const char *type, const char *id, jobs_watch_cb cb, void *arg);
void jobs_watch_remove(struct jobs_watch *w);

#endif
