/* db.c: what the commands that talk to a database share: which database, the connection, statements, errors for people.
 *
 * These commands run for a person or a script and then end, so they wait for the server.
 */
#include "config.h"

#include "cmd/db.h"

#include "base/xalloc.h"
#include "settings/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool dbcommand_option(struct dbcommand *d, int c, char *value)
{
	if (c == 'c')
		d->conf = value;
	else if (c == 'd')
		d->database = value;
	else if (c == 'e')
		d->env_file = value;
	else
		return false;
	return true;
}

int dbcommand_fail(const struct dbcommand *d, char *error)
{
	fprintf(stderr, "%s: %s\n", d->name, error);
	free(error);
	return 1;
}

int dbcommand_usage(const struct dbcommand *d, const char *problem)
{
	fprintf(stderr, "%s: %s; see %s --help\n", d->name, problem, d->name);
	return 2;
}

int dbcommand_bad_option(const struct dbcommand *d, int c, const char *word)
{
	char *problem = xasprintf(c == ':' ? "%s needs a value" : "unknown option %s", word);
	int status = dbcommand_usage(d, problem);

	free(problem);
	return status;
}

char *dbcommand_error(const PGconn *conn, const PGresult *res)
{
	const char *primary = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	char *text = xstrdup(primary ? primary : PQerrorMessage(conn));
	size_t len = strlen(text);

	while (len && text[len - 1] == '\n')
		text[--len] = '\0';
	for (char *p = text; (p = strchr(p, '\n'));)
		*p = ' ';
	return text;
}

PGresult *dbcommand_run(
	const struct dbcommand *d, const char *what, const char *sql, int nparams, const char *const *params)
{
	PGresult *res = nparams ? PQexecParams(d->conn, sql, nparams, NULL, params, NULL, NULL, 0)
	                        : PQexec(d->conn, sql);
	ExecStatusType status = PQresultStatus(res);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return res;
	char *error = dbcommand_error(d->conn, res);
	const char *hint = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;
	dbcommand_fail(d,
		xasprintf("%s%s%s%s%s", what ? what : "", what ? ": " : "", error, hint ? "; " : "", hint ? hint : ""));
	free(error);
	PQclear(res);
	return NULL;
}

bool dbcommand_run_plain(const struct dbcommand *d, const char *what, const char *sql)
{
	PGresult *res = dbcommand_run(d, what, sql, 0, NULL);

	PQclear(res);
	return res != NULL;
}

bool dbcommand_load(struct dbcommand *d)
{
	char *error = NULL;

	if (d->env_file && (error = settings_env_file(d->env_file)))
		dbcommand_fail(d, error);
	else if (d->conf && !(d->settings = settings_load(d->conf, &error)))
		dbcommand_fail(d, error);
	else
		return true;
	return false;
}

/* Whether the server can be written to; tells it when not. */
static bool is_primary(const struct dbcommand *d)
{
	PGresult *res = dbcommand_run(d, "pg_is_in_recovery()", "SELECT pg_is_in_recovery()", 0, NULL);

	if (!res)
		return false;
	bool standby = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	PQclear(res);
	if (standby)
		dbcommand_fail(
			d, xstrdup("the server is a standby, which cannot be written to; name the primary, or add "
				   "target_session_attrs=read-write to the connection string"));
	return !standby;
}

void dbcommand_open(struct dbcommand *d)
{
	const char *conninfo = d->database ? d->database : d->settings ? d->settings->database : getenv("DATABASE_URL");
	const char *const keys[] = { "dbname", "client_encoding", "fallback_application_name", NULL };
	const char *const values[] = { conninfo ? conninfo : "", "UTF8", d->name, NULL };

	d->conn = PQconnectdbParams(keys, values, 1);
}

bool dbcommand_connect(struct dbcommand *d)
{
	dbcommand_open(d);
	if (PQstatus(d->conn) != CONNECTION_OK) {
		char *error = dbcommand_error(d->conn, NULL);
		dbcommand_fail(d, xasprintf("cannot connect to the database: %s", error));
		free(error);
		return false;
	}
	if (PQserverVersion(d->conn) < 140000) {
		dbcommand_fail(d, xasprintf("the server is PostgreSQL %d, and pgmqd needs 14 or later",
					  PQserverVersion(d->conn) / 10000));
		return false;
	}
	return is_primary(d);
}

void dbcommand_close(struct dbcommand *d)
{
	PQfinish(d->conn);
	d->conn = NULL;
	if (d->settings)
		settings_free(d->settings);
	d->settings = NULL;
}
