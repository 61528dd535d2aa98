/* migrate.c: the command "pgmqd migrate": brings the database's schema up to date from the files of sql/.
 *
 * Files are applied in the order of their names, each in a transaction of its own, under one advisory lock, and remembered with a
 * checksum. A file that was applied and reads differently now stops everything: what is in the database would not be what
 * the file says.
 */
#include "config.h"

#include "commands.h"
#include "log.h"
#include "settings.h"
#include "xalloc.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOCK_KEY "7308895158431870317" /* "pgmqd" and a bit: one migration at a time in a database */
#define DEMO_FILE "000_demo_app.sql"
#define FILE_MAX (4 * 1024 * 1024)

static const char help[] =
	"Usage: pgmqd migrate [-c FILE] [--env-file FILE] [-d CONNINFO] [--status|--dry-run] [--demo-app] [--sql-dir DIR]\n"
	"\n"
	"Applies the SQL files that the database does not have yet.\n"
	"\n"
	"  -c, --config FILE      take the database from this settings file\n"
	"  -e, --env-file FILE    read NAME=value lines into the environment first\n"
	"  -d, --database CONNINFO  the database (else the settings file's, DATABASE_URL, or the PG* variables)\n"
	"      --status           show which files are applied, pending or changed, and exit\n"
	"      --dry-run          show what would be applied, and exit\n"
	"      --demo-app         also make the tables of a demo application (" DEMO_FILE ")\n"
	"      --sql-dir DIR      default: $PGMQD_SQL_DIR, else " PGMQD_DATADIR "/sql\n"
	"  -h, --help             this text\n"
	"\n"
	"Ends with 0, with 1 when something could not be applied, with 2 after a wrong command line.\n";

enum state { PENDING, APPLIED, CHANGED };

/* One SQL file. */
struct file {
	char *name, *text, *checksum, *applied_at;
	enum state state;
};

struct migration {
	const char *conf, *env_file, *database, *sql_dir;
	bool status, dry_run, demo;
	PGconn *pg;
	struct file *files;
	size_t nfiles;
};

/* Runs a statement; NULL after a line that says what was being done. */
static PGresult *query(PGconn *pg, const char *what, const char *sql, int n, const char *const *params)
{
	PGresult *res = PQexecParams(pg, sql, n, NULL, params, NULL, NULL, 0);
	ExecStatusType st = PQresultStatus(res);

	if (st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK)
		return res;
	fprintf(stderr, "pgmqd migrate: %s: %s", what, PQerrorMessage(pg));
	PQclear(res);
	return NULL;
}

/* Server notices, one line each. */
static void notice(void *arg, const PGresult *res)
{
	const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), *severity = PQresultErrorField(res, PG_DIAG_SEVERITY);

	(void)arg;
	/* "already exists, skipping" is what idempotent files are made of */
	if (text && strcmp(PQresultErrorField(res, PG_DIAG_SQLSTATE), "00000") == 0)
		printf("    %s\n", text);
	else if (text && severity && strcmp(severity, "WARNING") == 0)
		printf("    warning: %s\n", text);
}

/* Reads a whole file; NULL after a line that says why not. */
static char *read_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *text;

	if (!f || fstat(fileno(f), &st) != 0) {
		fprintf(stderr, "pgmqd migrate: cannot read %s: %s\n", path, strerror(errno));
		if (f)
			fclose(f);
		return NULL;
	}
	if (st.st_size > FILE_MAX) {
		fprintf(stderr, "pgmqd migrate: %s is larger than %d MiB\n", path, FILE_MAX / 1024 / 1024);
		fclose(f);
		return NULL;
	}
	text = xcalloc(1, (size_t)st.st_size + 1);
	if (fread(text, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		fprintf(stderr, "pgmqd migrate: cannot read all of %s\n", path);
		free(text);
		text = NULL;
	}
	fclose(f);
	return text;
}

/* Only NNN_name.sql is ours. */
static int is_sql(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 8 && strspn(d->d_name, "0123456789") == 3 && d->d_name[3] == '_' && strcmp(d->d_name + n - 4, ".sql") == 0;
}

/* Reads the files in the order of their names; false after a message. */
static bool read_files(struct migration *m)
{
	struct dirent **names;
	int n = scandir(m->sql_dir, &names, is_sql, alphasort);
	bool ok = true;

	if (n <= 0) {
		fprintf(stderr, "pgmqd migrate: %s: %s; --sql-dir says where the files are\n", m->sql_dir, n < 0 ? strerror(errno) : "no SQL files there");
		return false;
	}
	m->files = xcalloc((size_t)n, sizeof(*m->files));
	for (int i = 0; i < n; i++) {
		char *path = xasprintf("%s/%s", m->sql_dir, names[i]->d_name);

		if (ok && (m->demo || m->status || strcmp(names[i]->d_name, DEMO_FILE) != 0)) {
			struct file *f = &m->files[m->nfiles++];

			f->name = xstrdup(names[i]->d_name);
			f->text = read_file(path);
			ok = f->text != NULL;
		}
		free(path);
		free(names[i]);
	}
	free(names);
	return ok;
}

/* Connects; false after a message. */
static bool connect_database(struct migration *m)
{
	const char *database = m->database;
	struct settings *s = NULL;
	PGresult *res;
	bool ok = false;

	if (!database && m->conf) {
		char *errors;

		if ((s = settings_load(m->conf, &errors)) == NULL) {
			fprintf(stderr, "%s\n", errors);
			free(errors);
			return false;
		}
		database = s->database;
	}
	if (!database || !*database)
		database = getenv("DATABASE_URL");
	m->pg = PQconnectdbParams((const char *const[]){ "fallback_application_name", "client_encoding", "dbname", NULL },
	                          (const char *const[]){ "pgmqd migrate", "UTF8", database ? database : "", NULL }, 1);
	settings_free(s);
	if (PQstatus(m->pg) != CONNECTION_OK) {
		fprintf(stderr, "pgmqd migrate: cannot connect: %s", PQerrorMessage(m->pg));
		return false;
	}
	PQsetNoticeReceiver(m->pg, notice, NULL);
	res = query(m->pg, "look at the server", "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version_num')::int >= 140000", 0, NULL);
	if (res && PQgetvalue(res, 0, 0)[0] == 't')
		fprintf(stderr, "pgmqd migrate: this server is a standby: connect to the primary (target_session_attrs=read-write)\n");
	else if (res && PQgetvalue(res, 0, 1)[0] == 'f')
		fprintf(stderr, "pgmqd migrate: this server is too old: PostgreSQL 14 or newer is needed\n");
	else
		ok = res != NULL;
	PQclear(res);
	return ok;
}

/* Finds out which files are applied; false after a message. */
static bool compare(struct migration *m)
{
	PGresult *res = query(m->pg, "look for pgmqd.schema_version", "SELECT pg_catalog.to_regclass('pgmqd.schema_version') IS NOT NULL", 0, NULL);
	bool have = res && PQgetvalue(res, 0, 0)[0] == 't', ok = res != NULL;

	PQclear(res);
	for (size_t i = 0; ok && i < m->nfiles; i++) {
		struct file *f = &m->files[i];
		const char *params[2] = { f->text, f->name };

		res = query(m->pg, "compute a checksum", "SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to($1::text, 'UTF8')), 'hex')", 1, params);
		if ((ok = res != NULL))
			f->checksum = xstrdup(PQgetvalue(res, 0, 0));
		PQclear(res);
		if (!ok || !have)
			continue;
		res = query(m->pg, "read pgmqd.schema_version",
		            "SELECT checksum, pg_catalog.to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'"
		            " FROM pgmqd.schema_version WHERE file = $1::text",
		            1, &params[1]);
		if ((ok = res != NULL) && PQntuples(res)) {
			f->state = strcmp(PQgetvalue(res, 0, 0), f->checksum) == 0 ? APPLIED : CHANGED;
			f->applied_at = xstrdup(PQgetvalue(res, 0, 1));
		}
		PQclear(res);
	}
	return ok;
}

/* The line of a text that a character position (from 1) is in. */
static unsigned line_of(const char *text, const char *position)
{
	long left = position ? atol(position) - 1 : 0;
	unsigned line = 1;

	for (; *text && left > 0; text++) {
		if (((unsigned char)*text & 0xc0) != 0x80) /* positions count characters */
			left--;
		if (*text == '\n')
			line++;
	}
	return line;
}

/* Applies one file and remembers it, in one transaction; false after a message. */
static bool apply(struct migration *m, const struct file *f)
{
	const char *params[2] = { f->name, f->checksum };
	PGresult *res = PQexec(m->pg, "BEGIN"), *done = NULL;

	PQclear(res);
	printf("  %s\n", f->name);
	fflush(stdout);
	res = PQexec(m->pg, f->text);
	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK) {
		const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY), *where = PQresultErrorField(res, PG_DIAG_CONTEXT);
		const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT), *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

		fprintf(stderr, "pgmqd migrate: %s/%s:%u: %s (%s)\n", m->sql_dir, f->name, line_of(f->text, PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION)),
		        text ? text : PQerrorMessage(m->pg), state ? state : "connection lost");
		if (hint)
			fprintf(stderr, "  hint: %s\n", hint);
		if (where)
			fprintf(stderr, "  in: %s\n", where);
	} else {
		done = query(m->pg, f->name,
		             "INSERT INTO pgmqd.schema_version AS v (file, checksum) VALUES ($1::text, $2::text)"
		             " ON CONFLICT (file) DO UPDATE SET checksum = excluded.checksum, applied_at = pg_catalog.clock_timestamp()",
		             2, params);
	}
	PQclear(res);
	PQclear(PQexec(m->pg, "RESET search_path"));
	res = PQexec(m->pg, done ? "COMMIT" : "ROLLBACK");
	PQclear(done);
	if (done && (PQresultStatus(res) != PGRES_COMMAND_OK || strcmp(PQcmdStatus(res), "COMMIT") != 0)) {
		fprintf(stderr, "pgmqd migrate: %s: could not be committed: %s\n", f->name, PQerrorMessage(m->pg));
		done = NULL;
	}
	PQclear(res);
	return done != NULL;
}

/* Installs the triggers on whichever of the application's tables there are by now, and says which are missing. */
static bool connect_application(struct migration *m)
{
	PGresult *res = query(m->pg, "look for pgmqd.connect_application()", "SELECT pg_catalog.to_regprocedure('pgmqd.connect_application()') IS NOT NULL", 0, NULL);
	bool there = res && PQgetvalue(res, 0, 0)[0] == 't', ok = res != NULL;
	int n;

	PQclear(res);
	if (!there)
		return ok;
	res = query(m->pg, "connect the application", "SELECT * FROM pgmqd.connect_application()", 0, NULL);
	if (!res)
		return false;
	n = PQntuples(res);
	if (n)
		printf("The application's side is not complete; run pgmqd migrate again when it is:\n");
	for (int i = 0; i < n; i++) {
		for (int k = 0; k < PQnfields(res); k++)
			printf("%s%s", k ? ": " : "  ", PQgetvalue(res, i, k));
		printf("\n");
	}
	PQclear(res);
	return true;
}

/* Takes the lock, makes the table of versions, applies what is pending. */
static bool migrate(struct migration *m)
{
	PGresult *res = query(m->pg, "wait for another migration", "SELECT pg_catalog.pg_advisory_lock(" LOCK_KEY ")", 0, NULL);
	size_t applied = 0;

	if (!res)
		return false;
	PQclear(res);
	if (!compare(m))
		return false;
	for (size_t i = 0; i < m->nfiles; i++)
		if (m->files[i].state == CHANGED) {
			fprintf(stderr, "pgmqd migrate: %s/%s was applied on %s and has been changed since: restore it, and put changes into a new file; nothing was applied\n",
			        m->sql_dir, m->files[i].name, m->files[i].applied_at);
			return false;
		}
	res = query(m->pg, "make pgmqd.schema_version",
	            "DO $$BEGIN IF pg_catalog.to_regclass('pgmqd.schema_version') IS NULL THEN CREATE SCHEMA IF NOT EXISTS pgmqd;"
	            " CREATE TABLE pgmqd.schema_version (file text PRIMARY KEY, checksum text NOT NULL,"
	            " applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()); END IF; END$$",
	            0, NULL);
	if (!res)
		return false;
	PQclear(res);
	for (size_t i = 0; i < m->nfiles; i++)
		if (m->files[i].state == PENDING) {
			if (!apply(m, &m->files[i]))
				return false;
			applied++;
		}
	if (!connect_application(m))
		return false;
	if (applied)
		printf("%zu of %zu files applied: the database is up to date.\n", applied, m->nfiles);
	else
		printf("The database is up to date.\n");
	return true;
}

/* --status and --dry-run. */
static bool show(struct migration *m)
{
	static const char *const names[] = { [PENDING] = "pending", [APPLIED] = "applied", [CHANGED] = "CHANGED" };
	bool changed = false;

	if (!compare(m))
		return false;
	for (size_t i = 0; i < m->nfiles; i++) {
		const struct file *f = &m->files[i];
		bool demo = strcmp(f->name, DEMO_FILE) == 0 && f->state == PENDING;

		changed = changed || f->state == CHANGED;
		if (m->dry_run && f->state == PENDING)
			printf("would apply %s\n", f->name);
		else if (!m->dry_run)
			printf("%-30s %-8s %s\n", f->name, names[f->state], f->applied_at ? f->applied_at : demo ? "(only with --demo-app)" : "");
		if (f->state == CHANGED)
			fprintf(stderr, "pgmqd migrate: %s was applied on %s and has been changed since\n", f->name, f->applied_at);
	}
	return !changed;
}

/* -1 to go on, or the exit status. */
static int parse(int argc, char **argv, struct migration *m)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "env-file", required_argument, NULL, 'e' }, { "database", required_argument, NULL, 'd' },
		{ "status", no_argument, NULL, 'S' },       { "dry-run", no_argument, NULL, 'n' },        { "demo-app", no_argument, NULL, 'D' },
		{ "sql-dir", required_argument, NULL, 'q' }, { "help", no_argument, NULL, 'h' },          { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:e:d:h", options, NULL)) != -1)
		switch (c) {
		case 'c': m->conf = optarg; break;
		case 'e': m->env_file = optarg; break;
		case 'd': m->database = optarg; break;
		case 'S': m->status = true; break;
		case 'n': m->dry_run = true; break;
		case 'D': m->demo = true; break;
		case 'q': m->sql_dir = optarg; break;
		case 'h': fputs(help, stdout); return 0;
		default: fputs("`pgmqd migrate --help` lists what there is.\n", stderr); return 2;
		}
	if (optind < argc) {
		fprintf(stderr, "pgmqd migrate: \"%s\" is one argument too many\n", argv[optind]);
		return 2;
	}
	return -1;
}

/* pgmqd migrate. */
int cmd_migrate(int argc, char **argv)
{
	struct migration m = { .sql_dir = getenv("PGMQD_SQL_DIR") };
	char *error;
	int status = parse(argc, argv, &m);
	bool ok;

	if (status >= 0)
		return status;
	if (m.env_file && (error = settings_env_file(m.env_file)) != NULL) {
		fprintf(stderr, "%s\n", error);
		free(error);
		return 1;
	}
	if (!m.sql_dir || !*m.sql_dir)
		m.sql_dir = PGMQD_DATADIR "/sql";
	ok = read_files(&m) && connect_database(&m) && (m.status || m.dry_run ? show(&m) : migrate(&m));
	PQfinish(m.pg);
	for (size_t i = 0; i < m.nfiles; i++) {
		free(m.files[i].name);
		free(m.files[i].text);
		free(m.files[i].checksum);
		free(m.files[i].applied_at);
	}
	free(m.files);
	return ok ? 0 : 1;
}
