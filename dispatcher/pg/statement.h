/* statement.h: one statement on its way over a connection, and lists of them in order. */
#ifndef STATEMENT_H
#define STATEMENT_H

#include "pg/pgresult.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/queue.h>

struct statement {
	TAILQ_ENTRY(statement) link;
	char *name, *sql; /* name only: execute prepared; both: prepare; sql only: query */
	bool prepare;
	bool sync; /* no statement, only the Sync behind it */
	bool ping; /* asks for a sign of life and nothing else */
	int nparams;
	char **params;
	bool ends_group; /* a Sync follows it */
	PGresult *res;   /* its result, kept until the group's Sync */
	pgconn_result_cb cb;
	void *arg;
};
TAILQ_HEAD(statement_list, statement);

/* All texts are copied; `cb` may be NULL. */
struct statement *statement_new(
	const char *name, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg);
void statement_free(struct statement *s);
bool statement_send(const struct statement *s, PGconn *pg); /* gives it to libpq; false: PQerrorMessage() says why */

/* Empties a list: each statement's callback gets `error`, without an SQLSTATE. */
void statement_lose_all(struct statement_list *list, const char *error);
void statement_free_all(struct statement_list *list);
/* The statements of one transaction have ended: each callback gets its own result, or all get the first error. */
void statement_answer_all(struct statement_list *group);

/* Whether the text begins or ends a transaction, which would change what a connection's other statements mean. */
bool statement_is_transaction_control(const char *sql);

#endif
