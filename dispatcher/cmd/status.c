/* status.c: the command `pgmqd status`: the figures of each queue from the database, and those of its worker from the
 * daemon, if one answers. */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/daemon.h"
#include "cmd/db.h"
#include "control/queues.h"
#include "settings/settings.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* The options on the command line, and the daemon's figures. */
struct status {
	struct cmd_db db;
	const char *listen, *sort;
	char **names; /* the queues of the command line */
	int nnames;
	int64_t watch; /* seconds; 0: once */
	bool json;
	struct daemon daemon;
};

/* The database's figures of each queue. */
static const char sql[] =
	"SELECT s.queue, s.waiting, s.due, s.delayed, s.leased, s.oldest_due_s, s.dead_letters, r.archived_1min,"
	" r.archived_5min, r.attempts_avg, r.attempts_max,"
	" s.attached, s.problem, p.paused_by, p.reason, p.paused_at AT TIME ZONE 'UTC' || 'Z', s.next_due AT TIME"
	" ZONE 'UTC' || 'Z', k.by_rate, k.by_key, k.by_place, k.by_pause, k.keys"
	" FROM pgmqd.queue_status() s LEFT JOIN LATERAL pgmqd.kept_back(s.queue) k ON true LEFT JOIN"
	" pgmqd.queue_rates() r USING (queue) LEFT JOIN pgmqd.paused_queues() p"
	" ON lower(p.queue) = lower(s.queue)"
	" ORDER BY %s s.queue";

/* The values of --sort, and the order of rows that each stands for. */
static const struct {
	const char *name, *order;
} sorts[] = { { "queue", "" }, { "waiting", "s.waiting DESC NULLS LAST," },
	{ "oldest", "s.oldest_due_s DESC NULLS LAST," }, { "dead", "s.dead_letters DESC NULLS LAST," },
	{ "done", "r.archived_1min DESC NULLS LAST," } };

enum {
	C_QUEUE,
	C_WAITING,
	C_DUE,
	C_DELAYED,
	C_LEASED,
	C_OLDEST,
	C_DEAD,
	C_1MIN,
	C_5MIN,
	C_ATT_AVG,
	C_ATT_MAX,
	C_ATTACHED,
	C_PROBLEM,
	C_BY,
	C_REASON,
	C_AT,
	C_NEXT,
	C_BY_RATE, /* the columns of pgmqd.kept_back(), in their order */
	C_BY_KEY,
	C_BY_PLACE,
	C_BY_PAUSE,
	C_KEYS
};

static const char *const stage_names[DAEMON_NSTAGES] = { "commit_to_wake", "commit_to_start", "start_to_done" };

/* Whether a row is asked for. */
static bool wanted(const struct status *s, const char *queue)
{
	for (int i = 0; i < s->nnames; i++)
		if (strcmp(s->names[i], queue) == 0)
			return true;
	return s->nnames == 0;
}

/* ---- JSON ---- */

/* A column as a number, or null. */
static void add_number(cJSON *o, const char *key, const PGresult *res, int row, int col)
{
	if (PQgetisnull(res, row, col))
		cJSON_AddNullToObject(o, key);
	else
		cJSON_AddNumberToObject(o, key, atof(PQgetvalue(res, row, col)));
}

/* A column as a text, or null. */
static void add_text(cJSON *o, const char *key, const PGresult *res, int row, int col)
{
	if (PQgetisnull(res, row, col))
		cJSON_AddNullToObject(o, key);
	else
		cJSON_AddStringToObject(o, key, PQgetvalue(res, row, col));
}

/* The daemon's part. */
static void add_worker(cJSON *o, const struct daemon_queue *q)
{
	cJSON *w = cJSON_AddObjectToObject(o, "worker"), *stages, *stage;

	cJSON_AddStringToObject(w, "plugin", q->plugin);
	cJSON_AddStringToObject(w, "state", q->state);
	cJSON_AddNumberToObject(w, "processes", q->processes);
	cJSON_AddNumberToObject(w, "restarts", q->restarts);
	cJSON_AddNumberToObject(w, "in_flight", q->in_flight);
	cJSON_AddNumberToObject(w, "done", q->done);
	cJSON_AddNumberToObject(w, "retried", q->retried);
	cJSON_AddNumberToObject(w, "dead_lettered", q->dead);
	cJSON_AddNumberToObject(w, "leases_lost", q->lost);
	stages = cJSON_AddObjectToObject(w, "seconds");
	for (int i = 0; i < DAEMON_NSTAGES; i++) {
		double p50 = daemon_quantile(&q->stages[i], 0.5), p99 = daemon_quantile(&q->stages[i], 0.99);

		if (p50 < 0)
			continue;
		stage = cJSON_AddObjectToObject(stages, stage_names[i]);
		cJSON_AddNumberToObject(stage, "p50", p50);
		cJSON_AddNumberToObject(stage, "p99", p99);
	}
	if (q->numbers)
		cJSON_AddItemToObject(w, "numbers", cJSON_Duplicate(q->numbers, true));
	if (*q->error)
		cJSON_AddStringToObject(w, "last_error", q->error);
	else
		cJSON_AddNullToObject(w, "last_error");
}

/* Everything as one object. */
static void print_json(const struct status *s, const PGresult *res)
{
	cJSON *o = cJSON_CreateObject(), *list, *q, *pause;

	cJSON_AddBoolToObject(o, "daemon", s->daemon.problem == NULL);
	if (s->daemon.problem)
		cJSON_AddStringToObject(o, "daemon_problem", s->daemon.problem);
	list = cJSON_AddArrayToObject(o, "queues");
	for (int i = 0; i < PQntuples(res); i++) {
		const struct daemon_queue *worker = daemon_find(&s->daemon, PQgetvalue(res, i, C_QUEUE));

		if (!wanted(s, PQgetvalue(res, i, C_QUEUE)))
			continue;
		q = cJSON_CreateObject();
		cJSON_AddItemToArray(list, q);
		add_text(q, "queue", res, i, C_QUEUE);
		add_number(q, "waiting", res, i, C_WAITING);
		add_number(q, "due", res, i, C_DUE);
		add_number(q, "delayed", res, i, C_DELAYED);
		add_number(q, "leased", res, i, C_LEASED);
		add_number(q, "oldest_due_seconds", res, i, C_OLDEST);
		add_text(q, "next_due", res, i, C_NEXT);
		add_number(q, "dead_letters", res, i, C_DEAD);
		add_number(q, "archived_last_minute", res, i, C_1MIN);
		add_number(q, "archived_last_5_minutes", res, i, C_5MIN);
		add_number(q, "attempts_average", res, i, C_ATT_AVG);
		add_number(q, "attempts_most", res, i, C_ATT_MAX);
		cJSON_AddBoolToObject(q, "attached", strcmp(PQgetvalue(res, i, C_ATTACHED), "t") == 0);
		add_text(q, "problem", res, i, C_PROBLEM);
		if (PQgetisnull(res, i, C_BY)) {
			cJSON_AddNullToObject(q, "paused");
		} else {
			pause = cJSON_AddObjectToObject(q, "paused");
			add_text(pause, "by", res, i, C_BY);
			add_text(pause, "reason", res, i, C_REASON);
			add_text(pause, "at", res, i, C_AT);
		}
		queues_add_kept_back(q, res, i, C_BY_RATE);
		if (worker)
			add_worker(q, worker);
		else
			cJSON_AddNullToObject(q, "worker");
	}
	cmd_print_json(o, !s->watch);
}

/* ---- text ---- */

/* "1.2ms", "340ms", "2.5s", "3.1min", or a dash. `buf` is returned. */
static const char *span(double seconds, char buf[16])
{
	if (seconds < 0 || isnan(seconds))
		snprintf(buf, 16, "-");
	else if (seconds < 0.01)
		snprintf(buf, 16, "%.1fms", seconds * 1000);
	else if (seconds < 1)
		snprintf(buf, 16, "%.0fms", seconds * 1000);
	else if (seconds < 120)
		snprintf(buf, 16, "%.1fs", seconds);
	else if (seconds < 7200)
		snprintf(buf, 16, "%.1fmin", seconds / 60);
	else
		snprintf(buf, 16, "%.1fh", seconds / 3600);
	return buf;
}

/* "p50/p99". `buf` is returned. */
static const char *quantiles(const struct daemon_histogram *h, char buf[40])
{
	char a[16], b[16];

	snprintf(buf, 40, "%s/%s", span(daemon_quantile(h, 0.5), a), span(daemon_quantile(h, 0.99), b));
	return buf;
}

/* A column's text, or a dash. */
static const char *text_of(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? "-" : PQgetvalue(res, row, col);
}

/* A field's text, or "". */
static const char *field(const cJSON *o, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));

	return text ? text : "";
}

/* Prints a line below the line of a queue. */
static void print_note(const char *title, const char *text)
{
	printf("    %s", title);
	cmd_print(stdout, text);
	putchar('\n');
}

/* Prints one of the plugin's own numbers. */
static void print_number(const cJSON *item, double number)
{
	char *text = xasprintf(
		"%s of %s %s: %.0f", field(item, "name"), field(item, "label"), field(item, "value"), number);

	print_note("", text);
	free(text);
}

/* Prints how many messages a limit keeps back. */
static void print_kept_back(const PGresult *res, int i)
{
	static const struct {
		int column;
		const char *what;
	} limits[] = { { C_BY_RATE, "the rate" }, { C_BY_KEY, "a place of their key" },
		{ C_BY_PLACE, "a place of the queue" }, { C_BY_PAUSE, "their key, which is paused or held" } };

	for (size_t n = 0; n < sizeof(limits) / sizeof(*limits); n++)
		if (!PQgetisnull(res, i, limits[n].column) && strcmp(PQgetvalue(res, i, limits[n].column), "0") != 0)
			printf("    %s wait for %s\n", PQgetvalue(res, i, limits[n].column), limits[n].what);
}

/* Prints the keys that are paused or held, or have a weight. */
static void print_keys(const PGresult *res, int i)
{
	cJSON *keys = PQgetisnull(res, i, C_KEYS) ? NULL : cJSON_Parse(PQgetvalue(res, i, C_KEYS));
	const cJSON *key;

	cJSON_ArrayForEach(key, keys)
	{
		const char *until = field(key, "held_until"), *by = field(key, "paused_by"),
			   *why = field(key, "reason");
		double weight = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(key, "weight"));
		char *pause = *by ? xasprintf(": paused by %s since %s%s%s", by, field(key, "paused_at"),
					    *why ? ": " : "", why)
		                  : xstrdup("");
		char *turns = weight != 1 ? xasprintf(": weight %g", weight) : xstrdup("");
		char *text = xasprintf(
			"\"%s\"%s%s%s%s", field(key, "key"), pause, *until ? ": held until " : "", until, turns);

		print_note("key ", text);
		free(pause);
		free(turns);
		free(text);
	}
	cJSON_Delete(keys);
}

/* Prints the notes of a queue below its line. */
static void print_notes(const PGresult *res, int i, const struct daemon_queue *worker)
{
	const cJSON *numbers = worker ? worker->numbers : NULL, *item;

	if (!PQgetisnull(res, i, C_BY)) {
		char *by = log_escape(PQgetvalue(res, i, C_BY)), *reason = log_escape(PQgetvalue(res, i, C_REASON));

		printf("    paused by %s since %s%s%s\n", by, PQgetvalue(res, i, C_AT), *reason ? ": " : "", reason);
		free(by);
		free(reason);
	}
	if (!PQgetisnull(res, i, C_PROBLEM))
		print_note("", PQgetvalue(res, i, C_PROBLEM));
	else if (strcmp(PQgetvalue(res, i, C_ATTACHED), "t") != 0)
		print_note("", "without wake-ups: the queue is only polled (pgmqd doctor says why)");
	print_kept_back(res, i);
	print_keys(res, i);
	if (worker && *worker->error && strncmp(worker->error, "paused by", 9) != 0)
		print_note("last error: ", worker->error);
	/* the plugin's own states, such as a mail provider that is left alone; what is as it should be is 0 */
	cJSON_ArrayForEach(item, numbers)
	{
		double number = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(item, "number"));

		if (strcmp(field(item, "kind"), "gauge") == 0 && number != 0)
			print_number(item, number);
	}
}

/* A table. */
static void print_text(const struct status *s, const PGresult *res)
{
	int width = 5;
	char age[16], wake[40], start[40], done[40];

	for (int i = 0; i < PQntuples(res); i++)
		if (PQgetlength(res, i, C_QUEUE) > width)
			width = PQgetlength(res, i, C_QUEUE);
	printf("%-*s  %-12s %8s %8s %8s %9s %8s %7s %8s %8s", width, "queue", "state", "waiting", "due", "delayed",
		"in flight", "oldest", "dead", "done/min", "attempts");
	printf(s->daemon.problem ? "\n" : "  %-15s %-15s %-15s\n", "wake p50/p99", "start p50/p99", "run p50/p99");
	for (int i = 0; i < PQntuples(res); i++) {
		const struct daemon_queue *worker = daemon_find(&s->daemon, PQgetvalue(res, i, C_QUEUE));
		bool paused = !PQgetisnull(res, i, C_BY);
		char in_flight[24], attempts[24], *queue = log_escape(PQgetvalue(res, i, C_QUEUE));

		if (!wanted(s, PQgetvalue(res, i, C_QUEUE))) {
			free(queue);
			continue;
		}
		if (worker)
			snprintf(in_flight, sizeof(in_flight), "%.0f", worker->in_flight);
		else
			snprintf(in_flight, sizeof(in_flight), "%.20s", text_of(res, i, C_LEASED));
		snprintf(attempts, sizeof(attempts), PQgetisnull(res, i, C_ATT_AVG) ? "-" : "%.1f",
			atof(PQgetvalue(res, i, C_ATT_AVG)));
		printf("%-*s  %-12s %8s %8s %8s %9s %8s %7s %8s %8s", width, queue,
			paused   ? "paused"
			: worker ? worker->state
				 : "-",
			text_of(res, i, C_WAITING), text_of(res, i, C_DUE), text_of(res, i, C_DELAYED), in_flight,
			span(PQgetisnull(res, i, C_OLDEST) ? -1 : atof(PQgetvalue(res, i, C_OLDEST)), age),
			text_of(res, i, C_DEAD), text_of(res, i, C_1MIN), attempts);
		if (worker)
			printf("  %-15s %-15s %-15s", quantiles(&worker->stages[DAEMON_WAKE], wake),
				quantiles(&worker->stages[DAEMON_START], start),
				quantiles(&worker->stages[DAEMON_RUN], done));
		putchar('\n');
		free(queue);
		print_notes(res, i, worker);
	}
	if (s->daemon.problem)
		printf("\n%s: these are the database's figures alone, and \"in flight\" has what waits for its next "
		       "attempt in it\n",
			s->daemon.problem);
}

/* ---- the round ---- */

/* Begins a round on a terminal: an empty screen, and a clock. */
static void print_clock(const struct status *s)
{
	char now[32];
	time_t t = time(NULL);
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(now, sizeof now, "%Y-%m-%d %H:%M:%S %Z", &tm);
	printf("\033[H\033[J%s, every %lld s; q ends\n\n", now, (long long)s->watch);
}

/* The statement, with the order that --sort wants; NULL after printing that there is none such. Malloc'd. */
static char *sorted_sql(const struct status *s)
{
	for (size_t i = 0; i < sizeof sorts / sizeof *sorts; i++)
		if (strcmp(s->sort ? s->sort : "queue", sorts[i].name) == 0)
			return xasprintf(sql, sorts[i].order);
	cmd_usage("status", "--sort takes queue, waiting, oldest, dead or done, not \"%s\"", s->sort);
	return NULL;
}

/* Looks once and prints it; the exit status. */
static int show(struct status *s, const char *statement)
{
	const char *where = s->listen ? s->listen : s->db.settings ? s->db.settings->http_listen : "127.0.0.1:8089";
	const char *env = getenv("PGMQD_HTTP_TOKEN");
	PGresult *res = cmd_db_run(&s->db, NULL, statement, 0, NULL);
	int status = 0;

	if (!res)
		return 1;
	daemon_free(&s->daemon);
	daemon_fetch(&s->daemon, where, s->db.settings ? s->db.settings->http_token : env ? env : "");
	if (s->watch && !s->json && isatty(STDOUT_FILENO))
		print_clock(s);
	(s->json ? print_json : print_text)(s, res);
	fflush(stdout);
	for (int n = 0; n < s->nnames; n++) {
		bool there = false;

		for (int i = 0; i < PQntuples(res); i++)
			there = there || strcmp(PQgetvalue(res, i, C_QUEUE), s->names[n]) == 0;
		if (!there)
			status = cmd_db_fail(&s->db, xasprintf("there is no queue \"%s\"", s->names[n]));
	}
	PQclear(res);
	return status;
}

static volatile sig_atomic_t interrupted;

/* Notes the signal: the terminal is set back before the process ends of it. */
static void on_interrupt(int signo)
{
	interrupted = signo;
}

/* Waits for the next round; false when somebody has typed q, or interrupts. */
static bool wait_round(const struct status *s, bool keys)
{
	struct pollfd in = { .fd = keys ? STDIN_FILENO : -1, .events = POLLIN };
	struct timespec now, end;
	char key;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += s->watch;
	while (!interrupted) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		int64_t ms = (int64_t)(end.tv_sec - now.tv_sec) * 1000 + (end.tv_nsec - now.tv_nsec) / 1000000;

		if (ms <= 0)
			return true;
		if (poll(&in, 1, (int)ms) <= 0)
			continue;
		if (read(STDIN_FILENO, &key, 1) != 1)
			in.fd = -1;
		else if (key == 'q' || key == 'Q')
			return false;
	}
	return false;
}

/* Shows it again and again. On a terminal a key is read at once, without an echo. */
static int watch(struct status *s, const char *statement)
{
	bool keys = !s->json && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
	struct termios before, raw;
	int result;

	if (keys && tcgetattr(STDIN_FILENO, &before) == 0) {
		raw = before;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		signal(SIGINT, on_interrupt);
		signal(SIGTERM, on_interrupt);
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	} else {
		keys = false;
	}
	while ((result = show(s, statement)) == 0 && wait_round(s, keys))
		;
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	if (interrupted) {
		signal(interrupted, SIG_DFL);
		raise(interrupted);
	}
	return result;
}

/* pgmqd status. */
static int status(void *request, int argc, char **argv)
{
	struct status *s = request;
	char *statement = sorted_sql(s);
	int result;

	s->names = argv;
	s->nnames = argc;
	if (!statement)
		return 2;
	if (!cmd_db_ready(&s->db) || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(statement);
		return 1;
	}
	result = s->watch ? watch(s, statement) : show(s, statement);
	free(statement);
	curl_global_cleanup();
	daemon_free(&s->daemon);
	return result;
}

static const struct cmd_option options[] = {
	CMD_OPTION("watch", 0, CMD_NUMBER, struct status, watch, "SECONDS",
		"print again every SECONDS (default: 2), with a clock, until q is typed or it is interrupted",
		.least = 1, .most = 86400, .optional = true, .absent = 2),
	CMD_OPTION("sort", 0, CMD_TEXT, struct status, sort, "COLUMN",
		"sort by queue (the default), waiting, oldest, dead or done, the largest first"),
	CMD_OPTION("json", 0, CMD_FLAG, struct status, json, NULL, "print one JSON object, or with --watch one a line"),
	CMD_OPTION("listen", 0, CMD_TEXT, struct status, listen, "ADDRESS",
		"the daemon's http_listen, if it is not that of the settings file"),
	{ 0 },
};

const struct command cmd_status = {
	.name = "status",
	.summary = "show each queue and its worker",
	.usage = "[QUEUE ...]",
	.text = "Shows for each queue how many messages wait, run and are dead; and from the running daemon how long "
		"messages "
		"take, the states of its workers, and the last error. When no daemon answers, the figures of the "
		"database are "
		"shown alone.",
	.exits = "Exit status: 0 success; 1 failure, or a QUEUE does not exist; 2 usage error.",
	.options = options,
	.size = sizeof(struct status),
	.run = status,
	CMD_DB,
};
