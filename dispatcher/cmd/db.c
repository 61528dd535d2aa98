/* db.c: what the commands that talk to a database share: which database, the connection, statements, errors for people.
 *
 * These commands run for a person or a script and then end, so they wait for the server.
 */
#include "config.h"

#include "cmd/db.h"

#include "base/xalloc.h"
#include "pg/conninfo.h"
#include "pg/pgstart.h"
#include "pg/sqlstate.h"
#include "settings/env.h"
#include "settings/load.h"
#include "settings/settings.h"
#include "worker/plugin_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct cmd_option cmd_db_options[] = {
	CMD_OPTION("database", 'd', CMD_TEXT, struct cmd_db, database, "CONNINFO",
		"the database, as a connection string or URI (default: the one of the file of -c, else $DATABASE_URL,"
		" else the "
		"one of the usual settings file, else $PGHOST and so on)"),
	CMD_OPTION("config", 'c', CMD_TEXT, struct cmd_db, conf, "FILE",
		"the settings file (default without -d: $PGMQD_CONF, else " SETTINGS_USUAL_PATH ", if it can be read)"),
	CMD_OPTION("env-file", 'e', CMD_TEXT, struct cmd_db, env_file, "FILE",
		"set the variables of the NAME=value lines of this file that the environment does not have"),
	{ 0 },
};

int cmd_db_around(const struct command *c, void *request, int argc, char **argv)
{
	struct cmd_db *d = request;
	int status;

	snprintf(d->name, sizeof(d->name), "pgmqd %s", c->name);
	setvbuf(stdout, NULL, _IOLBF, 0);
	status = c->run(request, argc, argv);
	cmd_db_close(d);
	return status;
}

int cmd_db_fail(const struct cmd_db *d, char *error)
{
	fprintf(stderr, "%s: ", d->name);
	cmd_print(stderr, error);
	putc('\n', stderr);
	free(error);
	return 1;
}

char *cmd_db_error(const PGconn *conn, const PGresult *res)
{
	const char *primary = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;

	if (primary && state && strncmp(state, "HT", 2) == 0 &&
		strstr(primary, ": ")) /* a code for HTTP's clients is first */
		primary = strstr(primary, ": ") + 2;
	char *text = xstrdup(primary ? primary : PQerrorMessage(conn));
	size_t len = strlen(text);

	while (len && text[len - 1] == '\n')
		text[--len] = '\0';
	for (char *p = text; (p = strchr(p, '\n'));)
		*p = ' ';
	return text;
}

const char *cmd_who(const char *given)
{
	const char *sudo = getenv("SUDO_USER"), *user = getenv("USER");

	return given ? given : sudo && *sudo ? sudo : user && *user ? user : NULL;
}

/* The role that the command needs, for whom the server refuses it; malloc'd. */
static char *needed_role(const struct cmd_db *d, const char *error)
{
	bool owner_only = strcmp(d->name, "pgmqd migrate") == 0 || strcmp(d->name, "pgmqd connect") == 0 ||
	                  strcmp(d->name, "pgmqd init") == 0;
	PGresult *res = PQexec(d->conn,
		"SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(n.nspowner)), "
		"pg_catalog.quote_ident(current_user) FROM pg_catalog.pg_namespace n WHERE n.nspname "
		"OPERATOR(pg_catalog.=) 'pgmqd'");
	const char *owner = PQntuples(res) == 1 ? PQgetvalue(res, 0, 0) : "that owns schema pgmqd";
	const char *user = PQntuples(res) == 1 ? PQgetvalue(res, 0, 1) : PQuser(d->conn);
	char *hint;

	if ((strstr(error, " q_") || strstr(error, " a_")) && !owner_only)
		hint = xasprintf("the queue's tables belong to another role than schema pgmqd: as that one, SELECT "
				 "pgmqd.attach_queue('NAME') gives the rights");
	else if (owner_only)
		hint = xasprintf("it needs the role %s", owner);
	else
		hint = xasprintf("it needs the rights of %spgmqd_operator (GRANT pgmqd_operator TO %s), or the role %s",
			strcmp(d->name, "pgmqd status") == 0 ? "pgmqd_monitor or " : "", user, owner);
	PQclear(res);
	return hint;
}

PGresult *cmd_db_run(const struct cmd_db *d, const char *what, const char *sql, int nparams, const char *const *params)
{
	PGresult *res = nparams ? PQexecParams(d->conn, sql, nparams, NULL, params, NULL, NULL, 0)
	                        : PQexec(d->conn, sql);
	ExecStatusType status = PQresultStatus(res);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return res;
	char *error = cmd_db_error(d->conn, res);
	const char *hint = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;

	if (state && sqlstate_is_unmigrated(state) && strstr(sql, "pgmqd.") && strcmp(d->name, "pgmqd migrate") != 0)
		hint = "the schema is not that of this pgmqd: run pgmqd migrate";
	char *needed = state && !hint && strcmp(state, "42501") == 0 ? needed_role(d, error) : NULL;

	if (needed)
		hint = needed;
	cmd_db_fail(d,
		xasprintf("%s%s%s%s%s", what ? what : "", what ? ": " : "", error, hint ? "; " : "", hint ? hint : ""));
	free(needed);
	free(error);
	PQclear(res);
	return NULL;
}

bool cmd_db_run_plain(const struct cmd_db *d, const char *what, const char *sql)
{
	PGresult *res = cmd_db_run(d, what, sql, 0, NULL);

	PQclear(res);
	return res != NULL;
}

/* The settings file of the running daemon, where -c names none: that of PGMQD_CONF, else the usual one. NULL: there is
 * none that we may read. */
static const char *usual_settings(void)
{
	const char *named = getenv("PGMQD_CONF");
	const char *path = named && *named ? named : SETTINGS_USUAL_PATH;

	return access(path, R_OK) == 0 ? path : NULL;
}

bool cmd_db_load(struct cmd_db *d)
{
	char *error = d->env_file ? settings_env_file(d->env_file) : NULL;

	if (!error && !d->conf && !d->database) {
		d->conf = usual_settings();
		d->usual = true;
	}
	if (error)
		cmd_db_fail(d, error);
	else if (d->conf && !(d->settings = settings_load(d->conf, &error)))
		cmd_db_fail(d, error);
	else if (!d->database && !d->usual && d->settings && (error = check_database(d->settings)))
		cmd_db_fail(d, error);
	else
		return true;
	return false;
}

/* Whether the server can be written to; prints why not. */
static bool is_primary(const struct cmd_db *d)
{
	PGresult *res = cmd_db_run(d, "pg_is_in_recovery()", "SELECT pg_catalog.pg_is_in_recovery()", 0, NULL);

	if (!res)
		return false;
	bool standby = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	PQclear(res);
	if (standby)
		cmd_db_fail(d, xstrdup("the server is a standby, which cannot be written to; name the primary, or add "
				       "target_session_attrs=read-write to the connection string"));
	return !standby;
}

const char *cmd_db_conninfo(const struct cmd_db *d)
{
	const char *env = getenv("DATABASE_URL");

	if (d->database)
		return d->database;
	if (d->settings && !(d->usual && env && *env)) /* a file that was not named does not win over the environment */
		return d->settings->database;
	return env ? env : "";
}

char *cmd_db_open(struct cmd_db *d)
{
	char *error = conninfo_check(cmd_db_conninfo(d));

	if (!error)
		d->conn = pgstart_wait(cmd_db_conninfo(d), d->name, &error);
	return error;
}

bool cmd_db_connect(struct cmd_db *d)
{
	char *error = cmd_db_open(d);

	if (error) {
		cmd_db_fail(d, xasprintf("cannot connect to the database: %s", error));
		free(error);
		return false;
	}
	if (PQserverVersion(d->conn) < 140000) {
		cmd_db_fail(d, xasprintf("the server is PostgreSQL %d, and pgmqd needs 14 or later",
				       PQserverVersion(d->conn) / 10000));
		return false;
	}
	return is_primary(d);
}

bool cmd_db_ready(struct cmd_db *d)
{
	return cmd_db_load(d) && cmd_db_connect(d);
}

void cmd_db_close(struct cmd_db *d)
{
	PQfinish(d->conn);
	d->conn = NULL;
	if (d->settings)
		settings_free(d->settings);
	d->settings = NULL;
}
