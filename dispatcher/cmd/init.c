/* init.c: the command `pgmqd init`: looks at a database and writes a settings file for it. */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"
#include "pg/conninfo.h"
#include "settings/assumed.h"
#include "settings/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The options on the command line, and the answers of the database. */
struct request {
	struct cmd_db db;
	const char *output;
	PGresult *queues; /* the names, those of dead-letter queues left out; NULL without pgmq */
	bool migrated;
};

/* One question about the database each: its name, and the statement with the answer as a text. */
static const struct {
	const char *what, *sql;
} questions[] = {
	{ "server", "SELECT 'PostgreSQL ' || current_setting('server_version') || ', database ' || current_database()"
		    " || ', role ' || session_user || CASE WHEN r.rolsuper THEN ' (a superuser)' ELSE '' END"
		    " FROM pg_roles r WHERE r.rolname = session_user" },
	{ "pgmq", "SELECT coalesce((SELECT 'extension ' || extversion FROM pg_extension WHERE extname = 'pgmq'), CASE "
		  "WHEN"
		  " to_regclass('pgmq.meta') IS NOT NULL THEN 'its tables, without the extension' WHEN EXISTS (SELECT "
		  "FROM"
		  " pg_available_extensions WHERE name = 'pgmq') THEN 'available as an extension, migrate creates it' "
		  "ELSE"
		  " 'not available as an extension, migrate makes the same tables and functions' END)" },
	{ "pg_cron", "SELECT coalesce((SELECT 'extension ' || extversion || ', it runs the schedules' FROM "
		     "pg_extension WHERE"
		     " extname = 'pg_cron'), 'none, pgmqd runs the schedules')" },
	{ "schema pgmqd",
		"SELECT CASE WHEN to_regclass('pgmqd.schema_version') IS NULL THEN 'none yet' ELSE 'there' END" },
	{ "role pgmqd",
		"SELECT CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgmqd') THEN 'there; let the daemon"
		" log in as this one' ELSE 'none yet, migrate makes it' END" },
	{ "application",
		"SELECT coalesce('tables ' || string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname), 'none of the"
		" tables assessments, appointments, payments; after migrate, pgmqd connect"
		" looks for other names') FROM pg_class c JOIN pg_namespace n ON n.oid ="
		" c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname IN "
		"('assessments',"
		" 'appointments', 'payments', 'profiles')" },
};

/* Prints what is known of the database, to the terminal and as comments of the file. */
static bool describe(struct request *q, FILE *out)
{
	fprintf(out, "# pgmqd.conf: made by `pgmqd init`; pgmqd.conf(5) explains every setting.\n#\n# The database:\n");
	for (size_t i = 0; i < sizeof(questions) / sizeof(*questions); i++) {
		PGresult *res = cmd_db_run(&q->db, questions[i].what, questions[i].sql, 0, NULL);

		if (!res)
			return false;
		char *answer = log_escape(PQgetvalue(res, 0, 0));

		printf("%-13s %s\n", questions[i].what, answer);
		fprintf(out, "#   %-13s %s\n", questions[i].what, answer);
		free(answer);
		PQclear(res);
	}
	return true;
}

/* Whether the database has a queue of this name. */
static bool has_queue(const struct request *q, const char *name)
{
	for (int i = 0; i < PQntuples(q->queues); i++)
		if (strcmp(PQgetvalue(q->queues, i, 0), name) == 0)
			return true;
	return false;
}

/* Reads the names of the queues. */
static bool read_queues(struct request *q)
{
	PGresult *res = cmd_db_run(&q->db, "queues",
		"SELECT to_regclass('pgmq.meta') IS NOT NULL, to_regclass('pgmqd.schema_version') IS NOT NULL", 0,
		NULL);
	bool there = res && strcmp(PQgetvalue(res, 0, 0), "t") == 0;

	q->migrated = res && strcmp(PQgetvalue(res, 0, 1), "t") == 0;
	PQclear(res);
	if (!res)
		return false;
	q->queues = cmd_db_run(&q->db, "queues",
		there ? "SELECT m.queue_name FROM pgmq.meta m WHERE NOT EXISTS (SELECT FROM pgmq.meta o WHERE"
			" m.queue_name = o.queue_name || '_dlq') ORDER BY 1"
		      : "SELECT NULL WHERE false",
		0, NULL);
	return q->queues != NULL;
}

/* The section [pgmqd]: the database where the command line names it, else what the environment says. */
static void write_global(const struct request *q, FILE *out)
{
	const char *given = q->db.database;

	fprintf(out, "\n[pgmqd]\n");
	if (given)
		fprintf(out,
			"# The role should be pgmqd, which has the least rights; migrate makes it, and you set its "
			"password.\n"
			"database = %s\n",
			given);
	else
		fprintf(out,
			"# The connection comes from the environment (%s); it wins only where this file says nothing.\n"
			"#database = host=db.example.test dbname=app user=pgmqd sslmode=verify-full\n",
			*cmd_db_conninfo(&q->db) ? "DATABASE_URL" : "PGHOST and so on");
	fprintf(out, "# The status page, /metrics and the API; an address beyond this machine needs http_token.\n"
		     "#http_listen = 127.0.0.1:8089\n");
}

/* The section of a queue whose plugin is known; commented out while its settings are missing. */
static void write_known(const struct request *q, FILE *out, const struct assumed_queue *k)
{
	char *missing = assumed_missing(k), *more = assumed_options(k), *text;
	const char *sign = missing ? "#" : "";

	if (!has_queue(q, k->name))
		fprintf(out, "\n# This queue does not exist yet; pgmqd migrate creates it%s.\n",
			k->job ? ", or SELECT pgmqd.create_queue(...)" : "");
	else
		putc('\n', out);
	if (missing)
		fprintf(out, "# Its plugin needs %s in the environment, or the same settings here: see pgmqd-%s(7).\n",
			missing, k->plugin);
	text = xasprintf("[queue %s]\nplugin = %s%s", k->name, k->plugin, more);
	for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
		fprintf(out, "%s%s\n", *line ? sign : "", line);
	printf("%-13s %s%s%s\n", "queue", k->name, missing ? ": commented out, its plugin needs " : ": plugin ",
		missing ? missing : k->plugin);
	free(missing);
	free(more);
	free(text);
}

/* Whether a plugin is known for a queue. */
static bool is_known(const char *name)
{
	for (const struct assumed_queue *k = assumed_queues; k->name; k++)
		if (strcmp(k->name, name) == 0)
			return true;
	return false;
}

/* The sections of all queues. */
static void write_queues(const struct request *q, FILE *out)
{
	for (const struct assumed_queue *k = assumed_queues; k->name; k++) {
		char *missing = k->job ? assumed_missing(k) : NULL;

		if (!missing)
			write_known(q, out, k);
		free(missing);
	}
	for (int i = 0; i < PQntuples(q->queues); i++) {
		const char *name = PQgetvalue(q->queues, i, 0);
		char *shown = log_escape(name);

		if (!is_known(name)) {
			fprintf(out,
				"\n# A queue of the database. Choose its plugin: webhook, exec, or one of your own.\n"
				"#[queue %s]\n#plugin = webhook\n#url = https://app.example.test/hooks\n",
				shown);
			printf("%-13s %s: commented out, choose its plugin\n", "queue", shown);
		}
		free(shown);
	}
}

/* Names the three next commands. */
static void print_next(const struct request *q)
{
	const char *e = q->db.env_file ? " -e " : "", *file = q->db.env_file ? q->db.env_file : "";

	printf("\n%s is written. Next:\n", q->output);
	printf("  pgmqd migrate -c %s%s%s    # as the owner of the application's tables%s\n", q->output, e, file,
		q->migrated ? ", if it is not up to date" : "");
	printf("  pgmqd doctor -c %s%s%s\n", q->output, e, file);
	printf("  pgmqd run -c %s%s%s\n", q->output, e, file);
}

/* Writes the file, which must not exist yet: only its owner can read it, for it may hold a password. */
static int write_file(struct request *q)
{
	int fd = open(q->output, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool good;

	if (!out)
		return cmd_db_fail(&q->db, xasprintf("cannot create %s: %s%s", q->output, strerror(errno),
						   errno == EEXIST ? " (-o names another file)" : ""));
	good = describe(q, out);
	if (good) {
		write_global(q, out);
		write_queues(q, out);
	}
	if (fclose(out) != 0 && good) {
		good = false;
		cmd_db_fail(&q->db, xasprintf("cannot write %s: %s", q->output, strerror(errno)));
	}
	if (!good) {
		unlink(q->output);
		return 1;
	}
	print_next(q);
	return 0;
}

/* pgmqd init. */
static int init(void *request, int argc, char **argv)
{
	struct request *q = request;
	char *warning;
	int status = 1;

	(void)argc;
	(void)argv;
	if (!cmd_db_load(&q->db))
		return 1;
	if ((warning = conninfo_pooler(cmd_db_conninfo(&q->db))) != NULL)
		fprintf(stderr, "%s: the connection string: %s\n", q->db.name, warning);
	free(warning);
	if (cmd_db_connect(&q->db) && read_queues(q))
		status = write_file(q);
	PQclear(q->queues);
	return status;
}

static const struct request defaults = { .output = "pgmqd.conf" };

static const struct cmd_option options[] = {
	CMD_OPTION("output", 'o', CMD_TEXT, struct request, output, "FILE",
		"the file to write, which must not exist yet (default: pgmqd.conf)"),
	{ 0 },
};

const struct command cmd_init = {
	.name = "init",
	.summary = "look at a database and write a settings file for it",
	.usage = "",
	.text = "Looks at a database (its version, pgmq, queues, roles, the application's tables) and at the "
		"environment, "
		"writes a commented settings file for them, and prints the three next commands. It changes nothing in "
		"the "
		"database.",
	.exits = "Exit status: 0 success, 1 failure, 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.defaults = &defaults,
	.run = init,
	CMD_DB,
};
