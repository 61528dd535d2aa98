/* migration.h: one step of a migration: a transaction that is kept whole or not at all, and that never waits for a lock
 * with the application's traffic behind it: it gives up at once, and is tried again. */
#ifndef MIGRATION_H
#define MIGRATION_H

#include "cmd/db.h"
#include "cmd/sqlfile.h"

#include <stdbool.h>
#include <stdint.h>

struct migration {
	const struct cmd_db *db;
	int64_t until_ms; /* by the monotonic clock: how long locks of others are tried for */
	bool busy;        /* the last step failed because of a lock */
	bool first;       /* the table of what was applied is being made */
	bool told;        /* the user knows that we wait */
};

/* Connects to a primary with the settings of a migration; false after printing why not. */
bool migration_open(struct cmd_db *db);
/* Makes the table of what was applied. */
bool migration_prepare(struct migration *m);
/* Applies a file and records it, both or neither; true when somebody else has just done so, too. */
bool migration_apply(struct migration *m, const struct sql_file *f, const char *version);
/* Runs a query in a transaction; NULL after printing why not. */
PGresult *migration_query(struct migration *m, const char *what, const char *sql);
/* Moves the queues with their messages to the extension pgmq, or from it to the schema of `files`; the texts come
 * before and after those files. Forgets which files were applied. */
bool migration_move(struct migration *m, bool to_extension, const char *leave, const struct sql_file *const files[],
	const char *enter);
/* Connects the queues with the application's tables, and prints what is missing of those. When locks of others stand in
 * the way until the end, the rest is connected all the same, and the answer is false. */
bool migration_connect(struct migration *m);

#endif
