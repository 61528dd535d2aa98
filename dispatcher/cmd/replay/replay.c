/* replay.c: the command `pgmqd replay`: runs archived messages, or dead letters, through another version of a plugin,
 * its templates or its settings, and says what would be different. Nothing is sent and nothing is stored.
 */
#include "config.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"
#include "cmd/plugin/answers.h"
#include "cmd/replay/archive.h"
#include "cmd/replay/page.h"
#include "cmd/replay/pictures.h"
#include "cmd/replay/print.h"
#include "cmd/replay/processes.h"
#include "cmd/replay/version.h"
#include "settings/settings.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SAME = 0, DIFFERENT = 1, FAILED = 2 };

#define PROGRESS_TTY_S 0.2
#define PROGRESS_LOG_S 5.0

/* The options on the command line. */
struct request {
	struct cmd_db db;
	int64_t since, limit;
	const char *where, *plugin, *template_dir, *answers, *log, *html;
	bool dead, against, writes, json, show, requeue_good;
};

struct replay {
	struct request *q;
	struct print_request print;
	struct replay_way way;
	struct replay_messages messages;
	struct replay_version versions[2]; /* new, old */
	size_t nversions;
	struct findings findings;
	double began, shown; /* of progress */
	bool drawn;
	char *snapshot, *scratch;
	cJSON *answers;
};

/* The time that has passed. */
static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- scratch ---- */

/* Removes one file or directory. */
static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

/* Makes the directory that everything is kept in. NULL after printing why not. */
static char *make_scratch(const struct cmd_db *db)
{
	const char *base = getenv("TMPDIR");
	char *dir = xasprintf("%s/pgmqd-replay-XXXXXX", base && *base == '/' ? base : "/tmp");

	if (mkdtemp(dir))
		return dir;
	cmd_db_fail(db, xasprintf("cannot make the directory %s: %s", dir, strerror(errno)));
	free(dir);
	return NULL;
}

/* ---- progress ---- */

/* Shows how far it is, at what rate, and how long it will take. */
static void show_progress(void *arg, size_t through)
{
	struct replay *r = arg;
	size_t all = r->messages.n * r->nversions;
	double now = now_s(), rate = (double)through / (now - r->began + 1e-9);
	bool tty = isatty(STDERR_FILENO);

	if (through == 0 || through == all || now - r->shown < (tty ? PROGRESS_TTY_S : PROGRESS_LOG_S))
		return;
	r->shown = now;
	r->drawn = tty;
	fprintf(stderr, "%spgmqd replay: %zu of %zu runs, %.0f/s, %.0f s left%s", tty ? "\r" : "", through, all, rate,
		(double)(all - through) / rate, tty ? "\033[K" : "\n");
	fflush(stderr);
}

/* ---- findings ---- */

/* Goes through all records. */
static void collect(struct replay *r)
{
	for (size_t i = 0; i < r->messages.n; i++) {
		const struct replay_message *m = &r->messages.list[i];
		cJSON *new = processes_record(&r->way, &r->versions[0], i),
		      *old = r->nversions > 1 ? processes_record(&r->way, &r->versions[1], i) : NULL;

		findings_take(&r->findings, m, i, r->q->dead, r->q->show, new, old);
		if (r->q->json)
			print_replayed(m, r->q->show, new, old);
		cJSON_Delete(new);
		cJSON_Delete(old);
	}
	findings_sort(&r->findings);
}

/* Puts the dead letters back that would now be done. False after printing why not. */
static bool requeue(const struct replay *r)
{
	struct sqltext ids = { 0 };
	const char *params[2] = { r->print.queue, NULL };
	PGresult *res;

	for (size_t i = 0; i < r->findings.ngood; i++)
		sqltext_int(&ids, r->messages.list[r->findings.good[i]].id);
	params[1] = sqltext_end(&ids);
	res = cmd_db_run_plain(&r->q->db, NULL, "COMMIT") /* of what was only read */
	              ? cmd_db_run(&r->q->db, "requeuing", "SELECT dead_id FROM pgmqd.redrive($1, $2::bigint[])", 2,
				params)
	              : NULL;
	sqltext_free(&ids);
	if (!res)
		return false;
	fprintf(r->q->json ? stderr : stdout, "%d dead letters requeued\n", PQntuples(res));
	PQclear(res);
	return true;
}

/* The records of the messages that are samples, by their numbers. */
static cJSON *make_samples(const struct replay *r)
{
	cJSON *samples = cJSON_CreateObject(), *sample;

	for (size_t i = 0; i < r->findings.ngroups; i++) {
		size_t at = r->findings.groups[i].message;
		char number[24];

		snprintf(number, sizeof(number), "%" PRId64, r->messages.list[at].id);
		if (cJSON_HasObjectItem(samples, number))
			continue;
		sample = cJSON_AddObjectToObject(samples, number);
		for (size_t v = 0; v < r->nversions; v++) {
			cJSON *record = processes_record(&r->way, &r->versions[v], at),
			      *shown = print_record(&r->messages.list[at], r->q->show, record);

			pictures_add(shown, record, r->scratch, r->q->show);
			cJSON_AddItemToObject(sample, r->versions[v].name, shown);
			cJSON_Delete(record);
		}
	}
	return samples;
}

/* Writes the page. False after printing why not. */
static bool write_page(const struct replay *r)
{
	char *error = page_write(
		r->q->html, print_summary(&r->print, &r->findings, &r->messages), make_samples(r), r->q->show);

	if (!error)
		return true;
	cmd_db_fail(&r->q->db, error);
	return false;
}

/* Prints what was found; the exit status. */
static int conclude(struct replay *r)
{
	const struct findings *f = &r->findings;

	if (r->q->json) {
		cmd_print_json(print_summary(&r->print, f, &r->messages), false);
	} else {
		print_findings(&r->print, f, &r->messages);
	}
	if (r->q->html && !write_page(r))
		return FAILED;
	if (r->q->requeue_good && f->ngood && !requeue(r))
		return FAILED;
	return f->bad ? FAILED : (r->nversions > 1 ? f->different : f->worse) ? DIFFERENT : SAME;
}

/* ---- running ---- */

/* Makes the versions. NULL, or what is wrong. */
static char *make_versions(struct replay *r, const char *against)
{
	const char *named = getenv("PGMQD_CONF");
	const char *usual = named && *named ? named : SETTINGS_USUAL_PATH;
	const char *installed = access(usual, R_OK) == 0 ? usual : NULL;
	struct version_choice new = { .conf = r->q->db.conf ? r->q->db.conf : installed,
		.plugin = r->q->plugin,
		.template_dir = r->q->template_dir };
	struct version_choice old = { .conf = installed ? installed : r->q->db.conf };
	char *error = version_make(&r->versions[0], "new", r->print.queue, &new);

	r->nversions = 1;
	if (error || !r->q->against)
		return error;
	r->nversions = 2;
	if (against && strcmp(against, "installed") != 0)
		old.conf = against;
	if (!old.conf)
		old.plugin = r->q->plugin;
	return version_make(&r->versions[1], "old", r->print.queue, &old);
}

/* Connects and reads the messages. False after printing what is wrong. */
static bool read_messages(struct replay *r)
{
	struct request *q = r->q;
	const struct archive_choice choice = {
		.queue = r->print.queue, .where = q->where, .since_ms = q->since, .limit = q->limit, .dead = q->dead
	};
	char *error;

	if (q->requeue_good) {
		if (!cmd_db_connect(&q->db))
			return false;
	} else if ((error = cmd_db_open(&q->db)) != NULL) {
		cmd_db_fail(&q->db, xasprintf("cannot connect to the database: %s", error));
		free(error);
		return false;
	}
	r->snapshot = archive_begin(&q->db);
	return r->snapshot && archive_read(&q->db, &choice, &r->messages);
}

/* Runs everything; the exit status. */
static int run(struct replay *r, const char *against)
{
	char *error;

	if (!cmd_db_load(&r->q->db))
		return FAILED;
	if ((error = make_versions(r, against)) != NULL) {
		cmd_db_fail(&r->q->db, error);
		return FAILED;
	}
	if (r->q->answers && !(r->answers = answers_read(r->q->answers, &error))) {
		cmd_db_fail(&r->q->db, error);
		return FAILED;
	}
	if (!read_messages(r) || !(r->scratch = make_scratch(&r->q->db)))
		return FAILED;
	r->way = (struct replay_way){ .conninfo = cmd_db_conninfo(&r->q->db),
		.snapshot = r->snapshot,
		.answers = r->answers,
		.scratch = r->scratch,
		.writes = r->q->writes };
	r->began = r->shown = now_s();
	if (!processes_run(&r->way, &r->messages, r->versions, r->nversions, PQsocket(r->q->db.conn), show_progress, r))
		return FAILED;
	if (r->drawn)
		fputs("\r\033[K", stderr);
	r->findings.seconds = now_s() - r->began;
	r->print.messages = r->messages.n;
	collect(r);
	return conclude(r);
}

/* Refuses options that exclude each other; the exit status, or -1. */
static int check(const struct request *q, int argc, char **argv)
{
	if (argc > 1 && !q->against)
		return cmd_usage("replay", "\"%s\" is unexpected: only --against takes a second argument", argv[1]);
	if (q->requeue_good && !q->dead)
		return cmd_usage("replay", "--requeue-good needs --dead");
	if (log_level_parse(q->log) < 0)
		return cmd_usage("replay", "--log: \"%s\" is none of error, warn, info, debug", q->log);
	return -1;
}

/* pgmqd replay. */
static int replay(void *request, int argc, char **argv)
{
	struct request *q = request;
	struct replay r = { .q = q };
	int status = check(q, argc, argv);

	if (status >= 0)
		return status;
	log_setup((enum log_level)log_level_parse(q->log), LOG_FORMAT_TEXT);
	setvbuf(stdout, NULL, _IOFBF, 0);
	r.print = (struct print_request){ .queue = argv[0], .dead = q->dead, .compared = q->against, .show = q->show };
	status = run(&r, argc > 1 ? argv[1] : NULL);
	fflush(stdout);
	if (r.scratch)
		nftw(r.scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	for (size_t i = 0; i < 2; i++)
		version_free(&r.versions[i]);
	archive_free(&r.messages);
	findings_free(&r.findings);
	cJSON_Delete(r.answers);
	free(r.snapshot);
	free(r.scratch);
	return status;
}

static const struct request defaults = { .limit = 1000, .log = "error" };

static const struct cmd_option options[] = {
	CMD_OPTION("since", 0, CMD_DURATION, struct request, since, "TIME",
		"only messages that were archived (or died) within this time: 7d, 12h"),
	CMD_OPTION("limit", 0, CMD_NUMBER, struct request, limit, "N", "the newest N messages (default 1000)",
		.least = 1, .most = 10000000),
	CMD_OPTION("where", 0, CMD_TEXT, struct request, where, "JSON",
		"only messages that contain this JSON: {\"template\": \"report_ready\"}"),
	CMD_OPTION("dead", 0, CMD_FLAG, struct request, dead, NULL,
		"take the dead letters instead of the archive, and say by reason how many would go through"),
	CMD_OPTION("requeue-good", 0, CMD_FLAG, struct request, requeue_good, NULL,
		"with --dead: put those back into the queue that would go through"),
	CMD_OPTION("plugin", 0, CMD_TEXT, struct request, plugin, "NAME|FILE",
		"the plugin of the new version (default: the one of the settings)"),
	CMD_OPTION("template-dir", 0, CMD_TEXT, struct request, template_dir, "DIR",
		"the mail templates of the new version (default: those of the settings)"),
	CMD_OPTION("against", 0, CMD_FLAG, struct request, against, NULL,
		"also run the old version, and show what differs: \"installed\" (the default) is the usual settings "
		"file with its plugin and its templates; FILE is another settings file"),
	CMD_OPTION("answers", 0, CMD_TEXT, struct request, answers, "FILE",
		"the answers of the database and of servers, one JSON object a line, as for pgmqd plugin test"),
	CMD_OPTION("writes", 0, CMD_FLAG, struct request, writes, NULL,
		"run the statements that write, too, and roll them back; for a copy of the database"),
	CMD_OPTION("json", 0, CMD_FLAG, struct request, json, NULL,
		"print a JSON object for each message, and one for all at the end"),
	CMD_OPTION("html", 0, CMD_TEXT, struct request, html, "DIR",
		"write a page for colleagues, DIR/index.html: each kind of difference with a sample side by side"),
	CMD_OPTION("show", 0, CMD_FLAG, struct request, show, NULL, "do not mask personal data"),
	CMD_OPTION("log", 0, CMD_TEXT, struct request, log, "LEVEL",
		"log to standard error: error (default), warn, info, debug"),
	{ 0 },
};

const struct command cmd_replay = {
	.name = "replay",
	.summary = "run archived messages through a new version, and show what differs",
	.usage = "QUEUE [installed|FILE]",
	.text = "Runs messages of a queue's archive, or its dead letters, through a plugin, templates or settings "
		"that are to be tried. No mail and no request leaves: they are recorded. Statements run in a "
		"transaction that is rolled back, and files go to a directory that is removed. The settings of -c are "
		"the new version's.",
	.exits = "Exit status: 0 nothing differs (without --against: every message is done); 1 something does; 2 a "
		 "message crashes or has no outcome, the replay could not be done, or usage error.",
	.options = options,
	.size = sizeof(struct request),
	.defaults = &defaults,
	.run = replay,
	CMD_DB,
};
