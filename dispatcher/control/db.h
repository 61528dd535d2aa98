/* db.h: the database for handlers of HTTP requests: ask it, then answer the client out of what came. */
#ifndef CONTROL_DB_H
#define CONTROL_DB_H

#include "control/context.h"
#include "pg/pgconn.h"

struct control_db;

/* Connects, reconnects after each loss, and calls `up` each time. */
struct control_db *control_db_new(struct control *c, void (*up)(struct control *c));
void control_db_free(struct control_db *db);

/* Called with a result without error; answers the request. */
typedef void (*control_db_answer_cb)(struct http_request *req, const struct pgresult *r);

/* Sends one statement with text parameters (NULL is NULL), and has its result answered. When it cannot be carried out
 * the request is answered here: 503 with Retry-After while there is no connection (whether it was carried out is then
 * unknown), and otherwise by its SQLSTATE: HTnnn, of our own functions, is HTTP status nnn with the message's text
 * behind "CODE: "; anything else is 500, and logged. */
void control_db_query(
	struct http_request *req, const char *sql, int nparams, const char *const *params, control_db_answer_cb answer);

/* Answers with the JSON that the database made: the one value of its result. */
void control_db_answer(struct http_request *req, const struct pgresult *r);

/* The same as control_db_query() for a statement that answers many calls, or none: a plain callback, whose errors
 * control_db_refuse() answers. It may be called before this returns. */
void control_db_send(
	struct control_db *db, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg);
void control_db_refuse(struct http_request *req, const struct pgresult *r);

#endif
