/* bench.c: the command `pgmqd bench`: reads the command line, runs a benchmark, and removes its queues and processes.
 *
 * Each benchmark measures pgmqd in turns with a floor: a bare loop of the same statements on the same database. The
 * measured pgmqd is this binary, run as a child.
 */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/bench/bench_private.h"
#include "cmd/bench/child.h"
#include "cmd/bench/scratch.h"
#include "settings/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bench_kind *const kinds[] = { &bench_latency, &bench_drain, &bench_enqueue, &bench_mail };

volatile sig_atomic_t bench_interrupted;
static PGcancel *volatile bench_cancel; /* of the statement that may be under way; NULL: it must not be cancelled */

/* SIGINT and the like: the statement under way is cancelled, and the loops see the flag. */
static void interrupted(int sig)
{
	char error[256];
	int saved = errno;

	(void)sig;
	bench_interrupted = 1;
	if (bench_cancel)
		PQcancel(bench_cancel, error, sizeof(error));
	errno = saved;
}

/* Whether the argument of --option can be a line of a section. */
static bool is_setting(const char *text)
{
	return text[0] != '=' && text[0] != '[' && strchr(text, '=') && !strchr(text, '\n');
}

/* Finds the benchmark and fills in its defaults; -1, or the exit status. */
static int read_kind(struct bench *b, const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strcmp(name, kinds[i]->name) == 0)
			b->kind = kinds[i];
	for (size_t i = 0; i < b->options.n; i++)
		if (!is_setting(b->options.items[i]))
			return cmd_usage("bench", "--option takes KEY=VALUE, not \"%s\"", b->options.items[i]);
	if ((b->kind == &bench_mail) != (b->smtp != NULL))
		return cmd_usage("bench", b->smtp ? "--smtp is for mail"
						  : "mail needs --smtp HOST:PORT, the server that takes the mails");
	b->messages = b->messages ? b->messages : b->kind->messages;
	b->rounds = b->rounds ? b->rounds : b->kind->rounds;
	return -1;
}

/* Whether the database is one that pgmqd can work on; prints why not. */
static bool is_installed(struct bench *b)
{
	PGresult *res = cmd_db_run(&b->db, NULL,
		"SELECT to_regclass('pgmq.meta') IS NOT NULL AND to_regprocedure('pgmqd.create_queue(text)') IS NOT "
		"NULL",
		0, NULL);
	bool there = res && strcmp(PQgetvalue(res, 0, 0), "t") == 0;

	if (res && !there)
		cmd_db_fail(&b->db,
			xstrdup("pgmqd's schema is not installed in this database; run pgmqd migrate on it first"));
	PQclear(res);
	if (!there || !(res = cmd_db_run(&b->db, NULL, "SELECT pgmqd.setting('channel')", 0, NULL)))
		return false;
	b->channel = xstrdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return cmd_db_run_plain(&b->db, NULL, "SET client_min_messages = warning");
}

/* Measures, then ends the processes and removes the queues, also after a failure. */
static int measure(struct bench *b)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = interrupted };
	PGcancel *cancel;
	bool ok;

	if (!is_installed(b))
		return 1;
	cancel = PQgetCancel(b->db.conn);
	bench_cancel = cancel;
	sigfillset(&sa.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &sa, NULL);
	ok = b->kind->run(b) && !bench_interrupted;
	bench_cancel = NULL;
	bench_kill(b);
	bench_remove(b);
	PQfreeCancel(cancel);
	if (bench_interrupted)
		fprintf(stderr, "%s: interrupted; nothing is left in the database\n", b->db.name);
	return bench_interrupted ? 130 : ok ? 0 : 1;
}

/* pgmqd bench. */
static int bench(void *request, int argc, char **argv)
{
	struct bench *b = request;
	int status = read_kind(b, argv[0]);

	(void)argc;
	if (status < 0)
		status = cmd_db_ready(&b->db) ? measure(b) : 1;
	free(b->channel);
	return status;
}

static const struct bench defaults = {
	.gap_ms = 10, .in_flight = 2000, .producers = 8, .seconds = 3, .to = "bench@example.test"
};

#define NUMBER(name, field, lowest, highest, text)                                                                     \
	CMD_OPTION(name, 0, CMD_NUMBER, struct bench, field, "N", text, .least = lowest, .most = highest)

static const struct cmd_option options[] = {
	NUMBER("messages", messages, 1, 1000000000,
		"how many in all (latency: 500), or in each round (drain: 50000, mail: 500)"),
	NUMBER("rounds", rounds, 1, 1000000000, "turns of each contender (latency: 5; the others: 3)"),
	NUMBER("gap", gap_ms, 0, 1000000000, "latency: milliseconds between two messages (10)"),
	NUMBER("delayed", delayed, 0, 1000000000, "latency: messages in the queue that are not due yet (0)"),
	CMD_OPTION("hold-snapshot", 0, CMD_FLAG, struct bench, hold_snapshot, NULL,
		"drain: a transaction keeps its snapshot throughout, and the queue is never truncated"),
	NUMBER("in-flight", in_flight, 1, 1000000000, "drain, enqueue: max_in_flight of the queue (2000)"),
	NUMBER("producers", producers, 1, BENCH_CHILDREN_MAX - 10, "enqueue: processes that send (8)"),
	NUMBER("seconds", seconds, 1, 1000000000, "enqueue: how long a round lasts (3)"),
	CMD_OPTION("smtp", 0, CMD_TEXT, struct bench, smtp, "HOST:PORT",
		"mail: the server; it is taken from nowhere else, so that no mail leaves by accident"),
	CMD_OPTION("to", 0, CMD_TEXT, struct bench, to, "ADDRESS", "mail: the recipient (bench@example.test)"),
	CMD_OPTION("option", 0, CMD_LIST, struct bench, options, "KEY=VALUE",
		"a line of the queue's section, such as smtp_tls=none; may be given more than once"),
	CMD_OPTION("json", 0, CMD_FLAG, struct bench, json, NULL, "print one line of JSON"),
	{ 0 },
};

const struct command cmd_bench = {
	.name = "bench",
	.summary = "measure pgmqd on a database, in a queue of its own",
	.usage = "latency|drain|enqueue|mail",
	.text = "Measures pgmqd on a database beside a bare loop of the same statements, in a scratch queue that is "
		"removed "
		"afterwards.\n\n"
		"latency: the time from a producer's call to the start of the handler, while the queue is idle.\n"
		"drain: how fast a filled queue is worked off and archived by the plugin that does nothing.\n"
		"enqueue: how fast producers are while the queue is served, with each way of waking it and with none.\n"
		"mail: how fast mails leave; it needs --smtp, and it sends them.",
	.exits = "Exit status: 0 success, 1 failure, 2 usage error, 130 interrupted.",
	.options = options,
	.size = sizeof(struct bench),
	.defaults = &defaults,
	.run = bench,
	CMD_DB,
};
