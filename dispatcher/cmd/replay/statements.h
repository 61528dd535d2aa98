/* statements.h: a database session for the statements of a plugin that is replayed: nothing that they do stays. */
#ifndef STATEMENTS_H
#define STATEMENTS_H

#include "cmd/plugin/answers.h"
#include "cmd/replay/replay_private.h"

struct statements;

/* Connects, and begins the transaction that is never committed. NULL with *error (malloc'd). */
struct statements *statements_open(const struct replay_way *way, char **error);
void statements_close(struct statements *s);

/* Runs one as the server would for a worker. False: it would write, and was not let. */
bool statements_run(
	struct statements *s, const char *sql, int nparams, const char *const *params, struct answer *reply);
/* The effects of a message's statements are undone before the next message. */
void statements_undo(struct statements *s);

#endif
