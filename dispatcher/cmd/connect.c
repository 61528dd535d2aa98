/* connect.c: the command `pgmqd connect`: shows which of the application's tables, columns and statuses mean what,
 * writes that into pgmqd.application, and puts the triggers on the tables. */
#include "config.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"
#include "cmd/migration.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The options on the command line. */
struct request {
	struct cmd_db db;
	int64_t wait;
	bool dry_run;
};

enum { THING, FIELD, NAME, NOTE, STORED, PROBLEM, REMEDY };

static const char find_sql[] = "SELECT thing, field, name, note, stored, problem, remedy FROM pgmqd.find_application()";

/* One value, escaped for a terminal. */
static void print_value(const PGresult *res, int row, int column, int width)
{
	const char *text = PQgetvalue(res, row, column);
	int len = 0;

	cmd_print(stdout, text);
	for (const char *p = text; *p; p++)
		len += ((unsigned char)*p & 0xC0) != 0x80;
	printf("%*s", len < width ? width - len : 0, "");
}

/* Prints what was found, a paragraph for each table; true when each table that was found has all that it needs. */
static bool print_found(const PGresult *res)
{
	bool whole = true;

	for (int i = 0; i < PQntuples(res); i++) {
		bool table = strcmp(PQgetvalue(res, i, FIELD), "table") == 0;

		if (table) {
			print_value(res, i, THING, 13);
			if (PQgetisnull(res, i, NAME))
				fputs("not found", stdout);
		} else {
			fputs("  ", stdout);
			print_value(res, i, FIELD, 21);
			fputs(" ", stdout);
		}
		if (PQgetisnull(res, i, NAME) && !table)
			fputs("not found", stdout);
		else if (*PQgetvalue(res, i, NAME) || table)
			print_value(res, i, NAME, *PQgetvalue(res, i, NOTE) ? 24 : 0);
		else
			fputs("-                       ", stdout);
		if (*PQgetvalue(res, i, NOTE)) {
			fputs(" ", stdout);
			print_value(res, i, NOTE, 0);
		}
		putchar('\n');
		if (PQgetisnull(res, i, PROBLEM))
			continue;
		whole = whole && table;
		fputs(table ? "  " : "    ", stdout);
		print_value(res, i, PROBLEM, 0);
		fputs(table ? "\n  remedy: " : "\n    remedy: ", stdout);
		print_value(res, i, REMEDY, 0);
		putchar('\n');
	}
	return whole;
}

/* Whether `pgmqd migrate` has brought what this command calls. */
static bool check_schema(const struct cmd_db *db)
{
	PGresult *res = cmd_db_run(db, "schema pgmqd", "SELECT to_regclass('pgmqd.application') IS NOT NULL", 0, NULL);
	bool there = res && strcmp(PQgetvalue(res, 0, 0), "t") == 0;

	if (res && !there)
		cmd_db_fail(db, xstrdup("this database has not the application's part of pgmqd: run `pgmqd migrate "
					"--with application` first"));
	PQclear(res);
	return there;
}

/* Shows what is found, and, unless it is a trial, stores it and connects; the exit status. */
static int work(struct request *q)
{
	struct migration m = { .db = &q->db, .until_ms = clock_monotonic_ms() + q->wait };
	PGresult *res;
	bool good;

	if (!cmd_db_run_plain(&q->db, "settings", "BEGIN READ ONLY") ||
		!(res = cmd_db_run(&q->db, "the application's tables", find_sql, 0, NULL)))
		return 1;
	good = print_found(res);
	PQclear(res);
	if (!cmd_db_run_plain(&q->db, "settings", "COMMIT"))
		return 1;
	if (q->dry_run) {
		puts("\nNothing was changed. pgmqd connect stores this in pgmqd.application and connects the tables.");
		return good ? 0 : 1;
	}
	if (!(res = migration_query(&m, "pgmqd.application", "SELECT pgmqd.store_application()")))
		return 1;
	printf("\n%s rows of pgmqd.application written\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	return migration_connect(&m) && good ? 0 : 1;
}

/* pgmqd connect. */
static int run_connect(void *request, int argc, char **argv)
{
	struct request *q = request;

	(void)argc;
	(void)argv;
	if (!cmd_db_load(&q->db) || !migration_open(&q->db) || !check_schema(&q->db))
		return 1;
	return work(q);
}

static const struct request defaults = { .wait = 60000 };

static const struct cmd_option options[] = {
	CMD_OPTION("dry-run", 0, CMD_FLAG, struct request, dry_run, NULL,
		"show what is found and what would have to be done; change nothing"),
	CMD_OPTION("wait", 0, CMD_DURATION, struct request, wait, "TIME",
		"how long to try again while other sessions hold locks (default 60s)"),
	{ 0 },
};

const struct command cmd_connect = {
	.name = "connect",
	.summary = "find the application's tables under other names, and connect them",
	.usage = "",
	.text = "Finds the application's check-ups, appointments, payments and people by the names and types of tables "
		"and columns, shows what it found, stores it in the table pgmqd.application, and puts the triggers on "
		"the tables. Rows of pgmqd.application that are there already stay. It can be run at any time.",
	.exits = "Exit status: 0 success; 1 failure, or a table that was found lacks something; 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.defaults = &defaults,
	.run = run_connect,
	CMD_DB,
};
