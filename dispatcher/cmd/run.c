/* run.c: the command `pgmqd run`: reads the settings, and either starts the daemon or only tells whether they are good.
 */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/versions.h"
#include "control/control.h"
#include "listener/listener.h"
#include "process/proc.h"
#include "settings/settings.h"
#include "supervisor/supervisor.h"
#include "worker/plugin.h"
#include "worker/plugin_check.h"
#include "worker/worker.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_EXIT_USAGE = 2, RUN_EXIT_CONFIG = 78 };

/* Which process does what; the supervisor knows the processes only by this table. */
static const struct proc_roles run_roles = {
	.listener = listener_main, .worker = worker_main, .control = control_main, .check = check_main
};

/* What was asked for. */
struct run_args {
	const char *conf, *env_file;
	bool check, sample;
};

/* Prints the help. */
static void run_help(void)
{
	puts("usage: pgmqd run [-c FILE] [--env-file FILE] [--check | --sample]\n"
	     "\n"
	     "Takes messages from the queues as the settings say, and hands them to their plugins, until SIGTERM or "
	     "SIGINT.\n"
	     "\n"
	     "  -c, --config FILE    the settings (else $PGMQD_CONF, else " PGMQD_SYSCONFDIR "/pgmqd.conf)\n"
	     "  -e, --env-file FILE  read NAME=value lines into the environment first; what is set there already "
	     "stays\n"
	     "      --check          load the settings and the plugins, say whether they are good, and exit\n"
	     "      --sample         print a settings file to start from, and exit\n"
	     "  -h, --help           this text\n"
	     "\n"
	     "SIGHUP reads the settings again; SIGTERM finishes what is in hand and leaves. Exit status: 0; 1 a "
	     "failure; 2 wrong\n"
	     "arguments; 78 wrong settings. See pgmqd(8) and pgmqd.conf(5).");
}

/* -1 to go on, or the exit status. */
static int run_parse(int argc, char **argv, struct run_args *args)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "env-file", required_argument, NULL, 'e' },
		{ "check", no_argument, NULL, 'C' },
		{ "sample", no_argument, NULL, 'S' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:e:h", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			args->conf = optarg;
			break;
		case 'e':
			args->env_file = optarg;
			break;
		case 'C':
			args->check = true;
			break;
		case 'S':
			args->sample = true;
			break;
		case 'h':
			run_help();
			return 0;
		default:
			fputs("`pgmqd run --help` lists what there is.\n", stderr);
			return RUN_EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "pgmqd run: \"%s\" is one argument too many (a settings file is given by -c).\n",
			argv[optind]);
		return RUN_EXIT_USAGE;
	}
	if (args->check && args->sample) {
		fputs("pgmqd run: either --check or --sample, not both.\n", stderr);
		return RUN_EXIT_USAGE;
	}
	return -1;
}

/* Tells of errors, one a line: in the log when pgmqd was to run, else as they are. Frees them. */
static void run_tell(char *errors, bool check)
{
	char *rest = errors, *line;

	while ((line = strsep(&rest, "\n")) != NULL) {
		if (check)
			fprintf(stderr, "%s\n", line);
		else
			log_error("%s", line);
	}
	free(errors);
}

/* Where a value comes from: its line, the variable, or nothing. */
static char *run_source(const struct pgmqd_option *row, unsigned line)
{
	char *value, *source;

	if (line)
		return xasprintf("line %u", line);
	value = settings_env_value(row, &source, NULL);
	free(value);
	return source ? source : xstrdup("default");
}

/* Prints one option as it is in force. */
static void run_print_option(const struct pgmqd_option *row, const void *base, unsigned line)
{
	char *value = option_print(row, base), *source = run_source(row, line), *shown = NULL;

	if (strcmp(row->name, "database") == 0 || (option_type(row) == PGMQD_URL && strchr(value, '@')))
		shown = settings_redact_conninfo(value);
	printf("  %s = %s%s(%s%s)\n", row->name, shown ? shown : value, *value ? "  " : " ", source,
		row->type & OPTION_NEEDS_RESTART ? "; a change needs a restart" : "");
	free(shown);
	free(value);
	free(source);
}

/* Prints the options of a queue's plugin. */
static void run_print_plugin(const struct queue_settings *q, const struct plugin *p)
{
	for (const struct pgmqd_option *row = p->options; row->name; row++) {
		unsigned line = 0;

		for (size_t i = 0; i < q->npairs; i++)
			if (strcmp(q->pairs[i].key, row->name) == 0)
				line = q->pairs[i].line;
		run_print_option(row, p->handle, line);
	}
}

/* Loads one queue's plugin and prints what is in force. False: errors were told. */
static bool run_check_queue(const struct settings *s, const struct queue_settings *q)
{
	char *errors;
	struct plugin *p = plugin_load(s, q, &errors);

	if (!p) {
		run_tell(errors, true);
		return false;
	}
	printf("\n[queue %s]  %s %s, %s\n", q->name, p->d.name, p->d.version, p->path);
	for (const struct pgmqd_option *row = settings_queue_options; row->name; row++)
		run_print_option(row, q, q->lines[row - settings_queue_options]);
	run_print_plugin(q, p);
	plugin_free(p);
	return true;
}

/* --check: prints the settings in force; the exit status says whether they are good. */
static int run_check(const struct settings *s)
{
	bool good = true;

	printf("%s\n\n[pgmqd]\n", s->path);
	for (const struct pgmqd_option *row = settings_global_options; row->name; row++)
		run_print_option(row, s, s->lines[row - settings_global_options]);
	for (size_t i = 0; i < s->nqueues; i++)
		good = run_check_queue(s, &s->queues[i]) && good;
	for (size_t i = 0; i < s->njobs; i++) {
		printf("\n[job %s]\n", s->jobs[i].name);
		for (const struct pgmqd_option *row = settings_job_options; row->name; row++)
			run_print_option(row, &s->jobs[i], s->jobs[i].lines[row - settings_job_options]);
	}
	if (good)
		printf("\nThe settings are good.\n");
	else
		fprintf(stderr, "The settings are not good.\n");
	return good ? 0 : RUN_EXIT_CONFIG;
}

/* Whether the settings ask for anything to do; tells so otherwise. */
static bool run_has_queues(const struct settings *s, bool check)
{
	if (s->nqueues == 0)
		run_tell(xasprintf("%s: there is no section [queue NAME] in it, so there is nothing to do", s->path),
			check);
	return s->nqueues > 0;
}

/* Tells of variables that put foreign code into every process: whoever sets them may do that, but nobody should be
 * surprised by it. */
static void run_tell_of_loader(void)
{
	static const char *const names[] = { "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			log_warn("%s is set, so code out of %s runs in every process of pgmqd; unset it unless that is "
				 "meant",
				names[i], value);
	}
}

/* pgmqd run. */
int cmd_run(int argc, char **argv)
{
	struct run_args args = { 0 };
	struct settings *s;
	char *errors;
	int status = run_parse(argc, argv, &args);

	if (status >= 0)
		return status;
	if (args.sample) {
		settings_print_sample();
		return 0;
	}
	log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	log_context_set((struct log_context){ .process = args.check ? "run" : "supervisor" });
	if (args.env_file && (errors = settings_env_file(args.env_file)) != NULL) {
		run_tell(errors, args.check);
		return RUN_EXIT_CONFIG;
	}
	s = settings_load(args.conf, &errors);
	if (!s) {
		run_tell(errors, args.check);
		return RUN_EXIT_CONFIG;
	}
	if (!run_has_queues(s, args.check)) {
		settings_free(s);
		return RUN_EXIT_CONFIG;
	}
	if (args.check) {
		status = run_check(s);
		settings_free(s);
		return status;
	}
	log_setup(s->log_level, s->log_format);
	log_info("%s", versions_line());
	run_tell_of_loader();
	if (!s->core_dumps)
		proc_no_core();
	return supervisor_run(s, &run_roles);
}
