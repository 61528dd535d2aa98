/* pgstart.h: how a connection to PostgreSQL is begun. */
#ifndef PGSTART_H
#define PGSTART_H

#include <libpq-fe.h>
#include <stdbool.h>

/* Starts an asynchronous connect. `with_options`: the session's guards go into the startup packet, which some poolers
 * refuse. */
PGconn *pgstart(const char *conninfo, const char *application_name, bool with_options);
char *pgstart_error(const PGconn *pg); /* the last error as one line, malloc'd; pg may be NULL */

#endif
