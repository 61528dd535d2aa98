/* plugin_check.c: the part of checking settings that needs libpq or the plugins, each loaded in a process that ends
 * afterwards. */
#include "config.h"

#include "base/lines.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "pg/conninfo.h"
#include "process/proc.h"
#include "worker/plugin.h"
#include "worker/plugin_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Loads one queue's plugin and checks the queue's options against it. */
static int check_queue(const struct settings *settings, const struct queue_settings *q)
{
	char *errors = NULL, *line, *rest;

	if (plugin_check(settings, q, &errors) == 0)
		return PROC_EXIT_OK;
	for (rest = errors; (line = lines_next(&rest)) != NULL;)
		log_error("%s", line);
	free(errors);
	return PROC_EXIT_CONFIG;
}

char *check_database(const struct settings *s)
{
	unsigned line = s->lines[option_find(settings_global_options, "database") - settings_global_options];
	char *problem = conninfo_check_tls(s->database, s->allow_insecure), *text;

	if (!problem)
		return NULL;
	text = line ? xasprintf("%s:%u: database: %s", s->path, line, problem)
	            : xasprintf("%s: database (or DATABASE_URL in the environment): %s", s->path, problem);
	free(problem);
	return text;
}

/* Checks all queues, each in a process as its worker would be one: a plugin that crashes is named, and the others
 * are still checked. */
int check_main(const struct settings *settings)
{
	const struct queue_settings *q;
	char *problem = check_database(settings);
	int result = problem ? PROC_EXIT_CONFIG : PROC_EXIT_OK, status;
	pid_t pid;
	size_t i;

	if (problem)
		log_error("%s", problem);
	free(problem);
	for (i = 0; i < settings->nqueues; i++) {
		q = &settings->queues[i];
		if ((pid = proc_fork(NULL, 0)) == 0)
			exit(check_queue(settings, q));
		if (pid == -1 || waitpid(pid, &status, 0) != pid) {
			log_error("cannot check queue \"%s\": %s", q->name, strerror(errno));
			result = PROC_EXIT_CONFIG;
		} else if (WIFSIGNALED(status)) {
			log_error("%s:%u: queue \"%s\": plugin \"%s\" crashed when it was checked (signal %d)",
				settings->path, q->line, q->name, q->plugin, WTERMSIG(status));
			result = PROC_EXIT_CONFIG;
		} else if (WEXITSTATUS(status) != PROC_EXIT_OK)
			result = PROC_EXIT_CONFIG;
	}
	return result;
}
