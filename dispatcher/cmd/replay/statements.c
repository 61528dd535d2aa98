/* statements.c: statements of a plugin that is replayed. One transaction holds all of them and is rolled back. It is
 * read only, so that not even a row that is rolled back is written: no locks in the way of the application, no
 * sequence that moves on, no dead rows. With --writes, for a copy of the database, statements write and are rolled
 * back.
 */
#include "config.h"

#include "cmd/replay/statements.h"

#include "base/xalloc.h"
#include "pg/pgstart.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define READ_ONLY "25006"
#define NO_TRANSACTIONS "2D000"

struct statements {
	PGconn *conn;
	bool writes, open; /* open: the message at hand has had a statement */
};

/* Runs a statement of ours. */
static bool run(struct statements *s, const char *sql)
{
	PGresult *res = PQexec(s->conn, sql);
	bool ok = PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK;

	PQclear(res);
	return ok;
}

/* Begins the transaction in which everything happens. */
static bool begin(struct statements *s, const char *snapshot)
{
	char *sql = xasprintf("BEGIN ISOLATION LEVEL REPEATABLE READ, %s", s->writes ? "READ WRITE" : "READ ONLY");
	bool ok = run(s, sql);

	free(sql);
	if (ok && snapshot) {
		char *quoted = PQescapeLiteral(s->conn, snapshot, strlen(snapshot));

		sql = xasprintf("SET TRANSACTION SNAPSHOT %s", quoted);
		PQfreemem(quoted);
		ok = run(s, sql);
		free(sql);
	}
	return ok;
}

struct statements *statements_open(const struct replay_way *way, char **error)
{
	struct statements *s = xcalloc(1, sizeof(*s));

	s->writes = way->writes;
	s->conn = pgstart_wait(way->conninfo, "pgmqd replay", error);
	if (!s->conn) {
		free(s);
		return NULL;
	}
	if (run(s, "SET statement_timeout = '30s'") && run(s, "SET lock_timeout = '2s'") &&
		(s->writes || run(s, "SET default_transaction_read_only = on")) && begin(s, way->snapshot))
		return s;
	*error = xasprintf("the transaction for statements does not begin: %s", PQerrorMessage(s->conn));
	statements_close(s);
	return NULL;
}

void statements_close(struct statements *s)
{
	if (!s)
		return;
	PQfinish(s->conn);
	free(s);
}

/* Whether a statement is about transactions, which are ours here. */
static bool is_control(const char *sql)
{
	static const char *const words[] = { "begin", "start", "commit", "end", "rollback", "abort", "savepoint",
		"release", "prepare", "set", "reset", "discard" };

	for (;;) {
		sql += strspn(sql, " \t\r\n;");
		if (strncmp(sql, "--", 2) == 0) {
			sql += strcspn(sql, "\n");
		} else if (strncmp(sql, "/*", 2) == 0) {
			const char *end = strstr(sql, "*/");

			sql = end ? end + 2 : sql + strlen(sql);
		} else {
			break;
		}
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (strncasecmp(sql, words[i], strlen(words[i])) == 0 &&
			!isalnum((unsigned char)sql[strlen(words[i])]) && sql[strlen(words[i])] != '_')
			return true;
	return false;
}

/* The server's error. */
static void take_error(struct statements *s, const PGresult *res, struct answer *reply)
{
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY),
		   *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	reply->error = xoneline(text ? text : PQerrorMessage(s->conn));
	snprintf(reply->sqlstate, sizeof(reply->sqlstate), "%s", state ? state : "");
}

bool statements_run(struct statements *s, const char *sql, int nparams, const char *const *params, struct answer *reply)
{
	ExecStatusType status;
	PGresult *res;

	if (is_control(sql)) {
		reply->error = xstrdup("a replay runs no statements about transactions and settings of the session");
		strcpy(reply->sqlstate, NO_TRANSACTIONS);
		return true;
	}
	if (!s->open)
		s->open = run(s, "SAVEPOINT message");
	run(s, "SAVEPOINT statement");
	res = PQexecParams(s->conn, sql, nparams, NULL, params, NULL, NULL, 0);
	status = PQresultStatus(res);
	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
		reply->res = res;
		strcpy(reply->sqlstate, "00000");
		run(s, "RELEASE SAVEPOINT statement");
		return true;
	}
	take_error(s, res, reply);
	PQclear(res);
	run(s, "ROLLBACK TO SAVEPOINT statement");
	run(s, "RELEASE SAVEPOINT statement");
	return s->writes || strcmp(reply->sqlstate, READ_ONLY) != 0;
}

void statements_undo(struct statements *s)
{
	if (!s->open)
		return;
	run(s, "ROLLBACK TO SAVEPOINT message");
	run(s, "RELEASE SAVEPOINT message");
	s->open = false;
}
