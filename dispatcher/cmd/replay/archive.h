/* archive.h: the messages that are replayed, read from the archive or from the dead letters. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "cmd/db.h"
#include "cmd/replay/replay_private.h"

/* Which messages. */
struct archive_choice {
	const char *queue, *where; /* where: JSON that a message contains; NULL: any */
	int64_t since_ms, limit;   /* since_ms 0: of any age */
	bool dead;
};

/* Begins the read-only transaction whose snapshot everything sees. NULL after printing what failed; else the snapshot's
 * name, malloc'd. */
char *archive_begin(const struct cmd_db *db);

/* Reads the newest messages of the choice, oldest first. False after printing what failed. */
bool archive_read(const struct cmd_db *db, const struct archive_choice *choice, struct replay_messages *m);
void archive_free(struct replay_messages *m);

#endif
