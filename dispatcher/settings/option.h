/* option.h: typed options, the host's own and those of plugins, out of one kind of table (struct pgmqd_option). */
#ifndef OPTION_H
#define OPTION_H

#include "pgmqd-plugin.h"

#include <stdbool.h>
#include <stddef.h>

/* The host's own tables use one more type and some flags in a row's `type`. OPTION_CHOICE fills an int field with the
 * place of the word among `choices`: such tables declare an enum in the same order. The flags say how a changed value
 * takes effect. */
enum {
	OPTION_CHOICE = 64,
	OPTION_RESTARTS_WORKERS =
		0,               /* a reload starts the workers concerned anew; so it is for every plugin's options */
	OPTION_RELOADS = 1 << 8, /* a reload applies it, and workers run on */
	OPTION_NEEDS_RESTART = 1 << 9, /* pgmqd itself has to be restarted */
	OPTION_TYPE_MASK = (1 << 8) - 1
};
uint32_t option_type(const struct pgmqd_option *row); /* without the flags */

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
