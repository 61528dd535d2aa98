/* bench.c: the command "pgmqd bench": reads what is to be measured, sees to the scratch queues, and leaves nothing
 * behind.
 *
 * Everything is measured beside a floor: a bare loop of the same statements, on the same database, in turns. The pgmqd
 * that is measured is this very binary, run as a child.
 */
#include "config.h"

#include "cmd/bench/bench.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "settings/settings.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
	"Usage: pgmqd bench latency|drain|enqueue|mail [OPTIONS] [-d CONNINFO] [-c FILE] [-e FILE]\n"
	"\n"
	"Measures pgmqd on a database, beside a bare loop of the same statements, in a scratch queue that is removed "
	"afterwards.\n"
	"\n"
	"  latency  from a producer's call to the start of the handler, while the queue is idle\n"
	"  drain    how fast a queue that was filled is worked off and archived by the plugin that does nothing\n"
	"  enqueue  how fast producers are while the queue is served, with each way of waking it and with none\n"
	"  mail     how fast mails leave; it wants --smtp, and the mails are sent\n"
	"\n"
	"      --messages N      in all (latency: 500) or in each round (drain: 50000, mail: 500)\n"
	"      --rounds N        turns that each contender gets (latency: 5; the others: 3)\n"
	"      --gap MS          latency: milliseconds between two messages (10)\n"
	"      --delayed N       latency: so many messages in the queue that are not due yet (0)\n"
	"      --hold-snapshot   drain: a transaction keeps its snapshot all the time, and the queue is never "
	"truncated\n"
	"      --in-flight N     drain, enqueue: max_in_flight of the queue (2000)\n"
	"      --producers N     enqueue: processes that send (8)\n"
	"      --seconds N       enqueue: how long a round lasts (3)\n"
	"      --smtp HOST:PORT  mail: the server, never taken from anywhere else\n"
	"      --to ADDRESS      mail: whom all mails are for (bench@example.test)\n"
	"      --option KEY=VAL  a line of the queue's section, such as smtp_tls=none; may be given more than once\n"
	"      --json            one line of JSON\n" DBCOMMAND_HELP "  -h, --help            this text\n"
	"\n"
	"Ends with 0, with 1 when something failed, with 2 after a wrong command line, with 130 after ^C.\n";

static const struct bench_kind kinds[] = {
	{ "latency", 500, 5, bench_latency },
	{ "drain", 50000, 3, bench_drain },
	{ "enqueue", 0, 3, bench_enqueue },
	{ "mail", 500, 3, bench_mail },
};

enum {
	OPT_MESSAGES = 256,
	OPT_ROUNDS,
	OPT_GAP,
	OPT_DELAYED,
	OPT_SNAPSHOT,
	OPT_IN_FLIGHT,
	OPT_PRODUCERS,
	OPT_SECONDS,
	OPT_SMTP,
	OPT_TO,
	OPT_OPTION,
	OPT_JSON
};

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

/* Reads a whole number from `least` to a thousand million. */
static bool read_number(const char *text, int64_t least, int64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoll(text, &end, 10);
	return errno == 0 && end != text && !*end && *n >= least && *n <= 1000000000;
}

/* One of the options that take a number; -1 when it is none of them, else whether the number is good. */
static int number_option(struct bench *b, int c, const char *value)
{
	switch (c) {
	case OPT_MESSAGES:
		return read_number(value, 1, &b->messages);
	case OPT_ROUNDS:
		return read_number(value, 1, &b->rounds);
	case OPT_GAP:
		return read_number(value, 0, &b->gap_ms);
	case OPT_DELAYED:
		return read_number(value, 0, &b->delayed);
	case OPT_IN_FLIGHT:
		return read_number(value, 1, &b->in_flight);
	case OPT_PRODUCERS:
		return read_number(value, 1, &b->producers) && b->producers <= BENCH_CHILDREN_MAX - 10;
	case OPT_SECONDS:
		return read_number(value, 1, &b->seconds);
	default:
		return -1;
	}
}

/* Another --option. */
static bool add_option(struct bench *b, char *value)
{
	if (value[0] == '=' || value[0] == '[' || !strchr(value, '=') || strchr(value, '\n'))
		return false;
	b->options = xrealloc(b->options, b->noptions + 1, sizeof(*b->options));
	b->options[b->noptions++] = value;
	return true;
}

/* Finds the benchmark; -1, or the exit status. */
static int read_kind(struct bench *b, int argc, char **argv)
{
	if (argc - optind != 1)
		return dbcommand_usage(&b->db, "it takes one word: latency, drain, enqueue or mail");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strcmp(argv[optind], kinds[i].name) == 0)
			b->kind = &kinds[i];
	if (!b->kind) {
		char *problem = xasprintf("unknown benchmark \"%s\": latency, drain, enqueue or mail", argv[optind]);
		int status = dbcommand_usage(&b->db, problem);

		free(problem);
		return status;
	}
	if ((b->kind->run == bench_mail) != (b->smtp != NULL))
		return dbcommand_usage(
			&b->db, b->smtp ? "--smtp is for mail"
					: "mail wants --smtp HOST:PORT, the server that takes the mails");
	b->messages = b->messages ? b->messages : b->kind->messages;
	b->rounds = b->rounds ? b->rounds : b->kind->rounds;
	return -1;
}

/* Reads the command line; -1, or the exit status when there is nothing more to do. */
static int read_arguments(struct bench *b, int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "messages", required_argument, NULL, OPT_MESSAGES },
		{ "rounds", required_argument, NULL, OPT_ROUNDS }, { "gap", required_argument, NULL, OPT_GAP },
		{ "delayed", required_argument, NULL, OPT_DELAYED },
		{ "hold-snapshot", no_argument, NULL, OPT_SNAPSHOT },
		{ "in-flight", required_argument, NULL, OPT_IN_FLIGHT },
		{ "producers", required_argument, NULL, OPT_PRODUCERS },
		{ "seconds", required_argument, NULL, OPT_SECONDS }, { "smtp", required_argument, NULL, OPT_SMTP },
		{ "to", required_argument, NULL, OPT_TO }, { "option", required_argument, NULL, OPT_OPTION },
		{ "json", no_argument, NULL, OPT_JSON }, { 0 } };
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		int good = number_option(b, c, optarg);

		if (good == 0)
			return dbcommand_usage(&b->db, "that option takes a number from 1 on (--gap and --delayed: "
						       "from 0 on; --producers: up to 290)");
		if (good == 1)
			continue;
		if (c == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (c == OPT_SNAPSHOT)
			b->hold_snapshot = true;
		else if (c == OPT_JSON)
			b->json = true;
		else if (c == OPT_SMTP)
			b->smtp = optarg;
		else if (c == OPT_TO)
			b->to = optarg;
		else if (c == OPT_OPTION && !add_option(b, optarg))
			return dbcommand_usage(&b->db, "--option takes KEY=VALUE");
		else if (c != OPT_OPTION && !dbcommand_option(&b->db, c, optarg))
			return dbcommand_bad_option(&b->db, c, argv[optind - 1]);
	}
	return read_kind(b, argc, argv);
}

/* Whether the database is one that pgmqd can work on; tells it when not. */
static bool is_installed(struct bench *b)
{
	PGresult *res = dbcommand_run(&b->db, NULL,
		"SELECT to_regclass('pgmq.meta') IS NOT NULL AND to_regprocedure('pgmqd.create_queue(text)') IS NOT "
		"NULL",
		0, NULL);
	bool there = res && strcmp(PQgetvalue(res, 0, 0), "t") == 0;

	if (res && !there)
		dbcommand_fail(&b->db,
			xstrdup("pgmqd's schema is not installed in this database; run pgmqd migrate on it first"));
	PQclear(res);
	if (!there || !(res = dbcommand_run(&b->db, NULL, "SELECT pgmqd.setting('channel')", 0, NULL)))
		return false;
	b->channel = xstrdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return dbcommand_run_plain(&b->db, NULL, "SET client_min_messages = warning");
}

/* Measures; whatever happens, the processes are ended and the queues removed. */
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

/* pgmqd bench; returns the exit status. */
int cmd_bench(int argc, char **argv)
{
	struct bench b = { .db.name = "pgmqd bench",
		.gap_ms = 10,
		.in_flight = 2000,
		.producers = 8,
		.seconds = 3,
		.to = "bench@example.test" };
	int status = read_arguments(&b, argc, argv);

	if (status < 0)
		status = !dbcommand_load(&b.db) || !dbcommand_connect(&b.db) ? 1 : measure(&b);
	dbcommand_close(&b.db);
	free(b.channel);
	free(b.options);
	return status;
}
