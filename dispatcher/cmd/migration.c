/* migration.c: one step of a migration: a transaction that is kept whole or not at all, and that never waits for a lock
 * with the application's traffic behind it. */
#include "config.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "cmd/migration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRY_AGAIN_US 300000

/* A lock on a table of ours keeps a migration alone in its database: any role could take an advisory lock. */
#define BEGIN                                                                                                          \
	"BEGIN; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = '100ms';"                        \
	" LOCK TABLE pgmqd.schema_version IN SHARE ROW EXCLUSIVE MODE"

/* Prints the server's notices, but not that it skips what is there already: so the files are meant. */
static void print_notice(void *arg, const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	(void)arg;
	size_t len = text ? strlen(text) : 0;
	if (len > 10 && strcmp(text + len - 10, ", skipping") == 0)
		return;
	printf("  %s: ", severity ? severity : "NOTICE");
	cmd_print(stdout, text ? text : "");
	putchar('\n');
}

bool migration_open(struct cmd_db *db)
{
	if (!cmd_db_connect(db))
		return false;
	PQsetNoticeReceiver(db->conn, print_notice, NULL);
	/* A lock on a busy queue or table must not be waited for with everybody else behind us in the line. */
	return cmd_db_run_plain(db, "settings",
		"SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '100ms';"
		" SET standard_conforming_strings = on; SET client_min_messages = notice; SET pgmqd.migrating = 'on'");
}

/* Sessions that hold locks on the tables that we work on, the oldest first. */
static const char holders_sql[] =
	"SELECT string_agg(who, ', ') FROM (SELECT format('pid %s (%s%s, %s, for %s s)', a.pid, a.usename, ', ' || "
	"nullif("
	"a.application_name, ''), a.state, floor(extract(epoch FROM clock_timestamp() - a.xact_start))) AS who"
	" FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND EXISTS (SELECT"
	" FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE l.pid = a.pid AND l.granted AND l.database ="
	" (SELECT oid FROM pg_database WHERE datname = current_database()) AND c.relnamespace IN (SELECT oid FROM"
	" pg_namespace WHERE nspname IN ('pgmq', 'pgmqd', 'public', 'cron'))) ORDER BY a.xact_start LIMIT 3) h";

/* The sessions that may be in our way, as text; malloc'd. */
static char *migration_holders(const struct migration *m)
{
	PGresult *res = PQexec(m->db->conn, holders_sql);
	char *text = PQresultStatus(res) == PGRES_TUPLES_OK && !PQgetisnull(res, 0, 0) ? xstrdup(PQgetvalue(res, 0, 0))
	                                                                               : xstrdup("another session");

	PQclear(res);
	return text;
}

/* Whether an error only says that somebody else is at work: a lock, a deadlock; while the first table is made, also
 * that somebody else makes it. */
static bool error_is_busy(const struct migration *m, const PGresult *res)
{
	static const char *const states[] = { "55P03", "40P01", "40001", "23505", "42P06", "42P07" };
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	for (size_t i = 0; state && i < (m->first ? 6 : 3); i++)
		if (strcmp(state, states[i]) == 0)
			return true;
	return false;
}

/* Ends a step that failed. True when it is worth another try; else the reason has been printed. */
static bool migration_again(struct migration *m, const char *what)
{
	if (PQstatus(m->db->conn) == CONNECTION_OK)
		PQclear(PQexec(m->db->conn, "ROLLBACK"));
	if (!m->busy)
		return false;
	char *holders = migration_holders(m);
	bool again = clock_monotonic_ms() < m->until_ms;
	if (!again)
		cmd_db_fail(m->db, xasprintf("%s: the locks are held by %s; nothing of it was kept. Try again later, "
					     "or end that session",
					   what, holders));
	else if (!m->told)
		printf("%s: waiting for a lock that is held by %s\n", what, holders);
	m->told = true;
	free(holders);
	if (again)
		usleep(TRY_AGAIN_US);
	return again;
}

/* Tells where and why a file failed. */
static void print_file_error(const struct cmd_db *db, const struct sql_file *f, const PGresult *res, unsigned statement)
{
	static const struct {
		int field;
		const char *name;
	} more[] = { { PG_DIAG_MESSAGE_DETAIL, "detail" }, { PG_DIAG_MESSAGE_HINT, "hint" },
		{ PG_DIAG_CONTEXT, "context" } };
	char *error = cmd_db_error(db->conn, res);
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	cmd_db_fail(db, xasprintf("%s:%u: %s (SQLSTATE %s)", f->path, sql_error_line(f->text, res, statement), error,
				state ? state : "unknown"));
	free(error);
	for (size_t i = 0; i < sizeof(more) / sizeof(*more); i++)
		if (PQresultErrorField(res, more[i].field)) {
			fprintf(stderr, "  %s: ", more[i].name);
			cmd_print(stderr, PQresultErrorField(res, more[i].field));
			fputc('\n', stderr);
		}
	fprintf(stderr, "  nothing of this file was kept; the files before it stay applied\n");
}

/* Runs statements inside the open transaction; `f` is the file that they are of, or NULL. */
static bool migration_run(struct migration *m, const char *what, const char *text, const struct sql_file *f)
{
	const struct cmd_db *db = m->db;
	unsigned statement = 0;
	bool good = PQsendQuery(db->conn, text) == 1;
	PGresult *res;

	if (!good) {
		char *error = cmd_db_error(db->conn, NULL);
		cmd_db_fail(db, xasprintf("%s: %s", what, error));
		free(error);
	}
	for (; (res = PQgetResult(db->conn)); PQclear(res), statement++) {
		ExecStatusType status = PQresultStatus(res);

		if (!good || status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY)
			continue;
		good = false;
		m->busy = error_is_busy(m, res);
		if (!m->busy && f) {
			print_file_error(db, f, res, statement);
		} else if (!m->busy) {
			char *error = cmd_db_error(db->conn, res);
			cmd_db_fail(db, xasprintf("%s: %s", what, error));
			free(error);
		}
	}
	return good && PQstatus(db->conn) == CONNECTION_OK;
}

bool migration_prepare(struct migration *m)
{
	static const char sql[] =
		"DO $$ BEGIN"
		" IF to_regclass('pgmqd.schema_version') IS NULL THEN CREATE SCHEMA IF NOT EXISTS pgmqd;"
		" CREATE TABLE pgmqd.schema_version (file text PRIMARY KEY, checksum text NOT NULL,"
		" applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), version text); END IF;"
		" IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'pgmqd.schema_version'::regclass AND "
		"attname ="
		" 'version') THEN ALTER TABLE pgmqd.schema_version ADD COLUMN version text; END IF; END $$";
	bool again = true;

	m->first = true;
	do {
		m->busy = false;
		if (cmd_db_run_plain(m->db, "schema pgmqd",
			    "BEGIN; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = '100ms'") &&
			migration_run(m, "schema pgmqd", sql, NULL))
			break;
	} while ((again = migration_again(m, "schema pgmqd")));
	m->first = false;
	return again && cmd_db_run_plain(m->db, "schema pgmqd", "COMMIT");
}

/* Whether the file has come in by another migration in the meantime. */
static bool migration_is_applied(const struct migration *m, const struct sql_file *f)
{
	const char *params[] = { f->name, f->checksum };
	PGresult *res = f->missing ? NULL
	                           : cmd_db_run(m->db, f->name,
					     "SELECT FROM pgmqd.schema_version WHERE file = $1 AND checksum = $2", 2,
					     params);
	bool applied = res && PQntuples(res) == 1;

	PQclear(res);
	return applied;
}

/* Records that the file was applied. */
static bool migration_record(const struct migration *m, const struct sql_file *f, const char *version)
{
	const char *params[] = { f->name, f->checksum, version };
	PGresult *res = cmd_db_run(m->db, f->name,
		"INSERT INTO pgmqd.schema_version AS v (file, checksum, version) VALUES ($1, $2, $3)"
		" ON CONFLICT (file) DO UPDATE SET checksum = excluded.checksum, version = excluded.version,"
		" applied_at = pg_catalog.clock_timestamp()",
		3, params);

	PQclear(res);
	return res != NULL;
}

bool migration_apply(struct migration *m, const struct sql_file *f, const char *version)
{
	do {
		m->busy = false;
		if (!migration_run(m, f->name, BEGIN, NULL))
			continue;
		if (migration_is_applied(m, f))
			return cmd_db_run_plain(m->db, f->name, "COMMIT");
		if (!migration_run(m, f->name, f->text, f))
			continue;
		if (PQtransactionStatus(m->db->conn) != PQTRANS_INTRANS)
			return cmd_db_fail(m->db,
				       xasprintf("%s: ends the transaction that it runs in; take BEGIN, COMMIT and "
						 "ROLLBACK out of it",
					       f->path)) == 0;
		if (migration_record(m, f, version))
			return cmd_db_run_plain(m->db, f->name, "COMMIT");
	} while (migration_again(m, f->name));
	return false;
}

PGresult *migration_query(struct migration *m, const char *what, const char *sql)
{
	do {
		m->busy = false;
		if (!migration_run(m, what, BEGIN, NULL))
			continue;
		PGresult *res = PQexec(m->db->conn, sql);
		if (PQresultStatus(res) == PGRES_TUPLES_OK && cmd_db_run_plain(m->db, what, "COMMIT"))
			return res;
		m->busy = error_is_busy(m, res);
		if (!m->busy) {
			char *error = cmd_db_error(m->db->conn, res);
			cmd_db_fail(m->db, xasprintf("%s: %s", what, error));
			free(error);
		}
		PQclear(res);
	} while (migration_again(m, what));
	return NULL;
}

bool migration_move(struct migration *m, bool to_extension, const char *leave, const struct sql_file *const files[],
	const char *enter)
{
	static const char what[] = "moving the queues";
	const char *where = to_extension ? "SET LOCAL pgmqd.queues_to = 'extension'"
	                                 : "SET LOCAL pgmqd.queues_to = 'sql'";

	do {
		m->busy = false;
		if (!migration_run(m, what, BEGIN, NULL) || !migration_run(m, what, where, NULL) ||
			!migration_run(m, what, leave, NULL))
			continue;
		bool good = true;
		for (size_t i = 0; good && files[i]; i++)
			good = migration_run(m, files[i]->name, files[i]->text, files[i]);
		/* the files end with their own search_path */
		if (good && migration_run(m, what, "SET LOCAL search_path = pg_catalog, pg_temp", NULL) &&
			migration_run(m, what, enter, NULL))
			return cmd_db_run_plain(m->db, what, "COMMIT");
	} while (migration_again(m, what));
	return false;
}

bool migration_connect(struct migration *m)
{
	static const char sql[] = "SELECT item, problem, remedy FROM pgmqd.connect()";
	static const char *const before[] = { "not connected: ", ": ", "  remedy: " };
	PGresult *res = migration_query(m, "connecting the application's tables", sql);
	bool good = res != NULL;

	if (!res && m->busy) {
		m->busy = false;
		if (cmd_db_run_plain(m->db, "settings", "SET pgmqd.migrating = 'last try'"))
			res = cmd_db_run(m->db, "connecting the application's tables", sql, 0, NULL);
	}
	for (int i = 0; res && i < PQntuples(res); i++)
		for (int c = 0; c < 3; c++) { /* names of tables and roles are in it */
			fputs(before[c], stdout);
			cmd_print(stdout, PQgetvalue(res, i, c));
			fputs(c == 0 ? "" : "\n", stdout);
		}
	PQclear(res);
	return good;
}
