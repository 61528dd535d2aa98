/* sqlstate.c: what an error of the database means, and what follows from it; the one table for the whole daemon. */
#include "config.h"

#include "pg/sqlstate.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define INSISTS 3 /* errors in a row, and then they may be a row's */
#define INSISTS_EVERY 30

/* One policy for each class. */
static const struct policy {
	const char *name;
	bool passes, blames_row;
} policies[SQLSTATE_NCLASSES] = {
	[SQLSTATE_CONNECTION] = { "connection", true, false },
	[SQLSTATE_READ_ONLY] = { "read-only session", true, false },
	[SQLSTATE_STALE] = { "changed tables", true, false },
	[SQLSTATE_LOCK] = { "lock or time limit", true, false },
	[SQLSTATE_RIGHTS] = { "missing rights", true, false },
	[SQLSTATE_RESOURCES] = { "server resources", true, false },
	[SQLSTATE_ROW_DATA] = { "content of a row", false, true },
	[SQLSTATE_OURS] = { "internal", false, true },
	[SQLSTATE_PLUGIN] = { "statement of the plugin", false, true },
};

/* A whole state, or the two letters of its class; a whole state wins over its class wherever it stands. `unmigrated`:
 * something that a statement of ours names is not there, and pgmqd migrate makes it. */
static const struct meaning {
	char state[6];
	enum sqlstate_class class;
	bool unmigrated;
} meanings[] = {
	{ "08", SQLSTATE_CONNECTION, false },
	{ "57P01", SQLSTATE_CONNECTION, false },
	{ "57P02", SQLSTATE_CONNECTION, false },
	{ "57P03", SQLSTATE_CONNECTION, false },
	{ "57P04", SQLSTATE_CONNECTION, false },
	{ "57P05", SQLSTATE_CONNECTION, false },
	{ "40003", SQLSTATE_CONNECTION, false }, /* it is unknown whether the statement took effect */
	{ "25P03", SQLSTATE_CONNECTION, false },
	{ "25P04", SQLSTATE_CONNECTION, false },
	{ "28", SQLSTATE_CONNECTION, false },
	{ "25006", SQLSTATE_READ_ONLY, false },
	/* functions, columns, types, operators, tables, cached plans, prepared statements, schemas */
	{ "42883", SQLSTATE_STALE, true },
	{ "42703", SQLSTATE_STALE, true },
	{ "42804", SQLSTATE_STALE, false },
	{ "42725", SQLSTATE_STALE, false },
	{ "42704", SQLSTATE_STALE, false },
	{ "42P01", SQLSTATE_STALE, true },
	{ "0A000", SQLSTATE_STALE, false },
	{ "26000", SQLSTATE_STALE, false },
	{ "07001", SQLSTATE_STALE, false }, /* another number of parameters: see statement.c */
	{ "3F000", SQLSTATE_STALE, true },
	{ "55P03", SQLSTATE_LOCK, false },
	{ "55006", SQLSTATE_LOCK, false },
	{ "40", SQLSTATE_LOCK, false },
	{ "57014", SQLSTATE_LOCK, false },
	{ "42501", SQLSTATE_RIGHTS, false },
	{ "53", SQLSTATE_RESOURCES, false },
	{ "58", SQLSTATE_RESOURCES, false },
	{ "57", SQLSTATE_RESOURCES, false },
	{ "55", SQLSTATE_RESOURCES, false }, /* a sequence at its end, an object in no state for it */
	/* values, constraints, limits such as 1 GB of text, triggers that raise, WITH CHECK OPTION */
	{ "22", SQLSTATE_ROW_DATA, false },
	{ "23", SQLSTATE_ROW_DATA, false },
	{ "27", SQLSTATE_ROW_DATA, false },
	{ "44", SQLSTATE_ROW_DATA, false },
	{ "54", SQLSTATE_ROW_DATA, false },
	{ "P0", SQLSTATE_ROW_DATA, false },
	{ "09", SQLSTATE_ROW_DATA, false },
	{ "38", SQLSTATE_ROW_DATA, false },
	{ "39", SQLSTATE_ROW_DATA, false },
};

/* What a state means: by itself, else by its class; NULL: nothing is known of it. */
static const struct meaning *meaning_of(const char *sqlstate)
{
	const struct meaning *of_class = NULL;

	for (size_t i = 0; i < sizeof(meanings) / sizeof(*meanings); i++) {
		if (strcmp(meanings[i].state, sqlstate) == 0)
			return &meanings[i];
		if (!meanings[i].state[2] && strncmp(meanings[i].state, sqlstate, 2) == 0)
			of_class = &meanings[i];
	}
	return of_class;
}

enum sqlstate_class sqlstate_class(const char *sqlstate)
{
	const struct meaning *m;

	if (!*sqlstate)
		return SQLSTATE_CONNECTION;
	m = meaning_of(sqlstate);
	return m ? m->class : SQLSTATE_OURS;
}

enum sqlstate_class sqlstate_class_plugin(const char *sqlstate)
{
	enum sqlstate_class class = sqlstate_class(sqlstate);

	/* prepared statements are the daemon's alone; tables, rights and values may be the plugin's */
	if (class == SQLSTATE_STALE && strcmp(sqlstate, "26000") == 0)
		return class;
	return class == SQLSTATE_CONNECTION || class == SQLSTATE_READ_ONLY || class == SQLSTATE_LOCK ||
	                       class == SQLSTATE_RESOURCES
	               ? class
	               : SQLSTATE_PLUGIN;
}

bool sqlstate_passes(enum sqlstate_class c)
{
	return policies[c].passes;
}

bool sqlstate_blames_row(enum sqlstate_class c)
{
	return policies[c].blames_row;
}

const char *sqlstate_class_name(enum sqlstate_class c)
{
	return policies[c].name;
}

bool sqlstate_insists(struct sqlstate_row *r, const char *sqlstate)
{
	if (!*sqlstate)
		return false;
	if (strcmp(r->state, sqlstate) != 0) {
		snprintf(r->state, sizeof(r->state), "%s", sqlstate);
		r->n = 0;
	}
	r->n++;
	/* where it is no row's fault, each look is in vain and costs a statement for each row: less and less often */
	return r->n == INSISTS || r->n == 2 * INSISTS || r->n == 4 * INSISTS || r->n % INSISTS_EVERY == 0;
}

bool sqlstate_is_unmigrated(const char *sqlstate)
{
	const struct meaning *m = meaning_of(sqlstate);

	return m && m->unmigrated;
}
