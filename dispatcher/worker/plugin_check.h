/* plugin_check.h: the part of checking settings that needs libraries which the supervisor does without. */
#ifndef PLUGIN_CHECK_H
#define PLUGIN_CHECK_H

#include "settings/settings.h"

/* The connection string of the settings: NULL, or a malloc'd line "FILE:LINE: what is wrong and what to do". */
char *check_database(const struct settings *s);

/* Checks that, loads each queue's plugin and checks its options. 0, or 78 after a log line for each thing that is
 * wrong. */
int check_main(const struct settings *settings);

#endif
