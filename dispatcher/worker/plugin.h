/* plugin.h: a queue's shared object: found, checked, opened, its options filled in. */
#ifndef PLUGIN_H
#define PLUGIN_H

#include "pgmqd-plugin.h"
#include "settings/settings.h"

struct plugin {
	char *path;
	void *dl;
	struct pgmqd_plugin d;        /* the descriptor, copied: what an older plugin lacks is zero */
	struct pgmqd_option *options; /* the option table, rows brought to our size */
	void *handle;
};

/* Says which options can have no effect, one a line: a time limit of the plugin above the queue's deadline, a name that
 * is one of pgmqd's, a batch for a plugin that takes none. NULL: none (malloc'd). */
char *plugin_void_options(const struct plugin *p, const struct queue_settings *q);
/* Opens the plugin of a queue and fills its options in. NULL and *errors (malloc'd, one a line). Never unloads: the
 * process ends. */
struct plugin *plugin_load(const struct settings *s, const struct queue_settings *q, char **errors);
/* Opens it only: no handle, no options. NULL and *error (malloc'd). */
struct plugin *plugin_open(const struct settings *s, const char *name, char **error);
void plugin_free(struct plugin *p); /* the handle and the strings; the object stays mapped */

/* For `pgmqd run --check`: loads in this process. 0, or -1 and *errors. */
int plugin_check(const struct settings *s, const struct queue_settings *q, char **errors);

#endif
