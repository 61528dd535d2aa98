/* schedule.c: the command `pgmqd schedule`: lists the schedules, runs one now, or prints when a cron expression is due.
 */
#include "config.h"

#include "base/cron.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The options on the command line. */
struct request {
	struct cmd_db db;
	const char *zone, *from, *cron, *reason, *by;
	int64_t count;
};

/* pgmqd schedule list. */
static int list(const struct request *q)
{
	PGresult *res = cmd_db_run(&q->db, NULL,
		"SELECT name, cron, tz, CASE WHEN NOT enabled THEN 'nobody' WHEN taken_over THEN 'pgmqd (for pg_cron)' "
		"ELSE runner END,"
		" coalesce(to_char(next_due AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), '-'),"
		" coalesce(to_char(last_run AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), '-'), coalesce(last_status, "
		"'-'),"
		" coalesce(last_error, '') FROM pgmqd.schedule ORDER BY name",
		0, NULL);
	int width[7] = { 0 };
	static const char *const titles[] = { "name", "cron", "zone", "run by", "next (UTC)", "last (UTC)", "result" };

	if (!res)
		return 1;
	for (int c = 0; c < 7; c++) {
		width[c] = (int)strlen(titles[c]);
		for (int i = 0; i < PQntuples(res); i++)
			if (PQgetlength(res, i, c) > width[c])
				width[c] = PQgetlength(res, i, c);
	}
	for (int i = -1; i < PQntuples(res); i++) {
		for (int c = 0; c < 6; c++) {
			cmd_print(stdout, i < 0 ? titles[c] : PQgetvalue(res, i, c));
			printf("%*s  ", width[c] - (int)(i < 0 ? strlen(titles[c]) : (size_t)PQgetlength(res, i, c)),
				"");
		}
		cmd_print(stdout, i < 0 ? titles[6] : PQgetvalue(res, i, 6));
		if (i >= 0 && PQgetlength(res, i, 7)) {
			fputs(": ", stdout);
			cmd_print(stdout, PQgetvalue(res, i, 7));
		}
		putchar('\n');
	}
	PQclear(res);
	return 0;
}

/* pgmqd schedule run NAME: now, beside its own times, which stay as they are. */
static int run_now(const struct request *q, const char *name)
{
	const char *params[] = { name, cmd_who(q->by) };
	PGresult *res = cmd_db_run(
		&q->db, NULL, "SELECT status, coalesce(error, ''), ms FROM pgmqd.run_now($1, $2)", 2, params);
	bool good;

	if (!res)
		return 1;
	good = strcmp(PQgetvalue(res, 0, 0), "ok") == 0;
	printf("%s: %s%s", name, PQgetvalue(res, 0, 0), PQgetlength(res, 0, 1) ? ": " : "");
	cmd_print(stdout, PQgetvalue(res, 0, 1));
	printf(" (%s ms)\n", PQgetvalue(res, 0, 2));
	PQclear(res);
	return good ? 0 : 1;
}

/* pgmqd schedule history NAME: its last runs, the newest first. */
static int print_history(const struct request *q, const char *name)
{
	static const char sql[] =
		"SELECT r->>'started_at', r->>'status', coalesce(r->>'ms', '-'), coalesce(r->>'error', '') FROM "
		"jsonb_array_elements(pgmqd.schedule_status($1, 100)->'schedules') s LEFT JOIN LATERAL "
		"jsonb_array_elements(s->'runs') WITH ORDINALITY x (r, n) ON true ORDER BY n";
	const char *params[] = { name };
	PGresult *res = cmd_db_run(&q->db, NULL, sql, 1, params);

	if (!res)
		return 1;
	if (PQntuples(res) == 0) {
		PQclear(res);
		return cmd_db_fail(
			&q->db, xasprintf("there is no schedule \"%s\"; pgmqd schedule list has them all", name));
	}
	for (int i = 0; i < PQntuples(res) && !PQgetisnull(res, i, 0); i++) {
		printf("%s  %-7s %8s ms%s", PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), PQgetvalue(res, i, 2),
			PQgetlength(res, i, 3) ? "  " : "");
		cmd_print(stdout, PQgetvalue(res, i, 3));
		putchar('\n');
	}
	PQclear(res);
	return 0;
}

/* Reads --from, or takes the time of now. -1 to go on, or the exit status. */
static int read_start(const struct request *q, int64_t *at)
{
	struct tm tm = { .tm_isdst = 0 };
	const char *end;

	*at = (int64_t)time(NULL);
	if (!q->from)
		return -1;
	end = strptime(q->from, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end || strcmp(end, "Z") != 0)
		return cmd_usage("schedule", "--from takes a time in UTC such as 2026-11-21T10:00:00Z");
	*at = (int64_t)timegm(&tm);
	return -1;
}

/* pgmqd schedule next EXPRESSION. */
static int print_next(const struct request *q, const char *expression)
{
	char *error, buf[CRON_TIME_SIZE];
	struct cron c;
	int64_t at;
	int status = read_start(q, &at);

	if (status >= 0)
		return status;
	if ((error = cron_parse(&c, expression)) != NULL)
		return cmd_db_fail(&q->db, error);
	if (!cron_zone_exists(q->zone))
		return cmd_db_fail(&q->db, xasprintf("the system does not know the time zone \"%s\"", q->zone));
	for (int64_t left = q->count; left > 0 && (at = cron_next(&c, q->zone, at)) != -1; left--)
		puts(cron_time(at, buf));
	return 0;
}

/* pgmqd schedule pause, resume and edit: changes a schedule and prints how it is now. */
static int change(const struct request *q, const char *name, const char *enabled)
{
	const char *params[] = { name, q->cron, q->zone, enabled, q->reason, cmd_who(q->by) };
	struct request after = *q;
	PGresult *res;
	char *error;
	struct cron c;
	int status;

	if (!enabled && !q->cron && !q->zone)
		return cmd_usage("schedule", "edit takes --cron TEXT, --zone ZONE, or both");
	if (q->cron && (error = cron_parse(&c, q->cron)) != NULL)
		return cmd_db_fail(&q->db, error);
	res = cmd_db_run(&q->db, NULL,
		"SELECT CASE WHEN (e->>'changed')::boolean THEN '' ELSE ' already' END, e->>'cron', e->>'tz', "
		"(e->>'enabled')::boolean FROM pgmqd.edit_schedule($1, jsonb_strip_nulls(jsonb_build_object('cron', "
		"$2::text, 'tz', $3::text, 'enabled', $4::boolean, 'why', $5::text)), $6) e",
		6, params);
	if (!res)
		return 1;
	printf("%s: %s%s, \"%s\" in %s\n", name, *PQgetvalue(res, 0, 3) == 't' ? "enabled" : "paused",
		PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 1), PQgetvalue(res, 0, 2));
	after.zone = PQgetvalue(res, 0, 2);
	status = enabled ? 0 : print_next(&after, PQgetvalue(res, 0, 1));
	PQclear(res);
	return status;
}

/* pgmqd schedule. */
static int schedule(void *request, int argc, char **argv)
{
	struct request *q = request;
	const char *what = argv[0];

	if (strcmp(what, "next") == 0) {
		q->zone = q->zone ? q->zone : "UTC";
		return print_next(q, argv[1]);
	}
	if (!cmd_db_ready(&q->db))
		return 1;
	if (argc == 1)
		return list(q);
	if (strcmp(what, "history") == 0)
		return print_history(q, argv[1]);
	if (strcmp(what, "run") == 0)
		return run_now(q, argv[1]);
	return change(q, argv[1], strcmp(what, "pause") == 0 ? "f" : strcmp(what, "resume") == 0 ? "t" : NULL);
}

static const struct request defaults = { .count = 5 };

static const struct cmd_option options[] = {
	CMD_OPTION("zone", 0, CMD_TEXT, struct request, zone, "ZONE",
		"next, edit: IANA time zone of the expression (next: UTC without it)"),
	CMD_OPTION("cron", 0, CMD_TEXT, struct request, cron, "TEXT",
		"edit: minute, hour, day of the month, month and day of the week"),
	CMD_OPTION("reason", 0, CMD_TEXT, struct request, reason, "TEXT", "pause, resume, edit: why; it is recorded"),
	CMD_BY(by),
	CMD_OPTION("from", 0, CMD_TEXT, struct request, from, "TIME",
		"next: begin after this time, such as 2026-11-21T10:00:00Z (default: now)"),
	CMD_OPTION("count", 0, CMD_NUMBER, struct request, count, "N", "next: how many times to print (default 5)",
		.least = 1, .most = 1000000),
	{ 0 },
};

const struct command cmd_schedule = {
	.name = "schedule",
	.summary = "list, run, pause and change the schedules",
	.usage = "list\nhistory NAME\nrun|pause|resume|edit NAME\nnext EXPRESSION",
	.text = "list prints the schedules of the database, run runs one of them now, whether pgmqd or pg_cron runs it "
		"otherwise. pause and resume switch one off and on, edit changes its time or its zone and prints "
		"when it is due then, history prints its last runs, "
		"and next prints when a cron expression is due, without a database.",
	.exits = "Exit status: 0 success, 1 failure, 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.defaults = &defaults,
	.run = schedule,
	CMD_DB,
};
