/* doctor.c: the command `pgmqd doctor`: goes through one table of checks, and mends what is safe to mend.
 *
 * Each finding says what was seen, and when it is not well, exactly what to do about it. A check that needs what
 * another one found missing is left out, so that one fault is told once.
 */
#include "config.h"

#include "cmd/doctor/doctor.h"

#include "base/log.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "process/proc.h"
#include "settings/settings.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
	"Usage: pgmqd doctor [-c FILE] [-e FILE] [-d CONNINFO] [--fix] [--json] [--read-only] [--sql-dir DIR] "
	"[--snapshot-age AGE]\n"
	"\n"
	"Looks at everything that pgmqd needs, and tells what is wrong and what to do about it: settings, plugins, "
	"mail server, templates,\n"
	"connection, roles, queues, triggers, functions, notifications, schedules, vacuum, clocks.\n"
	"\n"
	"      --fix                print a plan of what can be mended safely, apply it, and look again\n"
	"      --json               print one JSON object instead of text\n"
	"      --read-only          do without the message through a queue made for it, pgmqd_probe\n"
	"      --sql-dir DIR        the files of pgmqd migrate (default: $PGMQD_SQL_DIR, else the settings file's)\n"
	"      --snapshot-age AGE   tell of transactions that have kept vacuum from its work for so long, as "
	"PostgreSQL writes it\n"
	"                           (default: 5min)\n" DBCOMMAND_HELP "  -h, --help               this text\n"
	"\n"
	"Without -c the settings are those of `pgmqd run`; with -d alone none are read. Ends with 0 when all is well, "
	"with 1 when\n"
	"there is something to look at, with 2 when something is broken, and after a wrong command line.\n";

enum { OPT_FIX = 256, OPT_JSON, OPT_READ_ONLY, OPT_SQL_DIR, OPT_AGE };

/* The checks, in the order in which one builds on another. A row has a function or a statement. */
static const struct doctor_check {
	const char *name;
	unsigned needs; /* enum doctor_need */
	void (*run)(struct doctor *d);
	const char *sql;
} checks[] = {
	{ "settings", 0, doctor_settings, NULL },
	{ "plugin", DOCTOR_SETTINGS, doctor_plugins, NULL },
	{ "templates", DOCTOR_SETTINGS, doctor_templates, NULL },
	{ "connection", 0, doctor_connect, NULL },
	{ "standby", DOCTOR_DB, doctor_standby, NULL },
	{ "clock", DOCTOR_DB, doctor_clock, NULL },
	{ "role", DOCTOR_DB, NULL, doctor_sql_role },
	{ "schema", DOCTOR_DB, doctor_schema, NULL },
	{ "pgmq", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_pgmq },
	{ "queue", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_queues },
	{ "grants", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_grants },
	{ "wake-up", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_wakeups },
	{ "trigger", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_triggers },
	{ "trigger errors", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_trigger_errors },
	{ "function", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_functions },
	{ "access", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_access },
	{ "pooler", DOCTOR_DB | DOCTOR_PRIMARY, doctor_pooler, NULL },
	{ "notify", DOCTOR_PRIMARY | DOCTOR_HEARING | DOCTOR_SCHEMA, doctor_notify, NULL },
	{ "message", DOCTOR_PRIMARY | DOCTOR_HEARING | DOCTOR_SCHEMA | DOCTOR_CURRENT, doctor_probe, NULL },
	{ "pg_cron", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, doctor_cron, NULL },
	{ "schedule", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_schedules },
	{ "vacuum", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_vacuum },
	{ "snapshot", DOCTOR_DB | DOCTOR_PRIMARY, NULL, doctor_sql_snapshots },
	{ "notify queue", DOCTOR_DB | DOCTOR_PRIMARY, NULL, doctor_sql_usage },
	{ "dispatcher", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_dispatcher },
};

/* ---- findings ---- */

void doctor_tell(struct doctor *d, int status, const char *subject, char *remedy, char *fix, const char *fmt, ...)
{
	struct doctor_finding *f;
	char *seen;
	va_list ap;

	va_start(ap, fmt);
	seen = xvasprintf(fmt, ap);
	va_end(ap);
	d->findings = xrealloc(d->findings, d->nfindings + 1, sizeof(*d->findings));
	f = &d->findings[d->nfindings++];
	*f = (struct doctor_finding){
		.check = d->now, .status = status, .remedy = remedy ? remedy : xstrdup(fix), .fix = fix
	};
	f->subject = xstrdup(subject ? subject : "");
	f->seen = xoneline(seen);
	free(seen);
}

/* Forgets all findings. */
static void forget(struct doctor *d)
{
	for (size_t i = 0; i < d->nfindings; i++) {
		free(d->findings[i].subject);
		free(d->findings[i].seen);
		free(d->findings[i].remedy);
		free(d->findings[i].fix);
	}
	free(d->findings);
	free(d->skipped);
	d->findings = NULL;
	d->skipped = NULL;
	d->nfindings = d->nskipped = 0;
}

const char *doctor_channel(const struct doctor *d)
{
	return d->db.settings ? d->db.settings->channel : "pgmqd";
}

const char *doctor_sql_dir(const struct doctor *d)
{
	const char *env = getenv("PGMQD_SQL_DIR");

	if (d->sql_dir)
		return d->sql_dir;
	if (env && *env)
		return env;
	return d->db.settings && *d->db.settings->sql_dir ? d->db.settings->sql_dir : PGMQD_DATADIR "/sql";
}

/* ---- statements ---- */

PGresult *doctor_query(struct doctor *d, const char *sql)
{
	const Oid types[] = { 25, 25, 25, 25 }; /* text: a statement need not use all of them */
	const char *params[] = { d->queues ? d->queues : "{}", doctor_channel(d), d->old, d->role };
	PGresult *res = PQexecParams(d->db.conn, sql, 4, types, params, NULL, NULL, 0);
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	bool denied = state && strcmp(state, "42501") == 0;
	char *error;

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	error = dbcommand_error(d->db.conn, res);
	doctor_tell(d, denied ? PGMQD_CHECK_WARN : PGMQD_CHECK_FAIL, "",
		xstrdup(denied ? "look as the owner of schema pgmqd: name its connection with -d, beside -c"
			       : "see the check \"schema\"; when that is well, tell the authors of pgmqd"),
		NULL, "cannot look: %s", error);
	free(error);
	PQclear(res);
	if (PQstatus(d->db.conn) != CONNECTION_OK)
		d->have &= ~(unsigned)(DOCTOR_DB | DOCTOR_PRIMARY | DOCTOR_SCHEMA | DOCTOR_CURRENT | DOCTOR_HEARING);
	return NULL;
}

/* A value, copied; NULL for null. */
static char *copied(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : xstrdup(PQgetvalue(res, row, col));
}

void doctor_rows(struct doctor *d, const char *sql)
{
	PGresult *res = doctor_query(d, sql);

	for (int i = 0; res && i < PQntuples(res); i++)
		doctor_tell(d, atoi(PQgetvalue(res, i, 0)), PQgetvalue(res, i, 1), copied(res, i, 3), copied(res, i, 4),
			"%s", PQgetvalue(res, i, 2));
	PQclear(res);
}

/* ---- the round ---- */

/* All checks, once. */
static void examine(struct doctor *d)
{
	forget(d);
	d->have = 0;
	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++) {
		const struct doctor_check *c = &checks[i];

		d->now = c->name;
		if ((d->have & c->needs) != c->needs) {
			d->skipped = xrealloc(d->skipped, d->nskipped + 1, sizeof(*d->skipped));
			d->skipped[d->nskipped++] = c->name;
		} else if (c->run) {
			c->run(d);
		} else {
			doctor_rows(d, c->sql);
		}
	}
}

/* Runs `pgmqd migrate` with our own database. NULL, or what it said. */
static char *run_migrate(struct doctor *d)
{
	char name[] = "pgmqd", command[] = "migrate";
	char conf[] = "-c", db[] = "-d", env[] = "-e", dir[] = "--sql-dir";
	char *argv[12] = { name, command }, *text = xstrdup("");
	int n = 2, fds[2], status = 0;
	char buf[512];
	ssize_t got;
	pid_t pid;

	if (d->db.settings) {
		argv[n++] = conf;
		argv[n++] = d->db.settings->path;
	}
	if (d->db.env_file) {
		argv[n++] = env;
		argv[n++] = xstrdup(d->db.env_file);
	}
	if (d->db.database) {
		argv[n++] = db;
		argv[n++] = xstrdup(d->db.database);
	}
	argv[n++] = dir;
	argv[n++] = xstrdup(doctor_sql_dir(d));
	if (pipe(fds) != 0 || (pid = fork()) < 0) {
		free(text);
		return xstrdup("no process can be made");
	}
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		proc_again(argv);
		_exit(127);
	}
	close(fds[1]);
	while ((got = read(fds[0], buf, sizeof(buf) - 1)) > 0) {
		char *more;

		buf[got] = 0;
		more = xasprintf("%s%s", text, buf);
		free(text);
		text = more;
	}
	close(fds[0]);
	waitpid(pid, &status, 0);
	for (int i = 2; i + 1 < n; i += 2)
		if (argv[i] != conf)
			free(argv[i + 1]);
	if (status == 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* Applies one fix, unless another finding has brought it already. */
static void apply(struct doctor *d, const char *text)
{
	struct doctor_fix *f;
	PGresult *res;

	for (size_t i = 0; i < d->nfixes; i++)
		if (strcmp(d->fixes[i].text, text) == 0)
			return;
	d->fixes = xrealloc(d->fixes, d->nfixes + 1, sizeof(*d->fixes));
	f = &d->fixes[d->nfixes++];
	*f = (struct doctor_fix){ .text = xstrdup(text) };
	if (strcmp(text, "pgmqd migrate") == 0) {
		f->error = run_migrate(d);
		return;
	}
	res = PQexec(d->db.conn, text); /* several statements are one transaction */
	if (PQresultStatus(res) != PGRES_TUPLES_OK && PQresultStatus(res) != PGRES_COMMAND_OK)
		f->error = dbcommand_error(d->db.conn, res);
	PQclear(res);
}

/* --fix: applies what can be, and looks again. */
static void mend(struct doctor *d)
{
	for (size_t i = 0; i < d->nfindings; i++)
		if (d->findings[i].fix)
			apply(d, d->findings[i].fix);
	if (!d->json)
		doctor_print_fixes(d);
	if (d->nfixes)
		examine(d);
}

/* Reads the command line; -1, or the exit status. */
static int read_arguments(struct doctor *d, int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "fix", no_argument, NULL, OPT_FIX },
		{ "json", no_argument, NULL, OPT_JSON }, { "read-only", no_argument, NULL, OPT_READ_ONLY },
		{ "sql-dir", required_argument, NULL, OPT_SQL_DIR },
		{ "snapshot-age", required_argument, NULL, OPT_AGE }, { 0 } };
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		switch (c) {
		case OPT_FIX:
			d->fix = true;
			break;
		case OPT_JSON:
			d->json = true;
			break;
		case OPT_READ_ONLY:
			d->writes = false;
			break;
		case OPT_SQL_DIR:
			d->sql_dir = optarg;
			break;
		case OPT_AGE:
			d->old = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			if (!dbcommand_option(&d->db, c, optarg))
				return dbcommand_bad_option(&d->db, c, argv[optind - 1]);
		}
	}
	return optind < argc ? dbcommand_usage(&d->db, "it takes no arguments, only options") : -1;
}

/* pgmqd doctor; returns the exit status. */
int cmd_doctor(int argc, char **argv)
{
	struct doctor d = { .db.name = "pgmqd doctor", .writes = true, .old = "5min" };
	int status = read_arguments(&d, argc, argv);

	if (status >= 0)
		return status;
	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	setvbuf(stdout, NULL, _IOLBF, 0);
	examine(&d);
	if (d.fix && !d.json)
		doctor_print(&d, true);
	if (d.fix)
		mend(&d);
	if (d.json) {
		doctor_print_json(&d);
	} else {
		if (!d.fix || d.nfixes)
			doctor_print(&d, !d.fix);
		doctor_print_summary(&d);
	}
	status = doctor_worst(&d);
	forget(&d);
	for (size_t i = 0; i < d.nfixes; i++) {
		free(d.fixes[i].text);
		free(d.fixes[i].error);
	}
	free(d.fixes);
	free(d.queues);
	free(d.role);
	doctor_disconnect(&d);
	dbcommand_close(&d.db);
	return status;
}
