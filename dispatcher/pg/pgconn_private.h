/* pgconn_private.h: what pgconn.c and exchange.c share: the connection. */
#ifndef PGCONN_PRIVATE_H
#define PGCONN_PRIVATE_H

#include "pg/dial.h"
#include "pg/pgconn.h"
#include "pg/pulse.h"
#include "pg/session.h"
#include "pg/statement.h"

enum conn_state { CONN_IDLE, CONN_DIALING, CONN_CONNECTING, CONN_CHECKING, CONN_UP, CONN_WAITING };

struct pgconn {
	struct event_base *base;
	struct dial *dial;
	struct session session;
	bool pipeline, in_group;
	bool no_options;   /* a pooler refuses our settings in the startup packet */
	unsigned sessions; /* counts the connects */
	bool near;         /* the other end is on this machine */
	bool pooled;       /* a pooler is in between: sessions of the server are not ours */
	bool keeps_quiet;  /* nothing may be sent that the owner has not asked for */
	bool rechecking;   /* the server refused what it took before: is it still the primary, and the session ours? */
	int backend_pid;
	char *pooled_sql;
	const struct pgconn_events *events;
	void *arg;
	PGconn *pg;
	enum conn_state state;
	struct event *io, *timer, *reap;
	struct pulse *pulse; /* whether the server still answers, while the state is CONN_UP */
	short watching;
	unsigned failures;
	struct statement_list unsent, pending; /* pending: sent, in order, until the Sync of its group has come back */
	struct statement *current;             /* the pending one whose results come now */
	bool broken;                           /* lost inside a callback; cleaned up at the end of the tick */
	bool dispatching;                      /* inside callbacks: no recursion into reading */
	char *reason, *reasons;                /* reasons: of the places of this round that failed */
};

/* pgconn.c. pgconn_watch() waits for `what` on the socket. pgconn_break() frees `reason`; the connection is dropped at
 * the end of the tick. */
void pgconn_watch(struct pgconn *c, short what, bool anew);
void pgconn_break(struct pgconn *c, char *reason);
void pgconn_silent(struct pgconn *c, char *reason); /* the same, and other places come first */
void pgconn_ping(struct pgconn *c);                 /* asks for a sign of life */
void pgconn_recheck(struct pgconn *c);              /* asks again whether the server can be written to */
int64_t pgconn_answer_ms(const struct pgconn *c);   /* how long the answer to a statement may take */

/* exchange.c */
void exchange_flush(struct pgconn *c);
void exchange_send(struct pgconn *c);
void exchange_read(struct pgconn *c);

#endif
