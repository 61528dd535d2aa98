/* migrate.c: the command "pgmqd migrate": applies the files of sql/ to a database, in the order of their names: those
 * that it lacks, and those that have changed since. Each file may be applied again. */
#include "config.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"
#include "cmd/migration.h"
#include "cmd/sqlfile.h"
#include "settings/settings.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifndef PGMQD_DATADIR
#define PGMQD_DATADIR "/usr/share/pgmqd"
#endif

#define DEMO_FILE "000_demo_app.sql"
/* The options on the command line. */
struct request {
	struct cmd_db db;
	const char *sql_dir;
	struct cmd_list with;
	int64_t wait;
	bool demo, status, dry_run, uninstall, adopt, leave;
	bool application, plugins; /* which parts are wanted */
};

/* ---- the database ---- */

/* Looks whether what a file makes is still there: tables, and functions (NAME()) that not everybody may call. A
 * restored dump may lack it. */
static bool look_for_missing(const struct cmd_db *db, struct sql_file *f)
{
	char *makes = sql_file_makes(f);
	const char *params[] = { makes };
	PGresult *res = cmd_db_run(db, f->name,
		"SELECT pg_catalog.min(CASE WHEN f.there THEN 'rights on ' ELSE '' END OPERATOR(pg_catalog.||) m) FROM "
		"pg_catalog.unnest($1::text[]) m, LATERAL (SELECT pg_catalog.count(*) "
		"OPERATOR(pg_catalog.>) 0 AS there, "
		"coalesce(pg_catalog.bool_or(p.proacl IS NULL), true) AS lacking FROM pg_catalog.pg_proc p WHERE "
		"p.pronamespace OPERATOR(pg_catalog.=) "
		"pg_catalog.to_regnamespace(pg_catalog.split_part(m, '.', 1))::oid AND p.proname "
		"OPERATOR(pg_catalog.=) pg_catalog.rtrim(pg_catalog.split_part(m, '.', 2), '()')::name AND "
		"'search_path=pg_catalog, pg_temp'::text OPERATOR(pg_catalog.=) ANY (p.proconfig)) f WHERE CASE WHEN m "
		"OPERATOR(pg_catalog.~~) '%()' THEN f.lacking ELSE pg_catalog.to_regclass(m) IS NULL END",
		1, params);

	free(makes);
	if (res && !PQgetisnull(res, 0, 0))
		f->missing = xstrdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return res != NULL;
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
		free(f->checksum);
		free(f->applied_at);
		free(f->missing);
		f->applied_at = f->missing = NULL;
		f->checksum = xstrdup(PQgetvalue(res, 0, 0));
		if (!PQgetisnull(res, 0, 1)) {
			f->applied_at = xstrdup(PQgetvalue(res, 0, 2));
			f->changed = strcmp(f->checksum, PQgetvalue(res, 0, 1)) != 0;
		}
		PQclear(res);
		if (f->applied_at && !look_for_missing(db, f))
			return false;
	}
	return true;
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

/* The names of the functions in public that the files make, as an array literal; malloc'd. */
static char *public_functions(const struct sql_dir *d)
{
	static const char word[] = "\nCREATE OR REPLACE FUNCTION public.";
	char *list = xstrdup("{");

	for (size_t i = 0; i < d->n; i++)
		for (const char *p = d->files[i].text; (p = strstr(p, word));) {
			p += strlen(word);
			char *more = xasprintf("%s%s%.*s", list, list[1] ? "," : "", (int)strcspn(p, "("), p);
			free(list);
			list = more;
		}
	char *all = xasprintf("%s}", list);
	free(list);
	return all;
}

/* Refuses schemas, functions and tables that others have made under our names: their owners could change them later, or
 * have us run what they like. */
static bool check_owners(const struct cmd_db *db, const struct sql_dir *d)
{
	static const char sql[] =
		"WITH made (what, owner) AS ("
		" SELECT format('schema %I', nspname), nspowner FROM pg_catalog.pg_namespace WHERE nspname IN "
		"('pgmqd', 'pgmq')"
		" UNION ALL SELECT format('function %s', p.oid::pg_catalog.regprocedure), p.proowner FROM "
		"pg_catalog.pg_proc p"
		" JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('pgmqd', 'pgmq') OR"
		" n.nspname = 'public' AND p.proname = ANY ($1::pg_catalog.name[])"
		" UNION ALL SELECT format('table %s', c.oid::pg_catalog.regclass), c.relowner FROM pg_catalog.pg_class "
		"c JOIN"
		" pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE (n.nspname = 'pgmqd' AND c.relkind IN "
		"('r', 'v')"
		" OR n.nspname = 'pgmq' AND c.relname = 'meta')"
		/* the rights TRIGGER and REFERENCES, which GRANT ALL gives, are enough for these */
		" UNION ALL SELECT x.what, x.owner FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
		" ON n.oid = c.relnamespace, LATERAL (SELECT format('trigger %I on table %s', t.tgname,"
		" c.oid::pg_catalog.regclass), p.proowner FROM pg_catalog.pg_trigger t"
		" JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = c.oid AND NOT t.tgisinternal"
		" UNION ALL SELECT format('table %s, which refers to %s,', k.conrelid::pg_catalog.regclass,"
		" c.oid::pg_catalog.regclass), r.relowner FROM pg_catalog.pg_constraint k"
		" JOIN pg_catalog.pg_class r ON r.oid = k.conrelid WHERE k.contype = 'f' AND k.confrelid = c.oid)"
		" x (what, owner) WHERE n.nspname = 'pgmqd' OR n.nspname = 'pgmq' AND c.relname IN"
		" ('meta', 'topic_bindings', 'notify_insert_throttle'))"
		" SELECT made.what, r.rolname FROM made JOIN pg_catalog.pg_roles r ON r.oid = made.owner,"
		" (SELECT * FROM pg_catalog.pg_roles WHERE rolname = current_user) me WHERE NOT r.rolsuper AND r.oid "
		"<> me.oid"
		" AND NOT pg_catalog.pg_has_role(r.oid, me.oid, 'MEMBER') AND (me.rolsuper OR NOT"
		" pg_catalog.pg_has_role(me.oid, r.oid, 'USAGE')) AND r.rolname <> 'pgmqd_application' ORDER BY 1 DESC "
		"LIMIT 1";
	char *functions = public_functions(d);
	const char *params[] = { functions };
	PGresult *res = cmd_db_run(db, "owners", sql, 1, params);
	bool good = res && PQntuples(res) == 0;

	if (res && !good)
		cmd_db_fail(db,
			xasprintf("%s belongs to role %s, which is not ours to trust: migrate as that role, or have it"
				  " dropped or given to the role that migrates (ALTER … OWNER TO)",
				PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 1)));
	PQclear(res);
	free(functions);
	return good;
}

/* Warns when the owner of our functions is a superuser: a mistake in one of them would give away the server. */
static void warn_superuser(const struct cmd_db *db)
{
	PGresult *res = cmd_db_run(db, "owner",
		"SELECT r.rolname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE"
		" n.nspname = 'pgmqd' AND r.rolsuper",
		0, NULL);

	if (res && PQntuples(res) > 0)
		printf("WARNING: a superuser owns the functions of pgmqd (role %s)\n  remedy: SELECT"
		       " pgmqd.set_owner('pgmqd_migrator'), and migrate as a role that was granted pgmqd_migrator from "
		       "now on\n",
			PQgetvalue(res, 0, 0));
	PQclear(res);
}

/* ---- what was asked for ---- */

/* Whether a file is meant: 000 is the demo application, 01x and 02x are the dispatcher's own, 03x the application's,
 * 04x and more the plugins'. A file that was applied before stays wanted. */
static bool wanted(const struct request *q, const struct sql_file *f)
{
	if (f->applied_at)
		return true;
	if (strcmp(f->name, DEMO_FILE) == 0)
		return q->demo;
	return f->name[1] < '3' || q->application || (q->plugins && f->name[1] > '3');
}

/* Whether the settings file has queues of the application's, or plugins that keep something in the database. */
static void want_by_settings(struct request *q)
{
	static const char *const queues[] = { "email_queue", "report_generation_queue", "payment_processing_queue",
		"analytics_queue" };
	static const char *const plugins[] = { "email", "report", "payment", "analytics", "mailevents" };

	for (size_t i = 0; q->db.settings && i < q->db.settings->nqueues; i++) {
		for (size_t k = 0; k < sizeof(queues) / sizeof(*queues); k++)
			q->application |= strcasecmp(q->db.settings->queues[i].name, queues[k]) == 0;
		for (size_t k = 0; k < sizeof(plugins) / sizeof(*plugins); k++)
			q->plugins |= q->db.settings->queues[i].plugin &&
			              strcmp(q->db.settings->queues[i].plugin, plugins[k]) == 0;
	}
}

/* Decides which parts are wanted: by the command line, the settings, and what is in the database. */
static bool want(struct request *q, const struct sql_dir *d)
{
	for (size_t i = 0; i < q->with.n; i++) {
		q->application |= strcmp(q->with.items[i], "application") == 0;
		q->plugins |= strcmp(q->with.items[i], "plugins") == 0;
	}
	q->application |= q->demo;
	want_by_settings(q);
	for (size_t i = 0; i < d->n; i++)
		if (d->files[i].applied_at) {
			q->application |= d->files[i].name[1] == '3';
			q->plugins |= d->files[i].name[1] > '3';
		}
	PGresult *res = cmd_db_run(&q->db, "the application's tables",
		"SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE"
		" n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname IN ('assessments', 'appointments',"
		" 'payments')",
		0, NULL);
	q->application |= res && PQntuples(res) > 0;
	PQclear(res);
	return res != NULL;
}

/* One line for each file, and for each that was applied once and is not in the directory. */
static bool print_status(const struct request *q, const struct sql_dir *d, bool known)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct sql_file *f = &d->files[i];

		printf("%-30s  %-8s  %s\n", f->name,
			f->missing      ? "missing"
			: f->changed    ? "changed"
			: f->applied_at ? "applied"
					: "pending",
			f->applied_at   ? f->applied_at
			: !wanted(q, f) ? (strcmp(f->name, DEMO_FILE) == 0 ? "(only with --demo-app)"
									   : "(only with --with application)")
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

/* Applies what is new, has changed or has lost something; the exit status. */
static int apply_all(const struct request *q, const struct sql_dir *d)
{
	struct migration m = { .db = &q->db, .until_ms = clock_monotonic_ms() + q->wait };
	size_t applied = 0;

	if (!q->dry_run && (!migration_prepare(&m) || !check_version(&q->db)))
		return 1;
	for (size_t i = 0; i < d->n; i++) {
		const struct sql_file *f = &d->files[i];

		if ((f->applied_at && !f->changed && !f->missing) || !wanted(q, f))
			continue;
		printf("%s%s%s%s%s\n", q->dry_run ? "would apply " : "", f->name, f->missing ? " (missing: " : "",
			f->missing   ? f->missing
			: f->changed ? " (changed"
				     : "",
			f->missing || f->changed ? ")" : "");
		if (!q->dry_run && !migration_apply(&m, f, PACKAGE_VERSION))
			return 1;
		applied++;
	}
	if (q->dry_run)
		return 0;
	bool good = migration_connect(&m);
	warn_superuser(&q->db);
	printf("%zu file%s applied; %s\n", applied, applied == 1 ? "" : "s",
		good ? "the database is up to date" : "something was left undone");
	return good ? 0 : 1;
}

/* Takes everything of ours out of the database but the queues and their messages; the exit status. */
static int uninstall(const struct request *q, const char *sql_dir)
{
	char *error = NULL, *path = xasprintf("%s/uninstall.sql", sql_dir), *text = sql_file_read(path, &error);
	struct migration m = { .db = &q->db, .until_ms = clock_monotonic_ms() + q->wait };
	PGresult *look = cmd_db_run(&q->db, "uninstall",
		"SELECT pg_catalog.to_regclass('pgmqd.schema_version') IS NOT NULL, "
		"pg_catalog.to_regclass('pgmq.meta') IS NOT NULL",
		0, NULL);
	bool ours = look && *PQgetvalue(look, 0, 0) == 't', queues = look && *PQgetvalue(look, 0, 1) == 't';
	PGresult *res = NULL;

	if (error)
		cmd_db_fail(&q->db, error);
	else if (ours)
		res = migration_query(&m, "uninstall", text);
	else if (look && !queues)
		puts("there is nothing of pgmqd in this database");
	else if (look) /* a second time, or behind DROP SCHEMA pgmqd: there is no table to lock */
		res = cmd_db_run(&q->db, "uninstall", text, 0, NULL);
	bool good = res || (look && !ours && !queues && !error);

	PQclear(look);
	for (int i = 0; res && i < PQntuples(res); i++) {
		cmd_print(stdout, PQgetvalue(res, i, 0));
		putchar('\n');
	}
	PQclear(res);
	free(text);
	free(path);
	return good ? 0 : 1;
}

/* Moves the queues to the extension pgmq or back, as was asked for; every file is to be applied after it. */
static bool move_queues(const struct request *q, struct sql_dir *d, const char *sql_dir)
{
	const struct sql_file *files[3] = { NULL };
	const char *const names[] = { "010_pgmq.sql", "011_pgmq_groups_topics.sql" };
	struct migration m = { .db = &q->db, .until_ms = clock_monotonic_ms() + q->wait };
	char *error = NULL, *leave_path = xasprintf("%s/queues_leave.sql", sql_dir);
	char *enter_path = xasprintf("%s/queues_enter.sql", sql_dir);
	char *leave = sql_file_read(leave_path, &error), *enter = leave ? sql_file_read(enter_path, &error) : NULL;
	bool known, good = false;

	for (size_t i = 0; !error && i < 2; i++) {
		struct sql_file key = { .name = (char *)names[i] };

		files[i] = bsearch(&key, d->files, d->n, sizeof(*d->files), sql_file_compare);
		if (!files[i])
			error = xasprintf("%s/%s: there is no such file", sql_dir, names[i]);
	}
	if (error)
		cmd_db_fail(&q->db, error);
	else
		good = migration_prepare(&m) && check_version(&q->db) &&
		       migration_move(&m, q->adopt, leave, files, enter);
	if (good)
		printf("the queues belong to %s now, with all their messages\n",
			q->adopt ? "the extension pgmq" : "pgmqd's own schema pgmq");
	free(leave_path);
	free(enter_path);
	free(leave);
	free(enter);
	return good && read_versions(&q->db, d, &known);
}

/* The work on the open connection; the exit status. */
static int migrate(struct request *q, struct sql_dir *d, const char *sql_dir)
{
	bool known;

	if (!read_versions(&q->db, d, &known) || !want(q, d))
		return 1;
	if (q->status)
		return print_status(q, d, known) ? 0 : 1;
	if (!check_owners(&q->db, d))
		return 1;
	if (q->uninstall)
		return uninstall(q, sql_dir);
	if ((q->adopt || q->leave) && !move_queues(q, d, sql_dir))
		return 1;
	return apply_all(q, d);
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
	if (q->status + q->dry_run + q->uninstall + q->adopt + q->leave > 1)
		return cmd_usage("migrate",
			"--status, --dry-run, --adopt-extension, --leave-extension and --uninstall exclude each other");
	for (size_t i = 0; i < q->with.n; i++)
		if (strcmp(q->with.items[i], "application") != 0 && strcmp(q->with.items[i], "plugins") != 0)
			return cmd_usage(
				"migrate", "--with takes application or plugins, not \"%s\"", q->with.items[i]);
	if (!cmd_db_load(&q->db))
		return 1;
	if ((error = sql_dir_read(&dir, find_sql_dir(q))))
		cmd_db_fail(&q->db, error);
	else if (migration_open(&q->db))
		status = migrate(q, &dir, find_sql_dir(q));
	sql_dir_free(&dir);
	return status;
}

static const struct request defaults = { .wait = 60000 };

static const struct cmd_option options[] = {
	CMD_OPTION("sql-dir", 0, CMD_TEXT, struct request, sql_dir, "DIR",
		"the directory of the SQL files (default: $PGMQD_SQL_DIR, else the settings file's with -c, "
		"else " PGMQD_DATADIR "/sql)"),
	CMD_OPTION("demo-app", 0, CMD_FLAG, struct request, demo, NULL,
		"also create a small application with two sample people, for demos and tests"),
	CMD_OPTION("with", 0, CMD_LIST, struct request, with, "PART",
		"also bring this part: application (queues, triggers and schedules of the application; with it the "
		"plugins'), or plugins (the tables of the plugins). Without it the application's part comes when the "
		"database has its tables or the settings file its queues"),
	CMD_OPTION("wait", 0, CMD_DURATION, struct request, wait, "TIME",
		"how long to try again while other sessions hold locks (default 60s)"),
	CMD_OPTION("adopt-extension", 0, CMD_FLAG, struct request, adopt, NULL,
		"move the queues, with all messages, from pgmqd's own schema pgmq to the extension pgmq, and migrate"),
	CMD_OPTION("leave-extension", 0, CMD_FLAG, struct request, leave, NULL,
		"move the queues, with all messages, from the extension pgmq to pgmqd's own schema pgmq, and migrate"),
	CMD_OPTION("uninstall", 0, CMD_FLAG, struct request, uninstall, NULL,
		"remove the schema pgmqd, the triggers, functions and schedules; queues and messages stay"),
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
	.defaults = &defaults,
	.run = run_migrate,
	CMD_DB,
};
