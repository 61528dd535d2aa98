/* load.h: reads the settings file. */
#ifndef LOAD_H
#define LOAD_H

#include "settings/settings.h"

/* Reads `path` (NULL: the built-in place). NULL on failure after the errors were written to *errors (malloc'd, one per
 * line, each "FILE:LINE: what is wrong and what to do"); every error of the file is told, not only the first. */
struct settings *settings_load(const char *path, char **errors);

/* The rest of the loading, which needs plugins: parses a queue's pairs by the plugin's table into `handle`, fills what
 * is open from the environment and the defaults, and checks what is required. `handle` starts zeroed; the caller
 * calls option_free() on it, after errors too. NULL, or the errors, one a line. */
char *settings_plugin_options(
	const struct settings *s, const struct queue_settings *q, const struct pgmqd_option *table, void *handle);

#endif
