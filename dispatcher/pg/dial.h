/* dial.h: the places that a connection string names, tried one after the other, each for a limited time. */
#ifndef DIAL_H
#define DIAL_H

#include "pg/session.h"

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct dial;

/* The next attempt. `pg`: a connect that has begun, or NULL when this place failed (`error`). */
typedef void (*dial_cb)(void *arg, PGconn *pg, const char *error);

struct dial *dial_new(struct event_base *base, const char *conninfo, const char *application_name);
void dial_free(struct dial *d);

/* Reads the connection string anew, and begins with its first place. */
void dial_restart(struct dial *d);
/* Goes to the next place; false when there is none left. The callback comes later, once. `session` NULL: without our
 * settings in the startup packet. */
bool dial_next(struct dial *d, const struct session *session, dial_cb cb, void *arg);
bool dial_again(struct dial *d, const struct session *session, dial_cb cb, void *arg); /* the same place once more */
void dial_cancel(struct dial *d); /* the callback does not come any more */
/* How long the place may take until a session of it is known to be of use. */
int64_t dial_timeout_ms(const struct dial *d);
/* Where it is, for error messages; NULL when there is only one place. */
const char *dial_where(const struct dial *d);
bool dial_has_others(const struct dial *d); /* there is more than one place */
/* Another connection to the place of the last attempt; libpq's caller looks at PQstatus(). */
PGconn *dial_beside(const struct dial *d, const struct session *session);
void dial_avoid(struct dial *d);     /* the place of the last attempt comes last in the next round */
void dial_succeeded(struct dial *d); /* the next round is a first one again */

#endif
