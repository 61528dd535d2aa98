/* pgresult.h: the answer to a statement. */
#ifndef PGRESULT_H
#define PGRESULT_H

#include <libpq-fe.h>

/* `res` is NULL when the connection was lost: if the statement was sent, the outcome is unknown. */
struct pgresult {
	PGresult *res;
	const char *error;    /* one line; NULL when it succeeded and its transaction was committed */
	const char *sqlstate; /* "" when the connection was lost */
	int affected;         /* rows changed, when `res` was not made by a server and cannot say */
};

typedef void (*pgconn_result_cb)(void *arg, const struct pgresult *r);

#endif
