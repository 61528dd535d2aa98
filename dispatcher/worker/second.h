/* second.h: the worker's second connection: while there is a backlog, what is done goes to the database by it, so that
 * the server claims and settles at the same time. */
#ifndef SECOND_H
#define SECOND_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

struct pgconn;
struct second;

/* It beside `first`. Nothing is connected before there is a backlog. */
struct second *second_new(
	struct event_base *base, const char *conninfo, const char *application_name, struct pgconn *first);
void second_hang_up(struct second *s); /* answers what is under way as lost; only second_free() may follow */
void second_free(struct second *s);

/* The first connection is lost, and perhaps its server: the second one ends with it. */
void second_end(struct second *s);

/* `n` messages are done, and the last claim has brought all that it asked for, or not. Returns the connection by which
 * this statement goes: the second or the first one. second_answered() follows. */
struct pgconn *second_use(struct second *s, size_t n, bool more);
void second_answered(struct second *s);

/* Another number for each connection; 0: there is none now. */
unsigned second_session(const struct second *s);
/* The connection if it is up, else NULL. */
struct pgconn *second_conn(const struct second *s);

#endif
