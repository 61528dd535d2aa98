/* tail.c: the command `pgmqd tail`: one line for each thing that happens in a queue, as it happens.
 *
 * It asks the database again and again while somebody looks, by the indexes of the archive and the dead-letter queue;
 * nobody who does not look pays for it, neither the producers nor the dispatcher.
 */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVERY_MS 200
#define SEEN_MAX 4096 /* lines that are remembered, so that none comes twice */

static const char help[] =
	"Usage: pgmqd tail QUEUE [--count N] [-d CONNINFO] [-c FILE] [-e FILE]\n"
	"\n"
	"Prints a line for each message of a queue that is claimed, done (archived) or dead, until it is interrupted."
	" Of a queue that deletes what is\n"
	"done (on_done = delete) that is not seen, and claims shorter than 0.2 s are not either.\n"
	"\n"
	"      --count N            end after so many that were done or are dead\n" DBCOMMAND_HELP
	"  -h, --help               this text\n"
	"\n"
	"Ends with 0, with 1 when something failed, with 2 after a wrong command line.\n";

enum { OPT_COUNT = 256 };

/* What is known so far. */
struct tail {
	struct dbcommand db;
	const char *queue;
	long count, seen;                           /* 0: no end */
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

/* Prints what is new of one look. */
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
		if (strcmp(kind, "claimed") == 0) {
			printf("claimed  message %s, attempt %s, until %s\n", id, attempts, when);
			continue;
		}
		t->seen++;
		if (strcmp(kind, "done") == 0)
			printf("done     message %s, attempt %s, at %s\n", id, attempts, when);
		else
			printf("dead     message %s, %s attempts, at %s, class %s: %s\n", id, attempts, when,
				PQgetvalue(res, i, 5), PQgetvalue(res, i, 6));
	}
}

/* Looks until it is interrupted, or all were seen; the exit status. */
static int follow(struct tail *t)
{
	static const struct timespec pause = { .tv_nsec = EVERY_MS * 1000000L };

	while (!interrupted && (!t->count || t->seen < t->count)) {
		const char *params[] = { t->queue, t->archived, t->dead, t->start, t->start_dead };
		bool began = t->archived != NULL;
		PGresult *res = dbcommand_run(&t->db, NULL,
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

/* Reads the command line; -1, or the exit status. */
static int read_arguments(struct tail *t, int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "count", required_argument, NULL, OPT_COUNT },
		{ 0 } };
	char *end;
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (c == OPT_COUNT) {
			t->count = strtol(optarg, &end, 10);
			if (*end || t->count < 1)
				return dbcommand_usage(&t->db, "--count takes a number from 1 on");
		} else if (!dbcommand_option(&t->db, c, optarg)) {
			return dbcommand_bad_option(&t->db, c, argv[optind - 1]);
		}
	}
	if (argc - optind != 1)
		return dbcommand_usage(&t->db, "it takes one queue");
	t->queue = argv[optind];
	return -1;
}

/* pgmqd tail; returns the exit status. */
int cmd_tail(int argc, char **argv)
{
	struct tail *t = xcalloc(1, sizeof(*t));
	struct sigaction act = { .sa_handler = on_signal };
	int status;

	t->db.name = "pgmqd tail";
	status = read_arguments(t, argc, argv);
	if (status < 0) {
		setvbuf(stdout, NULL, _IOLBF, 0);
		sigaction(SIGINT, &act, NULL);
		sigaction(SIGTERM, &act, NULL);
		status = !dbcommand_load(&t->db) || !dbcommand_connect(&t->db) ? 1 : follow(t);
	}
	dbcommand_close(&t->db);
	for (size_t i = 0; i < SEEN_MAX; i++)
		free(t->lines[i]);
	free(t->archived);
	free(t->dead);
	free(t->start);
	free(t->start_dead);
	free(t);
	return status;
}
