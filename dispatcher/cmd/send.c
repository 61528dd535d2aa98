/* send.c: the command `pgmqd send`: puts one message into a queue, and waits for what becomes of it if asked to. */
#include "config.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODY_MAX (64 * 1024 * 1024)
#define POLL_MIN_MS 20 /* looking for what became of a message */
#define POLL_MAX_MS 500

#define NO_WAIT -1

enum { EXIT_DEAD = 3, EXIT_TIMEOUT = 4 };

/* The options on the command line. */
struct request {
	struct cmd_db db;
	const char *priority, *group, *headers, *unique, *unique_for, *on_conflict;
	int64_t delay, wait; /* ms; wait: NO_WAIT not at all, 0 without limit */
};

/* Reads the message from standard input. NULL after printing why not. */
static char *read_body(const struct request *q)
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
	cmd_db_fail(&q->db, xstrdup("standard input cannot be read, is too long, or is no text"));
	free(text);
	return NULL;
}

/* Waits until the message is settled; the exit status. */
static int wait_settled(const struct request *q, const char *queue, const char *id)
{
	const char *params[] = { queue, id };
	int64_t end = clock_monotonic_ms() + q->wait, pause = POLL_MIN_MS;

	for (;;) {
		PGresult *res = cmd_db_run(&q->db, NULL,
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
			printf("dead letter after %s attempts: ", attempts);
			cmd_print(stdout, PQgetvalue(res, 0, 2));
			putchar('\n');
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
static int send_message(void *request, int argc, char **argv)
{
#define MESSAGE                                                                                                        \
	"CASE WHEN $3::text IS NULL THEN $2::jsonb ELSE jsonb_set($2::jsonb, '{priority}', to_jsonb($3::bigint)) END"
#define HEADERS                                                                                                        \
	"nullif(coalesce($5::jsonb, '{}')"                                                                             \
	" || CASE WHEN $6::text IS NULL THEN '{}' ELSE jsonb_build_object('group', $6::text) END, '{}')"
	static const char plain[] = "SELECT pgmqd.enqueue($1, " MESSAGE ", $4::integer, " HEADERS ")";
	static const char unique[] = "SELECT msg_id, is_new FROM pgmqd.enqueue_unique($1, " MESSAGE
				     ", delay => $4::integer,"
				     " headers => " HEADERS ", unique_key => $7, unique_for => $8::interval,"
				     " on_conflict => coalesce($9, 'keep'))";
	struct request *q = request;
	char *body, delay[24];
	PGresult *res;
	int status = 1;

	if (!q->unique && (q->unique_for || q->on_conflict))
		return cmd_usage(
			"send", "--%s is of no use without --unique", q->unique_for ? "unique-for" : "on-conflict");
	if (!cmd_db_ready(&q->db))
		return 1;
	body = argc > 1 && strcmp(argv[1], "-") != 0 ? xstrdup(argv[1]) : read_body(q);
	if (!body)
		return 1;
	snprintf(delay, sizeof(delay), "%lld", (long long)((q->delay + 999) / 1000));
	const char *params[] = { argv[0], body, q->priority, delay, q->headers, q->group, q->unique, q->unique_for,
		q->on_conflict };

	res = q->unique ? cmd_db_run(&q->db, NULL, unique, 9, params) : cmd_db_run(&q->db, NULL, plain, 6, params);
	if (res) {
		bool known = q->unique && PQgetvalue(res, 0, 1)[0] == 'f';

		printf("%s%s\n", PQgetvalue(res, 0, 0), known ? " known" : "");
		status = q->wait == NO_WAIT ? 0 : wait_settled(q, argv[0], PQgetvalue(res, 0, 0));
	}
	PQclear(res);
	free(body);
	return status;
}

static const struct request defaults = { .wait = NO_WAIT };

static const struct cmd_option options[] = {
	CMD_OPTION("delay", 0, CMD_DURATION, struct request, delay, "TIME",
		"deliver it after this time at the earliest, such as 30s, 5min, 2h"),
	CMD_OPTION("priority", 0, CMD_TEXT, struct request, priority, "N", "set \"priority\" in the message"),
	CMD_OPTION("group", 0, CMD_TEXT, struct request, group, "NAME",
		"set the header \"group\": messages of one group are delivered one by one"),
	CMD_OPTION("headers", 0, CMD_TEXT, struct request, headers, "JSON", "more headers, as an object"),
	CMD_OPTION("unique", 0, CMD_TEXT, struct request, unique, "KEY",
		"send it only when no message with this key waits or runs; else print that one's number and "
		"\"known\""),
	CMD_OPTION("unique-for", 0, CMD_TEXT, struct request, unique_for, "TIME",
		"with --unique: nor was done less than this time ago, as an interval of PostgreSQL, such as "
		"\"1 hour\""),
	CMD_OPTION("on-conflict", 0, CMD_TEXT, struct request, on_conflict, "WORD",
		"with --unique, for the message that is there: keep it (default), replace its body, or extend its "
		"delay"),
	CMD_OPTION("wait", 0, CMD_DURATION, struct request, wait, "TIME",
		"wait until the message is done or dead, up to this time (default: without limit), and print which",
		.optional = true, .absent = 0),
	{ 0 },
};

const struct command cmd_send = {
	.name = "send",
	.summary = "put a message into a queue, and wait for its outcome if wanted",
	.usage = "QUEUE [JSON]",
	.text = "Puts a message into a queue and prints its number. Without JSON, or with -, the message is read from "
		"standard input.",
	.exits = "Exit status: 0 success; 1 failure; 2 usage error; with --wait also 3 the message is a dead letter, 4 "
		 "the "
		 "time ran out.",
	.options = options,
	.size = sizeof(struct request),
	.defaults = &defaults,
	.run = send_message,
	CMD_DB,
};
