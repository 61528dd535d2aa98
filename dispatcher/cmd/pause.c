/* pause.c: the commands `pgmqd pause` and `pgmqd resume`: an operator stops a queue in all dispatchers, and lets it go
 * on. */
#include "config.h"

#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/db.h"

#include <stdio.h>
#include <string.h>

/* The options on the command line. */
struct request {
	struct cmd_db db;
	const char *reason, *by, *key;
};

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
static int pause_queue(void *request, int argc, char **argv)
{
	struct request *q = request;
	const char *params[] = { argv[0], q->reason, cmd_who(q->by), q->key };

	(void)argc;
	if (!cmd_db_ready(&q->db))
		return 1;
	if (q->key)
		return print_answer(cmd_db_run(&q->db, NULL, "SELECT pgmqd.pause_key($1, $4, $2, $3)", 4, params),
			"the key is paused", "the key was paused already", argv[0]);
	return print_answer(
		cmd_db_run(&q->db, NULL, "SELECT pgmqd.pause($1, $2, coalesce($3, session_user))", 3, params), "paused",
		"was paused already; pgmqd status says by whom", argv[0]);
}

/* pgmqd resume. */
static int resume_queue(void *request, int argc, char **argv)
{
	struct request *q = request;
	const char *params[] = { argv[0], cmd_who(q->by) }, *of_key[] = { argv[0], q->key };

	(void)argc;
	if (!cmd_db_ready(&q->db))
		return 1;
	if (q->key)
		return print_answer(cmd_db_run(&q->db, NULL, "SELECT pgmqd.resume_key($1, $2)", 2, of_key),
			"the key is resumed", "the key was not paused", argv[0]);
	return print_answer(cmd_db_run(&q->db, NULL, "SELECT pgmqd.resume($1, coalesce($2, session_user))", 2, params),
		"resumed", "no operator had paused it; a dispatcher that had paused it by itself tries again", argv[0]);
}

static const struct cmd_option pause_options[] = {
	CMD_OPTION("reason", 0, CMD_TEXT, struct request, reason, "TEXT", "why; the other operators see it"),
	CMD_OPTION("key", 0, CMD_TEXT, struct request, key, "KEY",
		"only the messages of this key (customer=42) of a queue with a key"),
	CMD_BY(by),
	{ 0 },
};

static const struct cmd_option resume_options[] = {
	CMD_OPTION("key", 0, CMD_TEXT, struct request, key, "KEY",
		"only the messages of this key (customer=42) of a queue with a key"),
	CMD_BY(by),
	{ 0 },
};

const struct command cmd_pause = {
	.name = "pause",
	.summary = "stop starting messages of a queue, in all dispatchers",
	.usage = "QUEUE",
	.text = "Pauses a queue in all dispatchers until `pgmqd resume`. Messages that run are finished, and no other "
		"is "
		"started. The pause outlasts restarts.",
	.exits = "Exit status: 0 success, also when the queue was paused before; 1 failure; 2 usage error.",
	.options = pause_options,
	.size = sizeof(struct request),
	.run = pause_queue,
	CMD_DB,
};

const struct command cmd_resume = {
	.name = "resume",
	.summary = "end the pause of a queue",
	.usage = "QUEUE",
	.text = "Ends a pause. A dispatcher that has paused the queue by itself, after a configuration error, tries it "
		"again at once.",
	.exits = "Exit status: 0 success, also when the queue was not paused; 1 failure; 2 usage error.",
	.options = resume_options,
	.size = sizeof(struct request),
	.run = resume_queue,
	CMD_DB,
};
