/* migrate.c: the command "pgmqd migrate": applies the files of sql/ to a database, in the order of their names: those
 * that it lacks, and those that have changed since. Each file may be applied again. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"
#include "cmd/sqlfile.h"
#include "settings/settings.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PGMQD_DATADIR
#define PGMQD_DATADIR "/usr/share/pgmqd"
#endif

#define DEMO_FILE "000_demo_app.sql"
/* The two keys of the advisory lock that lets one migrate at a time into a database: "pgmq" in ASCII, and a number. */
#define LOCK_KEYS "1885826417, 1"

/* What the command line says. */
struct request {
	struct cmd_db db;
	const char *sql_dir;
	bool demo, status, dry_run;
};

/* ---- the database ---- */

/* Prints the server's notices, but not that it skips what is there already: so the files are meant. */
static void print_notice(void *arg, const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY);
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	(void)arg;
	size_t len = text ? strlen(text) : 0;
	if (len > 10 && strcmp(text + len - 10, ", skipping") == 0)
		return;
	printf("  %s: %s\n", severity ? severity : "NOTICE", text ? text : "");
}

/* A connection with our settings; false after telling why not. */
static bool connect_primary(struct cmd_db *db)
{
	if (!cmd_db_connect(db))
		return false;
	PQsetNoticeReceiver(db->conn, print_notice, NULL);
	/* A lock on a busy queue or table must not be waited for with everybody else behind us in the line. */
	return cmd_db_run_plain(db, "settings",
		"SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s';"
		" SET standard_conforming_strings = on; SET client_min_messages = notice; SET pgmqd.migrating = 'on'");
}

/* Waits until no other migrate is at work in this database; the lock goes with the connection. */
static bool take_lock(const struct cmd_db *db)
{
	PGresult *res = cmd_db_run(db, "lock", "SELECT pg_try_advisory_lock(" LOCK_KEYS ")", 0, NULL);

	if (!res)
		return false;
	bool taken = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	PQclear(res);
	if (taken)
		return true;
	printf("another pgmqd migrate is at work in this database; waiting for it\n");
	return cmd_db_run_plain(
		db, "lock", "SET lock_timeout = 0; SELECT pg_advisory_lock(" LOCK_KEYS "); SET lock_timeout = '30s'");
}

/* Learns which files were applied. `known` tells whether the table of them is there. */
static bool read_versions(const struct cmd_db *db, struct sql_dir *d, bool *known)
{
	PGresult *res = cmd_db_run(
		db, "schema version", "SELECT to_regclass('pgmqd.schema_version') IS NOT NULL", 0, NULL);

	if (!res)
		return false;
	*known = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	PQclear(res);
	for (size_t i = 0; i < d->n; i++) {
		struct sql_file *f = &d->files[i];
		const char *params[] = { f->name, f->text };
		const int lengths[] = { 0, (int)strlen(f->text) }, formats[] = { 0, 1 };
		const Oid types[] = { 25, 17 }; /* text, bytea */

		res = PQexecParams(db->conn,
			*known ? "SELECT encode(sha256($2), 'hex'), v.checksum, date_trunc('second', v.applied_at)"
				 " FROM (SELECT) one LEFT JOIN pgmqd.schema_version v ON v.file = $1"
			       : "SELECT encode(sha256($2), 'hex'), NULL, $1 WHERE $1 IS NOT NULL",
			2, types, params, lengths, formats, 0);
		if (PQresultStatus(res) != PGRES_TUPLES_OK) {
			char *error = cmd_db_error(db->conn, res);
			cmd_db_fail(db, xasprintf("%s: cannot tell whether it was applied: %s", f->name, error));
			free(error);
			PQclear(res);
			return false;
		}
		f->checksum = xstrdup(PQgetvalue(res, 0, 0));
		if (!PQgetisnull(res, 0, 1)) {
			f->applied_at = xstrdup(PQgetvalue(res, 0, 2));
			f->changed = strcmp(f->checksum, PQgetvalue(res, 0, 1)) != 0;
		}
		PQclear(res);
	}
	return true;
}

/* Makes the table of what was applied. */
static bool make_version_table(const struct cmd_db *db)
{
	return cmd_db_run_plain(db, "cannot make schema pgmqd",
		"BEGIN; CREATE SCHEMA IF NOT EXISTS pgmqd; CREATE TABLE IF NOT EXISTS pgmqd.schema_version ("
		"file text PRIMARY KEY, checksum text NOT NULL,"
		" applied_at timestamptz NOT NULL DEFAULT clock_timestamp());"
		" ALTER TABLE pgmqd.schema_version ADD COLUMN IF NOT EXISTS version text; COMMIT");
}

/* Refuses a database that a newer pgmqd has migrated: our files would take its functions back. */
static bool check_version(const struct cmd_db *db)
{
	const char *params[] = { PACKAGE_VERSION };
	PGresult *res = cmd_db_run(db, "schema version",
		"SELECT v.version, v.file FROM pgmqd.schema_version v"
		" WHERE v.version OPERATOR(pg_catalog.~) '^[0-9]+([.][0-9]+)*$'"
		" AND pg_catalog.string_to_array(v.version, '.')::int[] OPERATOR(pg_catalog.>)"
		" pg_catalog.string_to_array($1, '.')::int[] ORDER BY 1 DESC LIMIT 1",
		1, params);

	if (!res)
		return false;
	bool good = PQntuples(res) == 0;
	if (!good)
		cmd_db_fail(db, xasprintf("pgmqd %s has applied %s to this database, and this is pgmqd %s: migrate "
					  "with the newer one",
					PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 1), PACKAGE_VERSION));
	PQclear(res);
	return good;
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
		if (PQresultErrorField(res, more[i].field))
			fprintf(stderr, "  %s: %s\n", more[i].name, PQresultErrorField(res, more[i].field));
	fprintf(stderr, "  nothing of this file was kept; the files before it stay applied\n");
}

/* Runs a file's statements inside the open transaction. */
static bool run_file(const struct cmd_db *db, const struct sql_file *f)
{
	unsigned statement = 0;
	bool good = true;
	PGresult *res;

	if (!PQsendQuery(db->conn, f->text)) {
		char *error = cmd_db_error(db->conn, NULL);
		cmd_db_fail(db, xasprintf("%s: %s", f->path, error));
		free(error);
		return false;
	}
	for (; (res = PQgetResult(db->conn)); PQclear(res)) {
		ExecStatusType status = PQresultStatus(res);

		if (good && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
			print_file_error(db, f, res, statement);
			good = false;
		}
		statement++;
		if (PQstatus(db->conn) == CONNECTION_BAD)
			good = false;
	}
	if (good && PQtransactionStatus(db->conn) != PQTRANS_INTRANS) {
		cmd_db_fail(db,
			xasprintf("%s: ends the transaction that it runs in; take BEGIN, COMMIT and ROLLBACK out of it",
				f->path));
		good = false;
	}
	return good;
}

/* Applies a file and notes that it was, both or neither. */
static bool apply(const struct cmd_db *db, const struct sql_file *f)
{
	const char *params[] = { f->name, f->checksum, PACKAGE_VERSION };
	PGresult *res = NULL;

	printf("%s%s\n", f->name, f->changed ? " (changed)" : "");
	if (!cmd_db_run_plain(db, f->name, "BEGIN"))
		return false;
	if (!run_file(db, f) ||
		!(res = cmd_db_run(db, f->name,
			  "INSERT INTO pgmqd.schema_version AS v (file, checksum, version) VALUES ($1, $2, $3)"
			  " ON CONFLICT (file) DO UPDATE SET checksum = excluded.checksum, version = excluded.version,"
			  " applied_at = pg_catalog.clock_timestamp()",
			  3, params))) {
		if (PQstatus(db->conn) == CONNECTION_OK)
			PQclear(PQexec(db->conn, "ROLLBACK"));
		return false;
	}
	PQclear(res);
	return cmd_db_run_plain(db, f->name, "COMMIT");
}

/* Connects the queues with the application's tables, and tells what is missing of those. */
static bool connect_application(const struct cmd_db *db)
{
	PGresult *res = cmd_db_run(db, "connecting the application's tables",
		"SELECT item, problem, remedy FROM pgmqd.connect()", 0, NULL);

	if (!res)
		return false;
	for (int i = 0; i < PQntuples(res); i++)
		printf("not connected: %s: %s\n  remedy: %s\n", PQgetvalue(res, i, 0), PQgetvalue(res, i, 1),
			PQgetvalue(res, i, 2));
	PQclear(res);
	return true;
}

/* ---- what was asked for ---- */

/* Whether a file is meant: the demo application only when it was asked for, now or before. */
static bool wanted(const struct request *q, const struct sql_file *f)
{
	return q->demo || f->applied_at || strcmp(f->name, DEMO_FILE) != 0;
}

/* One line for each file, and for each that was applied once and is not in the directory. */
static bool print_status(const struct request *q, const struct sql_dir *d, bool known)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct sql_file *f = &d->files[i];

		printf("%-30s  %-8s  %s\n", f->name,
			f->changed      ? "changed"
			: f->applied_at ? "applied"
					: "pending",
			f->applied_at   ? f->applied_at
			: !wanted(q, f) ? "(only with --demo-app)"
					: "-");
	}
	if (!known)
		return true;
	PGresult *res = cmd_db_run(&q->db, "schema version",
		"SELECT file, date_trunc('second', applied_at) FROM pgmqd.schema_version ORDER BY file", 0, NULL);
	if (!res)
		return false;
	for (int i = 0; i < PQntuples(res); i++) {
		struct sql_file key = { .name = PQgetvalue(res, i, 0) };

		if (!bsearch(&key, d->files, d->n, sizeof(*d->files), sql_file_compare))
			printf("%-30s  %-8s  %s\n", key.name, "gone", PQgetvalue(res, i, 1));
	}
	PQclear(res);
	return true;
}

/* The work on the open connection; the exit status. */
static int migrate(const struct request *q, struct sql_dir *d)
{
	bool known;
	size_t applied = 0;

	if (!q->status && !q->dry_run && !take_lock(&q->db))
		return 1;
	if (!read_versions(&q->db, d, &known))
		return 1;
	if (q->status)
		return print_status(q, d, known) ? 0 : 1;
	if (!q->dry_run && (!make_version_table(&q->db) || !check_version(&q->db)))
		return 1;
	for (size_t i = 0; i < d->n; i++) {
		if ((d->files[i].applied_at && !d->files[i].changed) || !wanted(q, &d->files[i]))
			continue;
		if (q->dry_run)
			printf("would apply %s%s\n", d->files[i].name, d->files[i].changed ? " (changed)" : "");
		else if (!apply(&q->db, &d->files[i]))
			return 1;
		else
			applied++;
	}
	if (q->dry_run)
		return 0;
	if (!connect_application(&q->db))
		return 1;
	printf("%zu file%s applied; the database is up to date\n", applied, applied == 1 ? "" : "s");
	return 0;
}

/* The directory of the SQL files: --sql-dir, the environment, the settings file, or the one of the installation. */
static const char *find_sql_dir(const struct request *q)
{
	const char *env = getenv("PGMQD_SQL_DIR");

	if (q->sql_dir)
		return q->sql_dir;
	if (env && *env)
		return env;
	return q->db.settings && *q->db.settings->sql_dir ? q->db.settings->sql_dir : PGMQD_DATADIR "/sql";
}

/* pgmqd migrate. */
static int run_migrate(void *request, int argc, char **argv)
{
	struct request *q = request;
	struct sql_dir dir = { 0 };
	char *error;
	int status = 1;

	(void)argc;
	(void)argv;
	if (q->status && q->dry_run)
		return cmd_usage("migrate", "--status and --dry-run exclude each other");
	if (!cmd_db_load(&q->db))
		return 1;
	if ((error = sql_dir_read(&dir, find_sql_dir(q))))
		cmd_db_fail(&q->db, error);
	else if (connect_primary(&q->db))
		status = migrate(q, &dir);
	sql_dir_free(&dir);
	return status;
}

static const struct cmd_option options[] = {
	CMD_OPTION("sql-dir", 0, CMD_TEXT, struct request, sql_dir, "DIR",
		"the directory of the SQL files (default: $PGMQD_SQL_DIR, else the settings file's with -c, "
		"else " PGMQD_DATADIR "/sql)"),
	CMD_OPTION("demo-app", 0, CMD_FLAG, struct request, demo, NULL,
		"also create a small application with two sample people, for demos and tests"),
	CMD_OPTION("status", 0, CMD_FLAG, struct request, status, NULL,
		"print which files were applied, and when; change nothing"),
	CMD_OPTION("dry-run", 0, CMD_FLAG, struct request, dry_run, NULL,
		"print which files would be applied; change nothing"),
	{ 0 },
};

const struct command cmd_migrate = {
	.name = "migrate",
	.summary = "bring the database up to this version of pgmqd",
	.usage = "",
	.text = "Creates the queues, functions and triggers in the database, and connects them with the application's "
		"tables. "
		"It can be run at any time: it applies the files that are new or have changed, and prints at the end "
		"what "
		"is missing. It refuses a database that a newer pgmqd has migrated.",
	.exits = "Exit status: 0 success, 1 failure, 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.run = run_migrate,
	CMD_DB,
};
