/* check.c: the part of checking settings that needs the plugins, done in a process that ends afterwards. */
#include "config.h"

#include "log.h"
#include "plugin.h"
#include "proc.h"

#include <stdlib.h>
#include <string.h>

/* Loads each queue's plugin and checks the queue's options against it; logs every error, one a line. */
int
check_main(const struct settings *settings)
{
	const struct queue_settings *q;
	char *errors, *line, *rest;
	int status = PROC_EXIT_OK;
	size_t i;

	for (i = 0; i < settings->nqueues; i++) {
		q = &settings->queues[i];
		errors = NULL;
		if (plugin_check(settings, q, &errors) == 0)
			continue;
		status = PROC_EXIT_CONFIG;
		for (rest = errors; (line = strsep(&rest, "\n")) != NULL;)
			if (*line != '\0')
				log_error("%s", line);
		free(errors);
	}
	return status;
}
