/* db.h: what the commands that talk to a database share: which database, the connection, statements, errors for people.
 */
#ifndef CMD_DB_H
#define CMD_DB_H

#include "cmd/cmd.h"

#include <libpq-fe.h>
#include <stdbool.h>

struct settings;

/* In the description of a command: it takes -d, -c and -e, and its request begins with a struct cmd_db. */
#define CMD_DB .shared = cmd_db_options, .around = cmd_db_around

struct cmd_db {
	char name[40]; /* "pgmqd migrate": in front of messages, and the connection's application_name */
	const char *conf, *env_file, *database;
	struct settings *settings; /* NULL: none was read */
	bool usual;                /* they are not of a file that -c names */
	PGconn *conn;
};

extern const struct cmd_option cmd_db_options[];

/* Runs a command: names its request before, and closes the connection afterwards. */
int cmd_db_around(const struct command *c, void *request, int argc, char **argv);

/* Prints what went wrong in one line; frees `error` and returns 1. */
int cmd_db_fail(const struct cmd_db *d, char *error);

/* Reads the settings and connects: most commands begin with it. False after printing what is wrong. */
bool cmd_db_ready(struct cmd_db *d);
/* Reads the files that the options name; false after printing what is wrong. */
bool cmd_db_load(struct cmd_db *d);
/* The connection string: of the command line, the settings file or the environment; "" leaves it to libpq. */
const char *cmd_db_conninfo(const struct cmd_db *d);
/* Connects to whatever server there is. NULL, or what is wrong with the session; malloc'd. */
char *cmd_db_open(struct cmd_db *d);
/* Connects to a primary of a version that we know, in UTF-8; false after printing why not. */
bool cmd_db_connect(struct cmd_db *d);
void cmd_db_close(struct cmd_db *d);

/* Runs one statement. NULL after printing what failed; `what`, when there is one, says what was tried. */
PGresult *cmd_db_run(const struct cmd_db *d, const char *what, const char *sql, int nparams, const char *const *params);
bool cmd_db_run_plain(const struct cmd_db *d, const char *what, const char *sql);

/* The operator: the name given, else the one of $SUDO_USER or $USER; NULL: the database takes its own user's. */
const char *cmd_who(const char *given);
#define CMD_BY(field)                                                                                                  \
	CMD_OPTION("by", 0, CMD_TEXT, struct request, field, "NAME", "who does it (default: $SUDO_USER, else $USER)")

/* The server's message in one line, without "ERROR:" before it; malloc'd. */
char *cmd_db_error(const PGconn *conn, const PGresult *res);

#endif
