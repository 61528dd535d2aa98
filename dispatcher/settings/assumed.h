/* assumed.h: the settings that pgmqd assumes where there is no settings file: the application's queues with their
 * plugins, as far as the environment says what those need. */
#ifndef ASSUMED_H
#define ASSUMED_H

#include <stdbool.h>

/* A queue that the application's functions and triggers fill, and its plugin. */
struct assumed_queue {
	const char *name, *plugin;
	const char *needs[3]; /* variables that the plugin cannot do without; NULL ends them */
	bool any;             /* one of them is enough */
	const char *job;      /* the [job] whose messages go there, or NULL */
};

/* In the order of the settings file; ends with a row without a name. */
extern const struct assumed_queue assumed_queues[];

/* The variables that the row needs and the environment does not have, such as "SMTP_HOST and SMTP_FROM"; NULL: it has
 * all. malloc'd.
 */
char *assumed_missing(const struct assumed_queue *q);

/* More lines of the queue's section, each after a line break; malloc'd. */
char *assumed_options(const struct assumed_queue *q);

/* The text of the settings, malloc'd; each line of *report (malloc'd) says what was assumed or left out. NULL when the
 * environment names no database, so that the missing file is an error. */
char *assumed_settings(const char *path, char **report);

#endif
