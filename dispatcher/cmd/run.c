/* run.c: the command `pgmqd run`: reads the settings, and starts the daemon or only checks them. */
#include "config.h"

#include "base/lines.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "cmd/versions.h"
#include "control/control.h"
#include "listener/listener.h"
#include "pg/conninfo.h"
#include "process/proc.h"
#include "settings/env.h"
#include "settings/load.h"
#include "settings/settings.h"
#include "supervisor/supervisor.h"
#include "worker/plugin.h"
#include "worker/plugin_check.h"
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* The processes of the daemon; the supervisor knows them only by this table. */
static const struct proc_roles roles = {
	.listener = listener_main, .worker = worker_main, .control = control_main, .check = check_main
};

/* The options on the command line. */
struct request {
	const char *conf, *env_file;
	bool check, sample;
};

/* Prints errors, one a line: to the log when the daemon was to start, else to standard error. Frees them. */
static void print_errors(char *errors, bool checking)
{
	char *rest = errors, *line;

	while ((line = lines_next(&rest)) != NULL) {
		if (checking)
			fprintf(stderr, "%s\n", line);
		else
			log_error("%s", line);
	}
	free(errors);
}

/* Where a value comes from: its line, the variable, or nothing. */
static char *source_of(const struct pgmqd_option *row, unsigned line)
{
	char *value, *source;

	if (line)
		return xasprintf("line %u", line);
	value = settings_env_value(row, &source, NULL);
	free(value);
	return source ? source : xstrdup("default");
}

/* Prints one option as it is in force. */
static void print_option(const struct pgmqd_option *row, const void *base, unsigned line)
{
	char *value = option_print(row, base), *source = source_of(row, line), *shown = NULL;

	if (strcmp(row->name, "database") == 0 || (option_type(row) == PGMQD_URL && strchr(value, '@')))
		shown = settings_redact_conninfo(value);
	printf("  %s = %s%s(%s%s)\n", row->name, shown ? shown : value, *value ? "  " : " ", source,
		row->type & OPTION_NEEDS_RESTART ? "; a change needs a restart" : "");
	free(shown);
	free(value);
	free(source);
}

/* Prints the options of a queue's plugin. */
static void print_plugin(const struct queue_settings *q, const struct plugin *p)
{
	for (const struct pgmqd_option *row = p->options; row->name; row++) {
		unsigned line = 0;

		for (size_t i = 0; i < q->npairs; i++)
			if (strcmp(q->pairs[i].key, row->name) == 0)
				line = q->pairs[i].line;
		print_option(row, p->handle, line);
	}
}

/* Loads one queue's plugin and prints what is in force. False after printing errors. */
static bool check_queue(const struct settings *s, const struct queue_settings *q)
{
	char *errors, *warnings, *rest, *line;
	struct plugin *p = plugin_load(s, q, &errors);

	if (!p) {
		print_errors(errors, true);
		return false;
	}
	printf("\n[queue %s]  %s %s, %s\n", q->name, p->d.name, p->d.version, p->path);
	for (const struct pgmqd_option *row = settings_queue_options; row->name; row++)
		print_option(row, q, q->lines[row - settings_queue_options]);
	print_plugin(q, p);
	rest = warnings = plugin_void_options(p, q);
	while ((line = lines_next(&rest)) != NULL)
		fprintf(stderr, "%s:%u: queue \"%s\": %s\n", s->path, q->line, q->name, line);
	free(warnings);
	plugin_free(p);
	return true;
}

/* --check: prints the settings in force; the exit status says whether they are good. */
static int check(const struct settings *s)
{
	bool good = true;

	printf("%s\n\n[pgmqd]\n", s->path);
	for (const struct pgmqd_option *row = settings_global_options; row->name; row++)
		print_option(row, s, s->lines[row - settings_global_options]);
	for (size_t i = 0; i < s->nqueues; i++)
		good = check_queue(s, &s->queues[i]) && good;
	for (size_t i = 0; i < s->njobs; i++) {
		printf("\n[job %s]\n", s->jobs[i].name);
		for (const struct pgmqd_option *row = settings_job_options; row->name; row++)
			print_option(row, &s->jobs[i], s->jobs[i].lines[row - settings_job_options]);
	}
	if (good)
		printf("\nThe settings are good.\n");
	else
		fprintf(stderr, "The settings are not good.\n");
	return good ? 0 : EX_CONFIG;
}

/* Whether the settings name a queue; prints that they do not. */
static bool has_queues(const struct settings *s, bool checking)
{
	if (s->nqueues == 0)
		print_errors(
			xasprintf("%s: there is no section [queue NAME] in it, so there is nothing to do", s->path),
			checking);
	return s->nqueues > 0;
}

/* Warns when the connection seems to lead through a transaction pooler. */
static void warn_of_pooler(const struct settings *s, bool checking)
{
	char *warning = conninfo_pooler(s->database);

	if (warning && checking)
		fprintf(stderr, "database: %s\n", warning);
	else if (warning)
		log_warn("database: %s", warning);
	free(warning);
}

/* Warns of variables that load other code into every process, so that it does not come as a surprise. */
static void warn_of_loader(void)
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

/* Reads the environment file and the settings; NULL after printing what is wrong. */
static struct settings *load(const struct request *q)
{
	struct settings *s;
	char *errors;

	if ((q->env_file && (errors = settings_env_file(q->env_file)) != NULL) ||
		(s = settings_load(q->conf, &errors)) == NULL) {
		print_errors(errors, q->check);
		return NULL;
	}
	errors = check_database(s);
	if (errors)
		print_errors(errors, q->check);
	else if (has_queues(s, q->check)) {
		warn_of_pooler(s, q->check);
		return s;
	}
	settings_free(s);
	return NULL;
}

/* pgmqd run. */
static int run(void *request, int argc, char **argv)
{
	const struct request *q = request;
	struct settings *s;
	int status;

	(void)argc;
	(void)argv;
	if (q->check && q->sample)
		return cmd_usage("run", "--check and --sample exclude each other");
	if (q->sample) {
		settings_print_sample();
		return 0;
	}
	log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	log_context_set((struct log_context){ .process = q->check ? "run" : "supervisor" });
	s = load(q);
	if (!s)
		return EX_CONFIG;
	if (q->check) {
		status = check(s);
		settings_free(s);
		return status;
	}
	log_setup(s->log_level, s->log_format);
	log_info("%s", versions_line());
	warn_of_loader();
	if (!s->core_dumps)
		proc_no_core();
	proc_return_memory();
	return supervisor_run(s, &roles);
}

static const struct cmd_option options[] = {
	CMD_OPTION("config", 'c', CMD_TEXT, struct request, conf, "FILE",
		"the settings file (default: $PGMQD_CONF, else " PGMQD_SYSCONFDIR "/pgmqd.conf)"),
	CMD_OPTION("env-file", 'e', CMD_TEXT, struct request, env_file, "FILE",
		"set the variables of the NAME=value lines of this file that the environment does not have"),
	CMD_OPTION("check", 0, CMD_FLAG, struct request, check, NULL,
		"load the settings and the plugins, print what is in force and what is wrong, and exit"),
	CMD_OPTION("sample", 0, CMD_FLAG, struct request, sample, NULL,
		"print a settings file with every setting, and exit"),
	{ 0 },
};

const struct command cmd_run = {
	.name = "run",
	.summary = "run the daemon: hand the messages of the queues to their plugins",
	.usage = "",
	.text = "Hands the messages of the queues to their plugins, as the settings say, until SIGTERM or SIGINT. "
		"SIGHUP reads "
		"the settings again. SIGTERM finishes the running messages first.",
	.exits = "Exit status: 0 it was stopped; 1 failure; 2 usage error; 78 wrong settings. See pgmqd-run(8) and "
		 "pgmqd.conf(5).",
	.options = options,
	.size = sizeof(struct request),
	.run = run,
};
