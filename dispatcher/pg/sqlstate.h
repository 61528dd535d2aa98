/* sqlstate.h: what an error of the database means, and what follows from it; the one table for the whole daemon. */
#ifndef SQLSTATE_H
#define SQLSTATE_H

#include <stdbool.h>

enum sqlstate_class {
	SQLSTATE_CONNECTION = 0, /* the session is gone or going: after a reconnect the statement goes out again */
	SQLSTATE_READ_ONLY,      /* the session cannot write: drop it and connect anew */
	SQLSTATE_STALE,          /* the catalogue changed: probe the tables, then send the statement again */
	SQLSTATE_LOCK,           /* a lock, a time limit, a cancel, a serialization failure: send it again */
	SQLSTATE_RIGHTS,         /* the role may not: send it again until an administrator has granted it */
	SQLSTATE_RESOURCES,      /* disk, memory, connections: send it again */
	SQLSTATE_ROW_DATA,       /* the content of one row: find that row, the others go on */
	SQLSTATE_OURS,           /* the daemon's own mistake, or a server's: treated like one row's content */
	SQLSTATE_PLUGIN,         /* the plugin's statement is at fault: an attempt of the message is over */
	SQLSTATE_NCLASSES
};

/* The class of an error of the daemon's own statement; "" stands for a lost connection. */
enum sqlstate_class sqlstate_class(const char *sqlstate);
/* The class of an error of a transaction in which a statement of a plugin ran. */
enum sqlstate_class sqlstate_class_plugin(const char *sqlstate);

/* Whether the same statement may succeed later, without a change of its content. */
bool sqlstate_passes(enum sqlstate_class c);
/* Whether one row of the statement's many may be the cause. */
bool sqlstate_blames_row(enum sqlstate_class c);
const char *sqlstate_class_name(enum sqlstate_class c); /* in logs */
/* Errors of one kind of statement in a row, none of which was about a row's content. */
struct sqlstate_row {
	char state[6];
	unsigned n;
};
#define SQLSTATE_ROW_NONE ((struct sqlstate_row){ .n = 0 })

/* Counts one more. True when the errors may be a row's after all, and it is time to look: what their class asks for was
 * done, and they come again. A trigger may raise any SQLSTATE, and for one row only. */
bool sqlstate_insists(struct sqlstate_row *r, const char *sqlstate);

/* Whether a function, table, column or schema that a statement of ours names is not there: the schema pgmqd is another
 * release's, or there is none. */
bool sqlstate_is_unmigrated(const char *sqlstate);

#endif
