/* doctor.c: the command `pgmqd doctor`: goes through one table of checks, and repairs what is safe to repair.
 *
 * A finding says what a check saw, and for a fault exactly what to do. A check is skipped when another one has found
 * that something it needs is missing, so that one fault gives one finding.
 */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "cmd/doctor/connections.h"
#include "cmd/doctor/db.h"
#include "cmd/doctor/finding.h"
#include "cmd/doctor/local.h"
#include "cmd/doctor/print.h"
#include "cmd/doctor/sql.h"
#include "process/proc.h"
#include "settings/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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
	{ "connections", DOCTOR_SETTINGS | DOCTOR_DB, doctor_connections, NULL },
	{ "role", DOCTOR_DB, NULL, doctor_sql_role },
	{ "schema", DOCTOR_DB, doctor_schema, NULL },
	{ "pgmq", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_pgmq },
	{ "queue", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_queues },
	{ "grants", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_grants },
	{ "wake-up", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_wakeups },
	{ "trigger", DOCTOR_DB | DOCTOR_SCHEMA, doctor_triggers, NULL },
	{ "trigger errors", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_trigger_errors },
	{ "function", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_functions },
	{ "access", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_access },
	{ "owner", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_owner },
	{ "defaults", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_defaults },
	{ "dump", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_dump },
	{ "failover", DOCTOR_DB, doctor_failover, NULL },
	{ "pooler", DOCTOR_DB | DOCTOR_PRIMARY, doctor_pooler, NULL },
	{ "notify", DOCTOR_PRIMARY | DOCTOR_HEARING | DOCTOR_SCHEMA, doctor_notify, NULL },
	{ "message", DOCTOR_PRIMARY | DOCTOR_HEARING | DOCTOR_SCHEMA | DOCTOR_CURRENT, doctor_probe, NULL },
	{ "pg_cron", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, doctor_cron, NULL },
	{ "schedule", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, doctor_schedules, NULL },
	{ "vacuum", DOCTOR_DB | DOCTOR_SCHEMA, NULL, doctor_sql_vacuum },
	{ "snapshot", DOCTOR_DB | DOCTOR_PRIMARY, NULL, doctor_sql_snapshots },
	{ "lock", DOCTOR_DB | DOCTOR_PRIMARY | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_locks },
	{ "notify queue", DOCTOR_DB | DOCTOR_PRIMARY, NULL, doctor_sql_usage },
	{ "dispatcher", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_dispatcher },
	{ "limits", DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_limits },
	{ "unserved", DOCTOR_SETTINGS | DOCTOR_DB | DOCTOR_SCHEMA | DOCTOR_CURRENT, NULL, doctor_sql_unserved },
};

/* ---- the round ---- */

/* All checks, once. */
static void examine(struct doctor *d)
{
	doctor_forget(d);
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

/* Runs `pgmqd migrate` on our database. NULL, or its output when it failed. */
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

/* Applies one fix, unless another finding has had it applied already. */
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
		f->error = cmd_db_error(d->db.conn, res);
	PQclear(res);
}

/* --fix: applies the safe repairs, and checks again. */
static void repair(struct doctor *d)
{
	for (size_t i = 0; i < d->nfindings; i++)
		if (d->findings[i].fix)
			apply(d, d->findings[i].fix);
	if (!d->json)
		doctor_print_fixes(d);
	if (d->nfixes)
		examine(d);
}

/* Frees the findings, and what the checks have learnt. */
static void forget_all(struct doctor *d)
{
	doctor_forget(d);
	for (size_t i = 0; i < d->nfixes; i++) {
		free(d->fixes[i].text);
		free(d->fixes[i].error);
	}
	free(d->fixes);
	free(d->queues);
	free(d->role);
	doctor_disconnect(d);
}

/* pgmqd doctor. */
static int doctor(void *request, int argc, char **argv)
{
	struct doctor *d = request;
	int status;

	(void)argc;
	(void)argv;
	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
	examine(d);
	if (d->fix && !d->json)
		doctor_print(d, true);
	if (d->fix)
		repair(d);
	if (d->json) {
		doctor_print_json(d);
	} else {
		if (!d->fix || d->nfixes)
			doctor_print(d, !d->fix);
		doctor_print_summary(d);
	}
	status = doctor_worst(d);
	forget_all(d);
	return status;
}

static const struct doctor defaults = { .old = "5min" };

static const struct cmd_option options[] = {
	CMD_OPTION("fix", 0, CMD_FLAG, struct doctor, fix, NULL,
		"print the repairs that are safe, apply them, and check again"),
	CMD_OPTION("json", 0, CMD_FLAG, struct doctor, json, NULL, "print one JSON object"),
	CMD_OPTION("read-only", 0, CMD_FLAG, struct doctor, read_only, NULL,
		"do not send a message through the queue pgmqd_probe, which is made for it"),
	CMD_OPTION("sql-dir", 0, CMD_TEXT, struct doctor, sql_dir, "DIR",
		"the files of pgmqd migrate (default: $PGMQD_SQL_DIR, else the settings file's)"),
	CMD_OPTION("snapshot-age", 0, CMD_TEXT, struct doctor, old, "AGE",
		"report transactions that have held back vacuum for this time, as PostgreSQL writes it (default: "
		"5min)"),
	{ 0 },
};

const struct command cmd_doctor = {
	.name = "doctor",
	.summary = "check the settings, the database and the servers, and say how to repair what is wrong",
	.usage = "",
	.text = "Checks everything that pgmqd needs, and prints for each fault what to do: settings, plugins, mail "
		"server, "
		"templates, connection, roles, queues, triggers, functions, notifications, schedules, vacuum, "
		"clocks.\n\n"
		"Without -c it reads the settings file of `pgmqd run`; with -d alone it reads none.",
	.exits = "Exit status: 0 no fault; 1 warnings; 2 failures, or a usage error.",
	.options = options,
	.size = sizeof(struct doctor),
	.defaults = &defaults,
	.run = doctor,
	CMD_DB,
};
