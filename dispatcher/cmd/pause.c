/* pause.c: the commands `pgmqd pause` and `pgmqd resume`: an operator stops a queue in all dispatchers, and lets it go
 * on. */
#include "config.h"

#include "cmd/cmd.h"
#include "cmd/db.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char pause_help[] =
	"Usage: pgmqd pause QUEUE [--reason TEXT] [--by NAME] [-d CONNINFO] [-c FILE] [-e FILE]\n"
	"\n"
	"Pauses a queue in all dispatchers, until `pgmqd resume`: what runs is finished, and nothing more is started."
	" It outlasts restarts.\n"
	"\n"
	"      --reason TEXT        why, for the others\n"
	"      --by NAME            who (default: $SUDO_USER, else $USER)\n" DBCOMMAND_HELP
	"  -h, --help               this text\n"
	"\n"
	"Ends with 0, also when it was paused already; with 1 when something failed, with 2 after a wrong command"
	" line.\n";

static const char resume_help[] =
	"Usage: pgmqd resume QUEUE [--by NAME] [-d CONNINFO] [-c FILE] [-e FILE]\n"
	"\n"
	"Ends a pause. A queue that a dispatcher has paused by itself, for a configuration error, is tried at once,"
	" too.\n"
	"\n"
	"      --by NAME            who (default: $SUDO_USER, else $USER)\n" DBCOMMAND_HELP
	"  -h, --help               this text\n"
	"\n"
	"Ends with 0, also when it was not paused; with 1 when something failed, with 2 after a wrong command line.\n";

enum { OPT_REASON = 256, OPT_BY };

/* What the command line says. */
struct request {
	struct dbcommand db;
	const char *queue, *reason, *by;
};

/* Who gives the order. */
static const char *who(const struct request *q)
{
	const char *sudo = getenv("SUDO_USER"), *user = getenv("USER");

	return q->by ? q->by : sudo && *sudo ? sudo : user && *user ? user : NULL;
}

/* Prints the first value of an answer as true or false. */
static int print_answer(PGresult *res, const char *yes, const char *no, const char *queue)
{
	if (!res)
		return 1;
	printf("%s: %s\n", queue, strcmp(PQgetvalue(res, 0, 0), "t") == 0 ? yes : no);
	PQclear(res);
	return 0;
}

/* pgmqd pause. */
static int do_pause(struct request *q)
{
	const char *params[] = { q->queue, q->reason, who(q) };

	return print_answer(
		dbcommand_run(&q->db, NULL, "SELECT pgmqd.pause($1, $2, coalesce($3, session_user))", 3, params),
		"paused", "was paused already; pgmqd status tells by whom", q->queue);
}

/* pgmqd resume. */
static int do_resume(struct request *q)
{
	const char *params[] = { q->queue, who(q) };

	return print_answer(
		dbcommand_run(&q->db, NULL, "SELECT pgmqd.resume($1, coalesce($2, session_user))", 2, params),
		"resumed", "no operator had paused it; a dispatcher that had paused it by itself tries again",
		q->queue);
}

/* Reads the command line and runs `act`; the exit status. */
static int run(struct request *q, int argc, char **argv, const struct option *longs, const char *help,
	int (*act)(struct request *q))
{
	int c, status = -1;

	optind = 0;
	opterr = 0;
	while (status < 0 && (c = getopt_long(argc, argv, ":" DBCOMMAND_SHORT, longs, NULL)) != -1) {
		if (c == 'h') {
			fputs(help, stdout);
			return 0;
		}
		if (c == OPT_REASON)
			q->reason = optarg;
		else if (c == OPT_BY)
			q->by = optarg;
		else if (!dbcommand_option(&q->db, c, optarg))
			status = dbcommand_bad_option(&q->db, c, argv[optind - 1]);
	}
	if (status < 0 && argc - optind != 1)
		status = dbcommand_usage(&q->db, optind >= argc ? "it takes a queue" : "there is an argument too many");
	if (status < 0) {
		q->queue = argv[optind];
		status = !dbcommand_load(&q->db) || !dbcommand_connect(&q->db) ? 1 : act(q);
	}
	dbcommand_close(&q->db);
	return status;
}

/* pgmqd pause; returns the exit status. */
int cmd_pause(int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "reason", required_argument, NULL, OPT_REASON },
		{ "by", required_argument, NULL, OPT_BY }, { 0 } };
	struct request q = { .db.name = "pgmqd pause" };

	return run(&q, argc, argv, longs, pause_help, do_pause);
}

/* pgmqd resume; returns the exit status. */
int cmd_resume(int argc, char **argv)
{
	static const struct option longs[] = { DBCOMMAND_LONGS, { "by", required_argument, NULL, OPT_BY }, { 0 } };
	struct request q = { .db.name = "pgmqd resume" };

	return run(&q, argc, argv, longs, resume_help, do_resume);
}
