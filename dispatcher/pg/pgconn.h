/* pgconn.h: one PostgreSQL connection on the event loop: connect, reconnect with backoff, statements in order,
 * notifications. */
#ifndef PGCONN_H
#define PGCONN_H

#include "pg/pgresult.h"

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdbool.h>

#define PGCONN_LOCK_TIMEOUT_S 10 /* so long a statement waits for a lock, unless it says otherwise */

struct pgconn;

struct pgconn_events {
	void (*up)(void *arg);                         /* connected, not a standby; statements may be sent */
	void (*down)(void *arg, const char *reason);   /* was up, and all statements were answered with an error */
	void (*failed)(void *arg, const char *reason); /* a connection attempt failed; tried again by itself */
	void (*notify)(void *arg, const char *channel, const char *payload, int pid);
};

/* With `pipeline` statements go out without waiting for the answers of earlier ones; a connection that LISTENs must not
 * use it, since notifications would wait between results. Nothing happens before pgconn_start(). */
struct pgconn *pgconn_new(struct event_base *base, const char *conninfo, const char *application_name, bool pipeline,
	const struct pgconn_events *events, void *arg);
void pgconn_set_statement_timeout(struct pgconn *c, unsigned seconds); /* before pgconn_start(); 60 if not called */
void pgconn_start(struct pgconn *c);
/* Closes it, and answers all statements under way as lost; only pgconn_free() may follow. */
void pgconn_hang_up(struct pgconn *c);
void pgconn_free(struct pgconn *c); /* not from a callback of its own; statements under way get no callback */
void pgconn_restart(struct pgconn *c, const char *reason); /* drops the connection and makes a new one */

/* As long as it is to keep quiet, it sends no pings: whether the server answers is asked by a second connection. */
void pgconn_keep_quiet(struct pgconn *c, bool quiet);

bool pgconn_is_up(const struct pgconn *c);
unsigned pgconn_session(const struct pgconn *c); /* another number after each connect */
/* Whether a pooler is in between (the server process is not the one that greeted us): then nothing of a session may be
 * relied upon or left behind, no prepared statement, no session lock, no setting. */
bool pgconn_is_pooled(const struct pgconn *c);
/* Whether its other end is on this machine: there the server's process and ours take turns on the same processors. */
bool pgconn_is_near(const struct pgconn *c);
int pgconn_backend_pid(const struct pgconn *c); /* of the server process that answered first */

/* Sends one statement, committed by itself; text parameters, copied. `name` non-NULL: a statement prepared on this
 * connection (sql is ignored). The callback always comes, after this has returned, unless the connection object is
 * freed; cb may be NULL. A statement that begins or ends a transaction fails with 2D000. */
void pgconn_query(struct pgconn *c, const char *name, const char *sql, int nparams, const char *const *params,
	pgconn_result_cb cb, void *arg);
void pgconn_prepare(struct pgconn *c, const char *name, const char *sql, pgconn_result_cb cb, void *arg);

/* Statements between these two are one transaction (pipelined connections only): all commit, or none does, and every
 * callback of the group learns of it. */
void pgconn_group_begin(struct pgconn *c);
void pgconn_group_end(struct pgconn *c);

#endif
