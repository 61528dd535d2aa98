/* fake_pgconn.h: connections that keep their statements until the test answers them. */
#ifndef FAKE_PGCONN_H
#define FAKE_PGCONN_H

#include "pg/pgconn.h"

struct asked {
	char *text; /* of a prepared statement, its name */
	bool prepare;
	pgconn_result_cb cb;
	void *arg;
};

struct pgconn {
	const struct pgconn_events *events;
	void *arg;
	bool up, pooled, near;
	struct asked asked[16];
	size_t n;
};

extern struct pgconn *made; /* the one that pgconn_new() made; NULL: there is none */
extern unsigned connects;   /* how many were made */
extern char wanted[16];     /* the last statement's first parameter: of a claim, how many messages */

/* Answers the first statement; takes over `res`. */
void answer(struct pgconn *c, PGresult *res, const char *error, const char *sqlstate);

#endif
