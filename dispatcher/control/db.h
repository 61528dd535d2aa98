/* db.h: the database for handlers of HTTP requests: ask it, then answer the client out of what came. */
#ifndef HTTPDB_H
#define HTTPDB_H

#include "http/request.h"
#include "pg/pgconn.h"

struct httpdb;

/* Connects by itself, again and again, and calls `up` each time. */
struct httpdb *httpdb_new(struct control *c, void (*up)(struct control *c));
void httpdb_free(struct httpdb *db);

/* Called with a result without error; answers the call. */
typedef void (*httpdb_answer_cb)(struct httpcall *call, const struct pgresult *r);

/* Sends one statement with text parameters (NULL is NULL), and has its result answered. When it cannot be carried out
 * the call is answered here: 503 with Retry-After while there is no connection (whether it was carried out is then
 * unknown), and otherwise by its SQLSTATE: HTnnn, of our own functions, is HTTP status nnn with the message's text
 * behind "CODE: "; anything else is 500, and logged. */
void httpdb_query(
	struct httpcall *call, const char *sql, int nparams, const char *const *params, httpdb_answer_cb answer);

/* The same for a statement that answers many calls, or none: a plain callback, whose errors httpdb_refuse() answers. It
 * may be called before this returns. */
void httpdb_send(
	struct httpdb *db, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg);
void httpdb_refuse(struct httpcall *call, const struct pgresult *r);

#endif
