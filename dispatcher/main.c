/* main.c: finds the command and runs it. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/versions.h"
#include "process/proc.h"
#include "settings/option.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "run", "take messages from the queues and hand them to their plugins", cmd_run },
	{ "migrate", "bring the database up to this version of pgmqd", cmd_migrate },
	{ "doctor", "look for what is wrong with the settings, the database and the servers, and mend it", cmd_doctor },
	{ "status", "show how each queue stands, and how its worker does", cmd_status },
	{ "pause", "start no more messages of a queue, in all dispatchers", cmd_pause },
	{ "resume", "go on with a queue", cmd_resume },
	{ "send", "put a message into a queue, and perhaps wait for its end", cmd_send },
	{ "tail", "show what happens in a queue, as it happens", cmd_tail },
	{ "dlq", "list, show, put back or throw away what failed for good", cmd_dlq },
	{ "bounce", "read a mail that came back, and leave its address alone from now on", cmd_bounce },
	{ "render", "show what a mail template makes of its variables", cmd_render },
	{ "schedule", "list what runs by the clock, or run one of it now", cmd_schedule },
	{ "bench", "measure pgmqd on a database, in a queue of its own", cmd_bench },
	{ "plugin", "show, try or begin a plugin", cmd_plugin },
	{ 0 },
};

/* Prints what there is. */
static void print_help(FILE *out)
{
	fprintf(out, "usage: pgmqd COMMAND [ARGUMENTS]\n\ncommands:\n");
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->summary);
	fprintf(out, "\n`pgmqd COMMAND --help` says more, and so do pgmqd(8) and pgmqd.conf(5). `pgmqd --version` "
		     "names the libraries, too.\n");
}

/* The command is unknown; says what it may have been meant to be. */
static int refuse_command(const char *name)
{
	struct option_guess g = { 0 };

	for (const struct command *c = commands; c->name; c++)
		option_guess_word(&g, c->name, name);
	if (g.name)
		fprintf(stderr, "pgmqd: unknown command \"%s\" (did you mean %s?)\n", name, g.name);
	else
		fprintf(stderr, "pgmqd: unknown command \"%s\" (`pgmqd --help` lists them)\n", name);
	return 2;
}

/* Runs before the constructors of the libraries, some of which take milliseconds. */
static void (*const start_hook)(void) __attribute__((section(".preinit_array"), used)) = proc_hold_signals;

/* Returns the exit status. */
int main(int argc, char **argv)
{
	cJSON_Hooks hooks = { .malloc_fn = xmalloc, .free_fn = free };
	const char *name;

	if (argc < 2 || strcmp(argv[1], "run") != 0)
		proc_unhold_signals();
	proc_std_fds();
	proc_title(argc, argv);
	cJSON_InitHooks(&hooks); /* else a message looks like broken JSON when memory is out, and plugins have it
	                            dead-lettered */
	if (argc < 2) {
		print_help(stderr);
		return 2;
	}
	name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		print_help(stdout);
		return 0;
	}
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
		puts(versions_line());
		return 0;
	}
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(name, c->name) == 0) {
			argv[1] = xasprintf("pgmqd %s", name); /* in front of getopt's messages */
			return c->run(argc - 1, argv + 1);
		}
	return refuse_command(name);
}
