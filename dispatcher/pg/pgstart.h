/* pgstart.h: how a connection to PostgreSQL is begun. */
#ifndef PGSTART_H
#define PGSTART_H

#include "pg/session.h"

#include <libpq-fe.h>
#include <stdbool.h>

/* One place that a connection string names; a NULL means what the string or libpq's default says. */
struct pgplace {
	char *host, *hostaddr, *port;
};

/* The result of the connection string, the environment and the service file; malloc'd texts. */
struct pgtarget {
	char *host, *hostaddr, *port; /* lists with commas, as given */
	char *options;
	char *load_balance;
	unsigned connect_timeout_s; /* 0: not given */
};

void pgtarget_read(struct pgtarget *t, const char *conninfo);
void pgtarget_free(struct pgtarget *t);

/* Starts an asynchronous connect to one place. `session` NULL: without its settings in the startup packet, which some
 * poolers refuse. */
PGconn *pgstart(const char *conninfo, const char *application_name, const struct pgtarget *target,
	const struct pgplace *place, const struct session *session);

/* Connects and waits, for commands; tries each place for at most ten seconds. The session has our settings, or *error
 * says what is wrong (malloc'd). PQfinish() in any case. */
PGconn *pgstart_wait(const char *conninfo, const char *application_name, char **error);

char *pgstart_error(const PGconn *pg);           /* the last error as one line, malloc'd; pg may be NULL */
bool pgstart_options_refused(const char *error); /* whether a pooler refused the settings */

#endif
