/* tail.c: the command `pgmqd tail`: one line for each thing that happens in a queue, as it happens.
 *
 * It asks the database again and again while it runs, by the indexes of the archive and the dead-letter queue;
 * producers and the dispatcher do nothing for it.
 */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVERY_MS 200
#define SEEN_MAX 4096 /* lines that are remembered, so that none comes twice */

/* The state of tail so far. */
struct tail {
	struct cmd_db db;
	int64_t count, seen; /* count 0: no end */
	const char *queue;
	bool json;
	char *archived, *dead, *start, *start_dead; /* places to go on from, and to begin at */
	char *lines[SEEN_MAX];
	size_t n;
};

static volatile sig_atomic_t interrupted;

/* ^C. */
static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
}

/* Whether a line is new; it is remembered. Events at the edge of a look come in the next one again. */
static bool is_new(struct tail *t, char *key)
{
	for (size_t i = 0; i < SEEN_MAX && t->lines[i]; i++)
		if (strcmp(t->lines[i], key) == 0) {
			free(key);
			return false;
		}
	free(t->lines[t->n]);
	t->lines[t->n] = key;
	t->n = (t->n + 1) % SEEN_MAX;
	return true;
}

/* Moves on to a newer place. */
static void move(char **place, const char *to)
{
	free(*place);
	*place = xstrdup(to);
}

/* Prints a line for a dead letter; its class and reason come from a plugin. */
static void print_dead(const PGresult *res, int i)
{
	printf("dead     message %s, %s attempts, at %s, class ", PQgetvalue(res, i, 1), PQgetvalue(res, i, 2),
		PQgetvalue(res, i, 3));
	cmd_print(stdout, PQgetvalue(res, i, 5));
	fputs(": ", stdout);
	cmd_print(stdout, PQgetvalue(res, i, 6));
	putchar('\n');
}

/* Prints an event as one JSON object, with what there is of it. */
static void print_json(const struct tail *t, const PGresult *res, int i)
{
	static const char *const names[] = { "event", "id", "attempt", "at", "dead_id", "class", "reason" };
	bool dead = strcmp(PQgetvalue(res, i, 0), "dead") == 0;
	cJSON *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "queue", t->queue);
	for (int c = 0; c < (dead ? 7 : 4); c++)
		if (c == 1 || c == 2 || c == 4)
			cJSON_AddRawToObject(json, names[c], PQgetvalue(res, i, c));
		else
			cJSON_AddStringToObject(json,
				c == 3 && strcmp(PQgetvalue(res, i, 0), "claimed") == 0 ? "until" : names[c],
				PQgetvalue(res, i, c));
	cmd_print_json(json, false);
}

/* Prints the new events of one query. */
static void print_events(struct tail *t, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res) && (!t->count || t->seen < t->count); i++) {
		const char *kind = PQgetvalue(res, i, 0), *id = PQgetvalue(res, i, 1),
			   *attempts = PQgetvalue(res, i, 2), *when = PQgetvalue(res, i, 3);

		if (strcmp(kind, "start") == 0) {
			move(&t->archived, when);
			move(&t->dead, PQgetvalue(res, i, 4));
			move(&t->start, when);
			move(&t->start_dead, t->dead);
			continue;
		}
		if (strcmp(kind, "done") == 0)
			move(&t->archived, when);
		else if (strcmp(kind, "dead") == 0)
			move(&t->dead, PQgetvalue(res, i, 4));
		if (!is_new(t, xasprintf("%s %s %s", kind, id, attempts)))
			continue;
		t->seen += strcmp(kind, "claimed") != 0;
		if (t->json) {
			print_json(t, res, i);
			continue;
		}
		if (strcmp(kind, "claimed") == 0) {
			printf("claimed  message %s, attempt %s, until %s\n", id, attempts, when);
			continue;
		}
		if (strcmp(kind, "done") == 0)
			printf("done     message %s, attempt %s, at %s\n", id, attempts, when);
		else
			print_dead(res, i);
	}
}

/* Looks until it is interrupted, or all were seen; the exit status. */
static int follow(struct tail *t)
{
	static const struct timespec pause = { .tv_nsec = EVERY_MS * 1000000L };

	while (!interrupted && (!t->count || t->seen < t->count)) {
		const char *params[] = { t->queue, t->archived, t->dead, t->start, t->start_dead };
		bool began = t->archived != NULL;
		PGresult *res = cmd_db_run(&t->db, NULL,
			"SELECT kind, id, attempts, at AT TIME ZONE 'UTC' || 'Z', dead_id, coalesce(class,"
			" 'unknown'), coalesce(reason, 'no reason')"
			/* what was begun before and committed after the last look is not to be missed */
			" FROM pgmqd.queue_events($1, greatest($2::timestamptz - interval '2 seconds',"
			" $4::timestamptz),"
			" greatest($3::bigint - 100, $5::bigint))",
			5, params);

		if (!res)
			return 1;
		print_events(t, res);
		PQclear(res);
		if (!began)
			fprintf(stderr, "%s: looking at %s; ^C ends it\n", t->db.name, t->queue);
		else if (!t->count || t->seen < t->count)
			nanosleep(&pause, NULL);
	}
	return 0;
}

/* pgmqd tail. */
static int tail(void *request, int argc, char **argv)
{
	struct tail *t = request;
	struct sigaction act = { .sa_handler = on_signal };
	int status;

	(void)argc;
	t->queue = argv[0];
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	status = cmd_db_ready(&t->db) ? follow(t) : 1;
	for (size_t i = 0; i < SEEN_MAX; i++)
		free(t->lines[i]);
	free(t->archived);
	free(t->dead);
	free(t->start);
	free(t->start_dead);
	return status;
}

static const struct cmd_option options[] = {
	CMD_OPTION("count", 0, CMD_NUMBER, struct tail, count, "N", "end after N messages that were done or are dead",
		.least = 1, .most = 1000000000),
	CMD_OPTION("json", 0, CMD_FLAG, struct tail, json, NULL, "print one JSON object a line"),
	{ 0 },
};

const struct command cmd_tail = {
	.name = "tail",
	.summary = "print what happens in a queue while it happens",
	.usage = "QUEUE",
	.text = "Prints a line for each message of a queue that is claimed, done (archived) or dead, until it is "
		"interrupted. "
		"Two things are not seen: done messages of a queue that deletes them (on_done = delete), and claims "
		"shorter "
		"than 0.2 s.",
	.exits = "Exit status: 0 success, 1 failure, 2 usage error.",
	.options = options,
	.size = sizeof(struct tail),
	.run = tail,
	CMD_DB,
};
