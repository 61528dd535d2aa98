/* load.h: reads the settings file. */
#ifndef LOAD_H
#define LOAD_H

#include "settings/settings.h"

/* Reads `path` (NULL: the built-in place). NULL on failure after the errors were written to *errors (malloc'd, one per
 * line, each "FILE:LINE: what is wrong and what to do"); every error of the file is told, not only the first. */
struct settings *settings_load(const char *path, char **errors);

#endif
