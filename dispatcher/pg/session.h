/* session.h: the settings of every session of ours, also where the connection string, role or database has others. */
#ifndef SESSION_H
#define SESSION_H

#include <libpq-fe.h>
#include <stdbool.h>

/* The settings that differ between connections. */
struct session {
	unsigned statement_s; /* statement_timeout in seconds; 0: none */
	unsigned lock_s;      /* lock_timeout in seconds; 0: none */
};

/* The answer to the first statement of a connection. */
struct session_found {
	bool standby;
	bool pooled;     /* another backend answered than the one that greeted us: a pooler is in between */
	int backend_pid; /* that answered */
};

/* The settings as command line options of the server, behind those that the user wants; malloc'd. */
char *session_options(const struct session *s, const char *users);

/* The first statement on a connection: sets what the options did not, for the session or, behind a pooler, for its own
 * transaction alone. malloc'd. */
char *session_first_sql(const struct session *s, const PGconn *pg);
/* Reads its answer. NULL, or why the session is of no use; malloc'd. */
char *session_first_answer(const PGresult *res, const PGconn *pg, struct session_found *found);

/* Two statements in front of each transaction behind a pooler, where no setting stays. The first begins no transaction:
 * it changes the one that the statements up to the next Sync are. The second is malloc'd. */
#define SESSION_POOLED_SQL "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE, NOT DEFERRABLE"
char *session_pooled_sql(const struct session *s);

#endif
