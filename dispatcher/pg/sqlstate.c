/* sqlstate.c: what an error of the database means, and what follows from it; the one table for the whole daemon. */
#include "config.h"

#include "pg/sqlstate.h"

#include <stddef.h>
#include <string.h>

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

/* A whole state, or the two letters of its class; a whole state wins over its class wherever it stands. */
static const struct meaning {
	char state[6];
	enum sqlstate_class class;
} meanings[] = {
	{ "08", SQLSTATE_CONNECTION },
	{ "57P01", SQLSTATE_CONNECTION },
	{ "57P02", SQLSTATE_CONNECTION },
	{ "57P03", SQLSTATE_CONNECTION },
	{ "57P04", SQLSTATE_CONNECTION },
	{ "57P05", SQLSTATE_CONNECTION },
	{ "40003", SQLSTATE_CONNECTION }, /* it is unknown whether the statement took effect */
	{ "25P03", SQLSTATE_CONNECTION },
	{ "25P04", SQLSTATE_CONNECTION },
	{ "28", SQLSTATE_CONNECTION },
	{ "25006", SQLSTATE_READ_ONLY },
	/* functions, columns, types, operators, tables, cached plans, prepared statements, schemas */
	{ "42883", SQLSTATE_STALE },
	{ "42703", SQLSTATE_STALE },
	{ "42804", SQLSTATE_STALE },
	{ "42725", SQLSTATE_STALE },
	{ "42704", SQLSTATE_STALE },
	{ "42P01", SQLSTATE_STALE },
	{ "0A000", SQLSTATE_STALE },
	{ "26000", SQLSTATE_STALE },
	{ "3F000", SQLSTATE_STALE },
	{ "55P03", SQLSTATE_LOCK },
	{ "55006", SQLSTATE_LOCK },
	{ "40", SQLSTATE_LOCK },
	{ "57014", SQLSTATE_LOCK },
	{ "42501", SQLSTATE_RIGHTS },
	{ "53", SQLSTATE_RESOURCES },
	{ "58", SQLSTATE_RESOURCES },
	{ "57", SQLSTATE_RESOURCES },
	{ "55", SQLSTATE_RESOURCES }, /* a sequence at its end, an object in no state for it */
	/* values, constraints, limits such as 1 GB of text, triggers that raise, WITH CHECK OPTION */
	{ "22", SQLSTATE_ROW_DATA },
	{ "23", SQLSTATE_ROW_DATA },
	{ "27", SQLSTATE_ROW_DATA },
	{ "44", SQLSTATE_ROW_DATA },
	{ "54", SQLSTATE_ROW_DATA },
	{ "P0", SQLSTATE_ROW_DATA },
	{ "09", SQLSTATE_ROW_DATA },
	{ "38", SQLSTATE_ROW_DATA },
	{ "39", SQLSTATE_ROW_DATA },
};

enum sqlstate_class sqlstate_class(const char *sqlstate)
{
	enum sqlstate_class class = SQLSTATE_OURS;

	if (!*sqlstate)
		return SQLSTATE_CONNECTION;
	for (size_t i = 0; i < sizeof(meanings) / sizeof(*meanings); i++) {
		if (strcmp(meanings[i].state, sqlstate) == 0)
			return meanings[i].class;
		if (!meanings[i].state[2] && strncmp(meanings[i].state, sqlstate, 2) == 0)
			class = meanings[i].class;
	}
	return class;
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

bool sqlstate_is_unmigrated(const char *sqlstate)
{
	static const char states[][6] = { "42883", "42P01", "42703", "3F000" };

	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
		if (strcmp(states[i], sqlstate) == 0)
			return true;
	return false;
}
