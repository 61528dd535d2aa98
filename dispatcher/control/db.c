/* db.c: the database for handlers of HTTP requests: ask it, then answer the client out of what came. */
#include "config.h"

#include "control/db.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "pg/sqlstate.h"

#include <stdlib.h>
#include <string.h>

#define CONTROL_DB_UNDER_WAY_MAX 256 /* statements; more would only time out */

struct control_db {
	struct control *control;
	struct pgconn *pg; /* pipelined */
	bool was_up;
	void (*up)(struct control *c);
	size_t under_way;
};

/* A statement, and the callback that gets its result. */
struct control_db_query {
	struct control_db *db;
	pgconn_result_cb cb;
	void *arg;
};

/* A statement for one request. */
struct control_db_answer {
	struct http_request *req;
	control_db_answer_cb answer;
};

/* Connected. */
static void control_db_up(void *arg)
{
	struct control_db *db = arg;

	stats_gauge(db->control->env->slot, GAUGE_CONNECTED, 1);
	if (db->was_up)
		stats_add(db->control->env->slot, STAT_RECONNECTS, 1);
	db->was_up = true;
	log_debug("connected to the database");
	db->up(db->control);
}

/* Lost. */
static void control_db_down(void *arg, const char *reason)
{
	struct control_db *db = arg;

	stats_gauge(db->control->env->slot, GAUGE_CONNECTED, 0);
	log_warn("lost the database: %s", reason);
}

/* A connection attempt failed. The workers log the same at a higher level. */
static void control_db_failed(void *arg, const char *reason)
{
	(void)arg;
	log_debug("no connection to the database: %s", reason);
}

static const struct pgconn_events control_db_events = {
	.up = control_db_up, .down = control_db_down, .failed = control_db_failed
};

struct control_db *control_db_new(struct control *c, void (*up)(struct control *c))
{
	struct control_db *db = xcalloc(1, sizeof(*db));

	db->control = c;
	db->up = up;
	db->pg = pgconn_new(c->base, c->env->settings->database, "pgmqd control", true, &control_db_events, db);
	pgconn_start(db->pg);
	return db;
}

void control_db_free(struct control_db *db)
{
	if (db == NULL)
		return;
	pgconn_free(db->pg);
	free(db);
}

/* Passes a result to its callback. */
static void control_db_result(void *arg, const struct pgresult *r)
{
	struct control_db_query *q = arg;

	q->db->under_way--;
	q->cb(q->arg, r);
	free(q);
}

void control_db_send(
	struct control_db *db, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	static const struct pgresult busy = { .error = "too many statements in progress", .sqlstate = "" };
	struct control_db_query *q;

	if (db->under_way >= CONTROL_DB_UNDER_WAY_MAX) {
		cb(arg, &busy);
		return;
	}
	q = xcalloc(1, sizeof(*q));
	q->db = db;
	q->cb = cb;
	q->arg = arg;
	db->under_way++;
	pgconn_query(db->pg, NULL, sql, nparams, params, control_db_result, q);
}

void control_db_answer(struct http_request *req, const struct pgresult *r)
{
	http_request_text(req, 200, "application/json", PQgetvalue(r->res, 0, 0));
}

void control_db_refuse(struct http_request *req, const struct pgresult *r)
{
	const char *colon;
	char code[64];
	int http;

	if (strncmp(r->sqlstate, "HT", 2) == 0 && strspn(r->sqlstate + 2, "0123456789") == 3) {
		http = atoi(r->sqlstate + 2);
		if (http == 401)
			http_request_add_header(req, "WWW-Authenticate", "Bearer realm=\"pgmqd\"");
		colon = strstr(r->error, ": ");
		if (colon != NULL && (size_t)(colon - r->error) < sizeof code) {
			memcpy(code, r->error, (size_t)(colon - r->error));
			code[colon - r->error] = '\0';
			http_request_error(req, http, code, "%s", colon + 2);
		} else {
			http_request_error(req, http, "refused", "%s", r->error);
		}
		return;
	}
	/* not connected, or the server is shutting down or full: the client may retry */
	if (*r->sqlstate == '\0' || strncmp(r->sqlstate, "57P", 3) == 0 || strncmp(r->sqlstate, "53", 2) == 0) {
		http_request_add_header(req, "Retry-After", "1");
		http_request_error(req, 503, "database_unavailable", "database unreachable; try again");
		return;
	}
	if (sqlstate_is_unmigrated(r->sqlstate)) {
		log_error("the database schema is out of date: %s; run pgmqd migrate", r->error);
		http_request_error(req, 500, "not_migrated", "the database schema is out of date; run pgmqd migrate");
		return;
	}
	if (strcmp(r->sqlstate, "22P02") == 0 || strcmp(r->sqlstate, "22P05") == 0 ||
		strcmp(r->sqlstate, "22003") == 0) {
		http_request_error(req, 400, "bad_value", "%s", r->error);
		return;
	}
	if (strcmp(r->sqlstate, "42704") == 0) {
		http_request_error(req, 404, "not_found", "%s", r->error);
		return;
	}
	log_error("a statement for an HTTP request failed: %s (SQLSTATE %s)", r->error, r->sqlstate);
	http_request_error(
		req, 500, "database_error", "the database refused (SQLSTATE %s); the log says more", r->sqlstate);
}

/* Calls the handler's callback, or answers with an error. */
static void control_db_answered(void *arg, const struct pgresult *r)
{
	struct control_db_answer *a = arg;
	struct http_request *req = a->req;
	control_db_answer_cb answer = a->answer;

	free(a);
	if (r->error != NULL)
		control_db_refuse(req, r);
	else
		answer(req, r);
}

void control_db_query(
	struct http_request *req, const char *sql, int nparams, const char *const *params, control_db_answer_cb answer)
{
	struct control_db_answer *a = xcalloc(1, sizeof(*a));

	a->req = req;
	a->answer = answer;
	control_db_send(control_of(req)->db, sql, nparams, params, control_db_answered, a);
}
