/* send.c: the command `pgmqd send`: puts one message into a queue, and waits for what becomes of it if asked to. */
#include "config.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"
#include "settings/option.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODY_MAX (64 * 1024 * 1024)
#define POLL_MIN_MS 20 /* looking for what became of a message */
#define POLL_MAX_MS 500

enum { EXIT_DEAD = 3, EXIT_TIMEOUT = 4 };

static const char send_help[] =
	"Usage: pgmqd send QUEUE [JSON] [--delay TIME] [--priority N] [--group NAME] [--headers JSON]"
	" [--wait[=TIME]]\n"
	"                  [-d CONNINFO] [-c FILE] [-e FILE]\n"
	"\n"
	"Puts a message into a queue and prints its number. Without JSON, or with -, the message is read from"
	" standard input.\n"
	"\n"
	"      --delay TIME         not before so long, such as 30s, 5min, 2h\n"
	"      --priority N         sets \"priority\" in the message\n"
	"      --group NAME         sets the header \"group\": messages of one group are delivered one by one\n"
	"      --headers JSON       more headers, an object\n"
	"      --wait[=TIME]        wait until it is settled for good, so long at most, and say how\n" DBCOMMAND_HELP
	"  -h, --help               this text\n"
	"\n"
	"Ends with 0; with --wait, when the message was done. With 1 when something failed, with 2 after a wrong"
	" command line, with 3 when\n"
	"the message is among the dead letters, with 4 when the time was up.\n";

enum { OPT_DELAY = 256, OPT_PRIORITY, OPT_GROUP, OPT_HEADERS, OPT_WAIT };

/* What the command line says. */
struct request {
	struct dbcommand db;
	const char *queue, *body, *priority, *group, *headers;
	int64_t delay, wait; /* ms; wait: -1 not at all, 0 for ever */
};

/* A duration as in the settings file. NULL, or what is wrong, malloc'd. */
static char *read_duration(const char *name, const char *text, int64_t *ms)
{
	struct pgmqd_option row = { .name = name, .type = PGMQD_DURATION, .offset = 0 };

	return option_set(&row, ms, text);
}

/* Reads the message from standard input. NULL after telling why not. */
static char *read_body(struct request *q)
{
	size_t len = 0, room = 8192, n;
	char *text = xmalloc(room);

	while ((n = fread(text + len, 1, room - len - 1, stdin)) > 0 && len < BODY_MAX) {
		len += n;
		if (room - len < 2)
			text = xrealloc(text, room *= 2, 1);
	}
	text[len] = '\0';
	if (!ferror(stdin) && len < BODY_MAX && strlen(text) == len)
		return text;
	dbcommand_fail(&q->db, xstrdup("standard input cannot be read, is too long, or is no text"));
	free(text);
	return NULL;
}

/* Waits until the message is settled; the exit status. */
static int wait_settled(struct request *q, const char *id)
{
	const char *params[] = { q->queue, id };
	int64_t end = clock_monotonic_ms() + q->wait, pause = POLL_MIN_MS;

	for (;;) {
		PGresult *res = dbcommand_run(&q->db, NULL,
			"SELECT state, coalesce(attempts, 0), coalesce(reason, '') FROM pgmqd.message_state($1,"
			" $2::bigint)",
			2, params);
		struct timespec t;
		int status = -1;

		if (!res)
			return 1;
		const char *state = PQgetvalue(res, 0, 0), *attempts = PQgetvalue(res, 0, 1);

		if (strcmp(state, "done") == 0) {
			printf("done at attempt %s\n", attempts);
			status = 0;
		} else if (strcmp(state, "gone") == 0) {
			puts("done, and deleted");
			status = 0;
		} else if (strcmp(state, "dead") == 0) {
			printf("dead letter after %s attempts: %s\n", attempts, PQgetvalue(res, 0, 2));
			status = EXIT_DEAD;
		} else if (q->wait && clock_monotonic_ms() >= end) {
			fprintf(stderr, "%s: not settled in time: %s, attempt %s\n", q->db.name, state, attempts);
			status = EXIT_TIMEOUT;
		}
		PQclear(res);
		if (status >= 0)
			return status;
		t = (struct timespec){ .tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000 };
		nanosleep(&t, NULL);
		pause = pause * 3 / 2 > POLL_MAX_MS ? POLL_MAX_MS : pause * 3 / 2;
	}
}

/* pgmqd send. */
static int do_send(struct request *q)
{
	char *body = q->body && strcmp(q->body, "-") != 0 ? xstrdup(q->body) : read_body(q), delay[24], *id = NULL;
	const char *params[] = { q->queue, body, q->priority, delay, q->headers, q->group };
	int status = 1;

	snprintf(delay, sizeof(delay), "%lld", (long long)((q->delay + 999) / 1000));
	PGresult *res =
		body ? dbcommand_run(&q->db, NULL,
			       "SELECT pgmqd.enqueue($1, CASE WHEN $3::text IS NULL THEN $2::jsonb ELSE"
			       " jsonb_set($2::jsonb, '{priority}', to_jsonb($3::integer)) END,"
			       " $4::integer, nullif(coalesce($5::jsonb, '{}') || CASE WHEN $6::text IS NULL THEN"
			       " '{}' ELSE jsonb_build_object('group', $6::text) END, '{}'))",
			       6, params)
		     : NULL;
	if (res) {
		id = xstrdup(PQgetvalue(res, 0, 0));
		puts(id);
		status = q->wait >= 0 ? wait_settled(q, id) : 0;
	}
	PQclear(res);
	free(id);
	free(body);
	return status;
}

/* An option; -1 to go on, or the exit status. */
static int take_option(struct request *q, int c, char *word)
{
	char *problem = NULL, *end;
	int status;

	switch (c) {
	case OPT_DELAY:
		problem = read_duration("--delay", optarg, &q->delay);
		break;
	case OPT_WAIT:
		q->wait = 0;
		problem = optarg ? read_duration("--wait", optarg, &q->wait) : NULL;
		break;
	case OPT_PRIORITY:
		strtol(optarg, &end, 10);
		if (end == optarg || *end)
			problem = xstrdup("--priority takes a whole number");
		q->priority = optarg;
		break;
	case OPT_GROUP:
		q->group = optarg;
		return -1;
	case OPT_HEADERS:
		q->headers = optarg;
		return -1;
	default:
		return dbcommand_option(&q->db, c, optarg) ? -1 : dbcommand_bad_option(&q->db, c, word);
	}
	if (!problem)
		return -1;
	status = dbcommand_usage(&q->db, problem);
	free(problem);
	return status;
}

/* Reads the command line and runs `act`; the exit status. `words`: how many there may be. */
static int run(struct request *q, int argc, char **argv, const struct option *longs, const char *help, int words,
	int (*act)(struct request *q))
{
	int c, status = -1;

	q->wait = -1;
	optind = 0;
	opterr = 0;
	while (status < 0 && (c = getopt_long(argc, argv, ":" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return 0;
		}
		status = take_option(q, c, argv[optind - 1]);
	}
	if (status < 0 && (optind >= argc || argc - optind > words))
		status = dbcommand_usage(&q->db, optind >= argc ? "it takes a queue" : "there is an argument too many");
	if (status < 0) {
		q->queue = argv[optind];
		q->body = optind + 1 < argc ? argv[optind + 1] : NULL;
		setvbuf(stdout, NULL, _IOLBF, 0);
		status = !dbcommand_load(&q->db) || !dbcommand_connect(&q->db) ? 1 : act(q);
	}
	dbcommand_close(&q->db);
	return status;
}

/* pgmqd send; returns the exit status. */
int cmd_send(int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "delay", required_argument, NULL, OPT_DELAY },
		{ "priority", required_argument, NULL, OPT_PRIORITY }, { "group", required_argument, NULL, OPT_GROUP },
		{ "headers", required_argument, NULL, OPT_HEADERS }, { "wait", optional_argument, NULL, OPT_WAIT },
		{ 0 } };
	struct request q = { .db.name = "pgmqd send" };

	return run(&q, argc, argv, longs, send_help, 2, do_send);
}
