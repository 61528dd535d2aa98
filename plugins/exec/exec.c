/* exec.c: the plugin that hands messages to a program in any language. */
#include "config.h"

#include "exec.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct exec, field)

static const struct pgmqd_option exec_options[] = {
	{ "command", PGMQD_STRING, 1, AT(command), NULL,
		"Program and its arguments; quotes as in a shell, but no shell is involved.", NULL, NULL },
	{ "mode", PGMQD_ENUM, 0, AT(mode), "once",
		"A program for each message, or programs that stay and get a line for each.", NULL, "once|pool" },
	{ "programs", PGMQD_UINT, 0, AT(programs), "2", "Programs at once in the mode pool.", NULL, NULL },
	{ "messages_per_process", PGMQD_UINT, 0, AT(messages_per_process), "0",
		"Messages after which a program of the pool is renewed; 0: never.", NULL, NULL },
	{ "timeout", PGMQD_DURATION, 0, AT(timeout), "60s",
		"Time for a message; then the program is asked to end (SIGTERM).", NULL, NULL },
	{ "kill_after", PGMQD_DURATION, 0, AT(kill_after), "5s",
		"Time that a program which is asked to end has; then it is killed, with all that it started.", NULL,
		NULL },
	{ "on_error", PGMQD_ENUM, 0, AT(on_error), "retry", "What an exit status other than 0, 65 and 75 means.", NULL,
		"retry|fail" },
	{ "pass_env", PGMQD_STRING, 0, AT(pass_env), NULL,
		"Names of the environment variables that the program gets too.", NULL, NULL },
	{ "dir", PGMQD_STRING, 0, AT(dir), NULL, "Its working directory.", NULL, NULL },
	{ "cpu_seconds", PGMQD_UINT, 0, AT(cpu_seconds), "0", "Limit of its processor time in seconds; 0: none.", NULL,
		NULL },
	{ "memory", PGMQD_BYTES, 0, AT(memory), "0", "Limit of its address space; 0: none.", NULL, NULL },
	{ "open_files", PGMQD_UINT, 0, AT(open_files), "0", "Limit of its open files; 0: none.", NULL, NULL },
	{ "file_size", PGMQD_BYTES, 0, AT(file_size), "0", "Limit of a file that it writes; 0: none.", NULL, NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* Cross-checks of the options. */
static int exec_config_complete(void *h)
{
	struct exec *e = h;
	const char *wrong = words_split(e->command, &e->argv);

	words_free(e->argv);
	e->argv = NULL;
	if (wrong)
		pgmqd_log(PGMQD_ERROR, "command: %s", wrong);
	else if (e->programs < 1 || e->programs > 1000)
		pgmqd_log(PGMQD_ERROR, "programs: it must be between 1 and 1000");
	else if (e->timeout <= 0 || e->kill_after <= 0)
		pgmqd_log(PGMQD_ERROR, "timeout, kill_after: each must be longer than 0");
	else
		return 0;
	return -1;
}

/* Gets ready; programs are started when there are messages. */
static int exec_start(void *h, struct pgmqd_worker *w)
{
	struct exec *e = h;

	signal(SIGPIPE, SIG_IGN); /* a program need not read all that it is sent */
	e->worker = w;
	e->base = pgmqd_event_base(w);
	(void)words_split(e->command, &e->argv);
	if (strcmp(e->mode, "pool") == 0)
		e->pool = pool_new(e);
	return 0;
}

/* Takes a message. */
static void exec_deliver(void *h, struct pgmqd_msg *m)
{
	struct exec *e = h;

	if (e->pool)
		pool_deliver(e->pool, &m, 1, false);
	else
		once_deliver(e, &m, 1, false);
}

/* Takes messages that go to the program as an array. */
static void exec_deliver_batch(void *h, struct pgmqd_msg *const *msgs, size_t n)
{
	struct exec *e = h;

	if (e->pool)
		pool_deliver(e->pool, msgs, n, true);
	else
		once_deliver(e, msgs, n, true);
}

/* The host takes a message back: its program is ended, when nothing else is left for it. */
static void exec_cancel(void *h, struct pgmqd_msg *m)
{
	struct exec *e = h;

	if (e->pool)
		pool_cancel(m);
	else
		once_cancel(m);
}

/* Ends the programs that stay. */
static void exec_stop(void *h)
{
	struct exec *e = h;

	if (e->pool)
		pool_free(e->pool);
	words_free(e->argv);
}

static struct pgmqd_plugin plugin = {
	.name = "exec",
	.version = PACKAGE_VERSION,
	.summary = "hands messages to a program in any language",
	.options = exec_options,
	.handle_size = sizeof(struct exec),
	.config_complete = exec_config_complete,
	.start = exec_start,
	.deliver = exec_deliver,
	.deliver_batch = exec_deliver_batch,
	.cancel = exec_cancel,
	.stop = exec_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
