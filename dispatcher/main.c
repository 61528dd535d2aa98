/* main.c: finds the command and runs it. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/versions.h"
#include "process/proc.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which people meet them. */
static const struct command *const commands[] = { &cmd_init, &cmd_migrate, &cmd_connect, &cmd_run, &cmd_doctor,
	&cmd_status, &cmd_pause, &cmd_resume, &cmd_send, &cmd_tail, &cmd_message, &cmd_dlq, &cmd_bounce, &cmd_render,
	&cmd_replay, &cmd_schedule, &cmd_bench, &cmd_plugin, NULL };

/* Prints the commands. */
static void print_help(FILE *out)
{
	fprintf(out, "usage: pgmqd COMMAND [ARGUMENTS]\n\ncommands:\n");
	for (const struct command *const *c = commands; *c; c++)
		fprintf(out, "  %-10s %s\n", (*c)->name, (*c)->summary);
	fprintf(out, "\n`pgmqd COMMAND --help` says more; so do the manual pages pgmqd(8) and pgmqd-COMMAND(8), and "
		     "pgmqd.conf(5) "
		     "for the settings.\n`pgmqd --version` names the libraries, too.\n");
}

/* Prints that there is no such command, and which one may have been meant. */
static int refuse_command(const char *name)
{
	const char *guess = cmd_guess(commands, name);

	if (guess)
		fprintf(stderr, "pgmqd: unknown command \"%s\" (did you mean %s?)\n", name, guess);
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
	if (strcmp(name, "--table") == 0) {
		cmd_print_table(commands);
		return 0;
	}
	for (const struct command *const *c = commands; *c; c++)
		if (strcmp(name, (*c)->name) == 0)
			return cmd_start(*c, argc - 1, argv + 1);
	return refuse_command(name);
}
