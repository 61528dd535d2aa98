/* env.h: values of options from the environment, from .env files and from files that hold secrets. */
#ifndef ENV_H
#define ENV_H

#include "settings/option.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* Reads KEY=VALUE lines of a .env file into the environment; what is set already stays. NULL, or one error line. */
char *settings_env_file(const char *path);

/* The value that a row whose variable is NAME takes from outside, as it would stand in the file (a bare number in a
 * variable named ..._MS is in milliseconds): from the file that NAME_FILE names, from the file NAME in
 * $CREDENTIALS_DIRECTORY, or from the variable itself. Malloc'd; NULL when there is none, or when it is empty. `source`
 * and `error` (either may be NULL) get a malloc'd text or NULL: where it is from, and what is wrong with it. */
char *settings_env_value(const struct pgmqd_option *row, char **source, char **error);

/* A number that changes when a file that values come from does. */
uint64_t settings_env_files(void);

/* Warns of a file that others than its owner can change, or, when it `holds` secrets, that everybody can read. */
void settings_env_warn_of_mode(const char *path, const struct stat *st, bool holds);

/* Fills those rows from the environment that the file left open: given[i] tells whether it gave row i; filled ones are
 * marked. */
void settings_env_fill(const struct pgmqd_option *table, void *base, bool *given, char **errors);

#endif
