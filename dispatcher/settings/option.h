/* option.h: typed options, the host's own and those of plugins, out of one kind of table (struct pgmqd_option). */
#ifndef OPTION_H
#define OPTION_H

#include "pgmqd-plugin.h"

#include <stdbool.h>
#include <stddef.h>

/* Parses `text` by the row's type into base + offset. String values are copied (owned by base, freed by option_free).
 * NULL on success, else a malloc'd sentence such as: visibility_timeout: "30x" is not a duration (write 250ms, 30s,
 * 5min, 3h or 7d). */
char *option_set(const struct pgmqd_option *row, void *base, const char *text);

/* Fills every row's default in; rows without one are left zero. Dies on a default that does not parse (a programmer's
 * error). */
void option_defaults(const struct pgmqd_option *table, void *base);

/* Frees the strings that a table's rows own in base. */
void option_free(const struct pgmqd_option *table, void *base);

/* Whether two bases hold the same value. */
bool option_equal(const struct pgmqd_option *row, const void *a, const void *b);

/* The row of that name, or NULL. */
const struct pgmqd_option *option_find(const struct pgmqd_option *table, const char *name);

/* Remembers the closest name to `name` seen over several tables, by edit distance, for "did you mean". Starts zeroed;
 * the name stays NULL when nothing was close enough to be worth a question. */
struct option_guess {
	const char *name;
	unsigned distance;
};
void option_guess(struct option_guess *g, const struct pgmqd_option *table, const char *name);
void option_guess_word(struct option_guess *g, const char *candidate, const char *name);

/* The value as it would be written in a file ("" when there is none); secrets print as (set). Malloc'd. */
char *option_print(const struct pgmqd_option *row, const void *base);

/* "string", "duration", ... for people. */
const char *option_type_name(const struct pgmqd_option *row);

#endif
