/* schedule.c: the command `pgmqd schedule`: lists what runs by the clock, runs one of it now, or tells the times of an
 * expression. */
#include "config.h"

#include "base/cron.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "settings/settings.h"

#include <getopt.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
	"usage: pgmqd schedule list [-c FILE] [--env-file FILE] [-d CONNINFO]\n"
	"       pgmqd schedule run NAME [-c FILE] [--env-file FILE] [-d CONNINFO]\n"
	"       pgmqd schedule next EXPRESSION [--zone ZONE] [--from TIME] [--count N]\n"
	"\n"
	"list shows the schedules of the database, run runs one of them now, whoever runs it by the clock, and next "
	"tells when a cron\n"
	"expression is due.\n"
	"\n"
	"  -c, --config FILE        settings file that names the database\n"
	"  -d, --database CONNINFO  database, as libpq takes it (else that of -c, else $DATABASE_URL, else $PGHOST and "
	"so on)\n"
	"  -e, --env-file FILE      read NAME=value lines into the environment first; what is set there already stays\n"
	"      --zone ZONE          IANA time zone of the expression (default UTC)\n"
	"      --from TIME          count from this time, such as 2026-11-21T10:00:00Z (default: now)\n"
	"      --count N            how many times (default 5)\n"
	"  -h, --help               this text\n";

/* What was asked for. */
struct request {
	const char *conf, *env_file, *database, *zone, *from, *count;
};

/* Tells what is wrong with the arguments; the exit status. */
static int usage(const char *problem)
{
	fprintf(stderr, "pgmqd schedule: %s; see pgmqd schedule --help\n", problem);
	return 2;
}

/* Tells what failed, and frees it; the exit status. */
static int fail(char *text)
{
	size_t n = strlen(text);

	while (n && text[n - 1] == '\n')
		text[--n] = 0;
	fprintf(stderr, "pgmqd schedule: %s\n", text);
	free(text);
	return 1;
}

/* Connects; NULL after telling why not. */
static PGconn *schedule_connect(const struct request *q)
{
	const char *keys[] = { "dbname", "client_encoding", "fallback_application_name", NULL };
	const char *values[] = { "", "UTF8", "pgmqd schedule", NULL };
	struct settings *settings = NULL;
	char *error = NULL;
	PGconn *conn;

	if ((q->env_file && (error = settings_env_file(q->env_file)) != NULL) ||
		(q->conf && !(settings = settings_load(q->conf, &error)))) {
		fail(error);
		return NULL;
	}
	values[0] = q->database ? q->database : settings ? settings->database : getenv("DATABASE_URL");
	if (!values[0])
		values[0] = "";
	conn = PQconnectdbParams(keys, values, 1);
	settings_free(settings);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	fail(xasprintf("cannot connect to the database: %s", PQerrorMessage(conn)));
	PQfinish(conn);
	return NULL;
}

/* Runs a query that returns rows; NULL after telling why not. */
static PGresult *query(PGconn *conn, const char *sql, int nparams, const char *const *params)
{
	PGresult *res = PQexecParams(conn, sql, nparams, NULL, params, NULL, NULL, 0);

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	fail(xstrdup(PQerrorMessage(conn)));
	PQclear(res);
	return NULL;
}

/* pgmqd schedule list. */
static int schedule_list(PGconn *conn)
{
	PGresult *res = query(conn,
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
		for (int c = 0; c < 6; c++)
			printf("%-*s  ", width[c], i < 0 ? titles[c] : PQgetvalue(res, i, c));
		printf("%s%s%s\n", i < 0 ? titles[6] : PQgetvalue(res, i, 6),
			i >= 0 && PQgetlength(res, i, 7) ? ": " : "", i < 0 ? "" : PQgetvalue(res, i, 7));
	}
	PQclear(res);
	return 0;
}

/* pgmqd schedule run NAME: now, beside its own times, which stay as they are. */
static int schedule_run(PGconn *conn, const char *name)
{
	const char *params[] = { name };
	PGresult *res = query(conn, "SELECT status, coalesce(error, ''), ms FROM pgmqd.run_now($1)", 1, params);
	bool good;

	if (!res)
		return 1;
	good = strcmp(PQgetvalue(res, 0, 0), "ok") == 0;
	printf("%s: %s%s%s (%s ms)\n", name, PQgetvalue(res, 0, 0), PQgetlength(res, 0, 1) ? ": " : "",
		PQgetvalue(res, 0, 1), PQgetvalue(res, 0, 2));
	PQclear(res);
	return good ? 0 : 1;
}

/* pgmqd schedule next EXPRESSION. */
static int schedule_next(const struct request *q, const char *expression)
{
	const char *zone = q->zone ? q->zone : "UTC", *end;
	long count = q->count ? strtol(q->count, NULL, 10) : 5;
	int64_t at = (int64_t)time(NULL);
	struct tm tm = { .tm_isdst = 0 };
	struct cron c;
	char *error = cron_parse(&c, expression), buf[40];

	if (error)
		return fail(error);
	if (!cron_zone_exists(zone))
		return fail(xasprintf("the system does not know the time zone \"%s\"", zone));
	if (count < 1 || count > 1000000)
		return usage("--count takes a number from 1 to 1000000");
	if (q->from) {
		end = strptime(q->from, "%Y-%m-%dT%H:%M:%S", &tm);
		if (!end || strcmp(end, "Z") != 0)
			return usage("--from takes a time in UTC such as 2026-11-21T10:00:00Z");
		at = (int64_t)timegm(&tm);
	}
	for (; count > 0 && (at = cron_next(&c, zone, at)) != -1; count--) {
		time_t t = (time_t)at;

		gmtime_r(&t, &tm);
		strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);
		puts(buf);
	}
	return 0;
}

/* pgmqd schedule; returns the exit status. */
int cmd_schedule(int argc, char **argv)
{
	enum { OPT_ZONE = 256, OPT_FROM, OPT_COUNT };
	static const struct option longs[] = { { "config", required_argument, NULL, 'c' },
		{ "database", required_argument, NULL, 'd' }, { "env-file", required_argument, NULL, 'e' },
		{ "zone", required_argument, NULL, OPT_ZONE }, { "from", required_argument, NULL, OPT_FROM },
		{ "count", required_argument, NULL, OPT_COUNT }, { "help", no_argument, NULL, 'h' }, { 0 } };
	struct request q = { 0 };
	const char *what, *name;
	PGconn *conn;
	int c, status;

	while ((c = getopt_long(argc, argv, "c:d:e:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			q.conf = optarg;
			break;
		case 'd':
			q.database = optarg;
			break;
		case 'e':
			q.env_file = optarg;
			break;
		case OPT_ZONE:
			q.zone = optarg;
			break;
		case OPT_FROM:
			q.from = optarg;
			break;
		case OPT_COUNT:
			q.count = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		default:
			fputs("`pgmqd schedule --help` lists what there is.\n", stderr);
			return 2;
		}
	}
	what = optind < argc ? argv[optind] : "";
	name = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (strcmp(what, "list") != 0 && strcmp(what, "run") != 0 && strcmp(what, "next") != 0)
		return usage("what it is to do must come first: list, run or next");
	if (optind + (strcmp(what, "list") == 0 ? 1 : 2) != argc)
		return usage(strcmp(what, "list") == 0  ? "list takes no name"
			     : strcmp(what, "run") == 0 ? "run takes one name"
							: "next takes one expression (in quotes)");
	if (strcmp(what, "next") == 0)
		return schedule_next(&q, name);
	conn = schedule_connect(&q);
	if (!conn)
		return 1;
	status = strcmp(what, "list") == 0 ? schedule_list(conn) : schedule_run(conn, name);
	PQfinish(conn);
	return status;
}
