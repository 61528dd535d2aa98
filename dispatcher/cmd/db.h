/* db.h: what the commands that talk to a database share: which database, the connection, statements, errors for people.
 */
#ifndef DBCOMMAND_H
#define DBCOMMAND_H

#include <libpq-fe.h>
#include <stdbool.h>

struct settings;

/* For getopt_long: every such command takes -c, -d, -e and -h. */
#define DBCOMMAND_SHORT "c:d:e:h"
#define DBCOMMAND_LONGS                                                                                                \
	{ "config", required_argument, NULL, 'c' }, { "env-file", required_argument, NULL, 'e' },                      \
		{ "database", required_argument, NULL, 'd' },                                                          \
	{                                                                                                              \
		"help", no_argument, NULL, 'h'                                                                         \
	}
#define DBCOMMAND_HELP                                                                                                 \
	"  -d, --database CONNINFO  the database (default: the settings file's with -c, else $DATABASE_URL, else "     \
	"PG*)\n"                                                                                                       \
	"  -c, --config FILE        the settings file\n"                                                               \
	"  -e, --env-file FILE      take what the environment lacks from KEY=VALUE lines\n"

struct dbcommand {
	const char *name; /* "pgmqd migrate": in front of messages, and the connection's application_name */
	const char *conf, *env_file, *database;
	struct settings *settings; /* NULL without -c */
	PGconn *conn;
};

/* Takes one of the options above; false when it is another one. */
bool dbcommand_option(struct dbcommand *d, int c, char *value);
/* The answer to an option that getopt refused. */
int dbcommand_bad_option(const struct dbcommand *d, int c, const char *word);

/* Each says what is wrong in one line. The first returns 1 and frees `error`, the second returns 2. */
int dbcommand_fail(const struct dbcommand *d, char *error);
int dbcommand_usage(const struct dbcommand *d, const char *problem);

/* Reads the files that the options name; false after telling what is wrong. */
bool dbcommand_load(struct dbcommand *d);
/* Connects to whatever server there is; d->conn tells how it went. */
void dbcommand_open(struct dbcommand *d);
/* Connects to a primary of a version that we know, in UTF-8; false after telling why not. */
bool dbcommand_connect(struct dbcommand *d);
void dbcommand_close(struct dbcommand *d);

/* Runs one statement. NULL after telling what failed; `what`, when there is one, says what was tried. */
PGresult *dbcommand_run(
	const struct dbcommand *d, const char *what, const char *sql, int nparams, const char *const *params);
bool dbcommand_run_plain(const struct dbcommand *d, const char *what, const char *sql);

/* The server's message in one line, without "ERROR:" before it; malloc'd. */
char *dbcommand_error(const PGconn *conn, const PGresult *res);

#endif
