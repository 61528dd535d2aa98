/* db.c: the database for handlers of HTTP requests: ask it, then answer the client out of what came. */
#include "config.h"

#include "control/db.h"

#include "base/log.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

#define HTTPDB_UNDER_WAY_MAX 256 /* statements; more wait for nothing but a time-out */

struct httpdb {
	struct control *control;
	struct pgconn *pg; /* pipelined */
	bool was_up;
	void (*up)(struct control *c);
	size_t under_way;
};

/* A statement, and who wants to know. */
struct httpdb_query {
	struct httpdb *db;
	pgconn_result_cb cb;
	void *arg;
};

/* One for one call. */
struct httpdb_answer {
	struct httpcall *call;
	httpdb_answer_cb answer;
};

/* Connected. */
static void httpdb_up(void *arg)
{
	struct httpdb *db = arg;

	stats_gauge(db->control->env->slot, GAUGE_CONNECTED, 1);
	if (db->was_up)
		stats_add(db->control->env->slot, STAT_RECONNECTS, 1);
	db->was_up = true;
	log_debug("connected to the database");
	db->up(db->control);
}

/* Lost. */
static void httpdb_down(void *arg, const char *reason)
{
	struct httpdb *db = arg;

	stats_gauge(db->control->env->slot, GAUGE_CONNECTED, 0);
	log_warn("lost the database: %s", reason);
}

/* One more try that failed; the workers' log lines say it loudly enough. */
static void httpdb_failed(void *arg, const char *reason)
{
	(void)arg;
	log_debug("no connection to the database: %s", reason);
}

static const struct pgconn_events httpdb_events = { .up = httpdb_up, .down = httpdb_down, .failed = httpdb_failed };

struct httpdb *httpdb_new(struct control *c, void (*up)(struct control *c))
{
	struct httpdb *db = xcalloc(1, sizeof(*db));

	db->control = c;
	db->up = up;
	db->pg = pgconn_new(c->base, c->env->settings->database, "pgmqd control", true, &httpdb_events, db);
	pgconn_start(db->pg);
	return db;
}

void httpdb_free(struct httpdb *db)
{
	if (db == NULL)
		return;
	pgconn_free(db->pg);
	free(db);
}

/* Hands a result on. */
static void httpdb_result(void *arg, const struct pgresult *r)
{
	struct httpdb_query *q = arg;

	q->db->under_way--;
	q->cb(q->arg, r);
	free(q);
}

void httpdb_send(
	struct httpdb *db, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	static const struct pgresult busy = { .error = "too many statements are under way", .sqlstate = "" };
	struct httpdb_query *q;

	if (db->under_way >= HTTPDB_UNDER_WAY_MAX) {
		cb(arg, &busy);
		return;
	}
	q = xcalloc(1, sizeof(*q));
	q->db = db;
	q->cb = cb;
	q->arg = arg;
	db->under_way++;
	pgconn_query(db->pg, NULL, sql, nparams, params, httpdb_result, q);
}

void httpdb_refuse(struct httpcall *call, const struct pgresult *r)
{
	const char *colon;
	char code[64];
	int http;

	if (strncmp(r->sqlstate, "HT", 2) == 0 && strspn(r->sqlstate + 2, "0123456789") == 3) {
		http = atoi(r->sqlstate + 2);
		colon = strstr(r->error, ": ");
		if (colon != NULL && (size_t)(colon - r->error) < sizeof code) {
			memcpy(code, r->error, (size_t)(colon - r->error));
			code[colon - r->error] = '\0';
			httpcall_error(call, http, code, "%s", colon + 2);
		} else {
			httpcall_error(call, http, "refused", "%s", r->error);
		}
		return;
	}
	/* no connection, or a server that goes down or is full: later is better */
	if (*r->sqlstate == '\0' || strncmp(r->sqlstate, "57P", 3) == 0 || strncmp(r->sqlstate, "53", 2) == 0) {
		httpcall_add_header(call, "Retry-After", "1");
		httpcall_error(
			call, HTTP_SERVUNAVAIL, "database_unavailable", "the database cannot be asked now; try again");
		return;
	}
	if (strcmp(r->sqlstate, "42883") == 0 || strcmp(r->sqlstate, "42P01") == 0 ||
		strcmp(r->sqlstate, "3F000") == 0) {
		log_error("the database lacks what this needs: %s; run pgmqd migrate", r->error);
		httpcall_error(
			call, HTTP_INTERNAL, "not_migrated", "the database is not up to date: run pgmqd migrate");
		return;
	}
	if (strcmp(r->sqlstate, "42704") == 0) {
		httpcall_error(call, HTTP_NOTFOUND, "not_found", "%s", r->error);
		return;
	}
	log_error("a statement for an HTTP request failed: %s (SQLSTATE %s)", r->error, r->sqlstate);
	httpcall_error(call, HTTP_INTERNAL, "database_error", "the database refused (SQLSTATE %s); the log says more",
		r->sqlstate);
}

/* Has the handler answer, or refuses. */
static void httpdb_answered(void *arg, const struct pgresult *r)
{
	struct httpdb_answer *a = arg;
	struct httpcall *call = a->call;
	httpdb_answer_cb answer = a->answer;

	free(a);
	if (r->error != NULL)
		httpdb_refuse(call, r);
	else
		answer(call, r);
}

void httpdb_query(
	struct httpcall *call, const char *sql, int nparams, const char *const *params, httpdb_answer_cb answer)
{
	struct httpdb_answer *a = xcalloc(1, sizeof(*a));

	a->call = call;
	a->answer = answer;
	httpdb_send(call->control->db, sql, nparams, params, httpdb_answered, a);
}
