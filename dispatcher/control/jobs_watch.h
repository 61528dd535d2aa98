/* jobs_watch.h: jobs that somebody waits for: told of each change by notification, and now and then without one. */
#ifndef HTTPWATCH_H
#define HTTPWATCH_H

#include "control/control.h"
#include "pg/pgconn.h"

#include <stdbool.h>
#include <stdint.h>

struct httpwatch_list;
struct httpwatch;

/* How a watched job stands. */
struct httpwatch_state {
	int64_t version;        /* grows with each change */
	bool finished, waiting; /* waiting: for the next try of what is missing */
	bool completed;
	int attempts, missing;
	const char *info; /* the status, as JSON text */
};

/* Called with the state, first as soon as it is known, then after changes and every few seconds; or with NULL and the
 * statement's error. It may remove the watch. */
typedef void (*httpwatch_cb)(void *arg, const struct httpwatch_state *state, const struct pgresult *error);

struct httpwatch_list *httpwatch_list_new(struct control *c); /* connects with the first watch */
void httpwatch_list_free(struct httpwatch_list *l);

/* NULL when there are too many. */
struct httpwatch *httpwatch_add(struct control *c, const char *type, const char *id, httpwatch_cb cb, void *arg);
void httpwatch_remove(struct httpwatch *w);

#endif
