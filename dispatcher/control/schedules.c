/* schedules.c: the schedules over HTTP: GET /api/schedules, one with its history and its next times, GET /api/cron/next
 * (what a cron text means); POST …/run, pause, resume and edit. A run may take minutes, so it has a connection of its
 * own, which is open only while there is one. The work is done by functions in sql/026_schedules.sql. */
#include "config.h"

#include "control/schedules.h"

#include "base/cron.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "control/db.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SCHEDULES_RUNS "100"         /* of one schedule */
#define SCHEDULES_NEXT 5             /* times that are told */
#define SCHEDULES_WAITING_MAX 16     /* runs that wait for the one before them */
#define SCHEDULES_RUN_TIMEOUT_S 600U /* as in the scheduler */

/* A run that an operator wants. */
struct schedules_wish {
	char *name, *who;
	struct schedules_wish *next;
};

struct schedules {
	struct control *control;
	struct pgconn *pg; /* NULL: nothing runs */
	struct event *idle;
	struct schedules_wish *first; /* the one that runs, or waits for the connection */
	size_t n;
	bool sent;
};

/* ---- the times ---- */

/* Adds the next times of a schedule; returns what is wrong with it, malloc'd, or NULL. */
static char *schedules_add_next(cJSON *json, const char *text, const char *zone)
{
	cJSON *list = cJSON_AddArrayToObject(json, "next");
	struct cron cron;
	char buf[CRON_TIME_SIZE], *error = cron_parse(&cron, text);
	int64_t at = (int64_t)time(NULL);

	if (error == NULL && !cron_zone_exists(zone))
		error = xasprintf("the system does not know the time zone \"%s\"", zone);
	for (int n = 0; error == NULL && n < SCHEDULES_NEXT && (at = cron_next(&cron, zone, at)) != -1; n++)
		cJSON_AddItemToArray(list, cJSON_CreateString(cron_time(at, buf)));
	return error;
}

/* GET /api/cron/next?cron=TEXT&zone=ZONE: needs no database, so a page may ask while somebody types. */
void schedules_next(struct http_request *req)
{
	const char *cron = http_request_query(req, "cron"), *zone = http_request_query(req, "zone");
	cJSON *json = cJSON_CreateObject();
	char *error = schedules_add_next(json, cron != NULL ? cron : "", zone != NULL ? zone : "UTC");

	if (error != NULL)
		cJSON_AddStringToObject(json, "error", error);
	else
		cJSON_AddNullToObject(json, "error");
	free(error);
	http_request_json(req, 200, json);
}

/* ---- looking ---- */

/* GET /api/schedules. */
void schedules_list(struct http_request *req)
{
	control_db_query(req, "SELECT pgmqd.schedule_status()", 0, NULL, control_db_answer);
}

/* The one schedule of an answer, which the caller deletes; NULL: the request was answered. */
static cJSON *schedules_one(struct http_request *req, const struct pgresult *r)
{
	cJSON *all = cJSON_Parse(PQgetvalue(r->res, 0, 0));
	cJSON *one = cJSON_DetachItemFromArray(cJSON_GetObjectItemCaseSensitive(all, "schedules"), 0);

	cJSON_Delete(all);
	if (one == NULL)
		http_request_error(req, 404, "not_found", "there is no schedule \"%s\"", req->param[0]);
	return one;
}

/* The schedule has come. */
static void schedules_shown(struct http_request *req, const struct pgresult *r)
{
	cJSON *one = schedules_one(req, r);

	if (one == NULL)
		return;
	free(schedules_add_next(one, cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "cron")),
		cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(one, "tz"))));
	http_request_json(req, 200, one);
}

/* GET /api/schedules/NAME: with its last hundred runs and its next times. */
void schedules_show(struct http_request *req)
{
	const char *params[] = { req->param[0], SCHEDULES_RUNS };

	control_db_query(req, "SELECT pgmqd.schedule_status($1, $2::int)", 2, params, schedules_shown);
}

/* ---- running ---- */

/* Takes the first wish away. */
static void schedules_drop(struct schedules *s)
{
	struct schedules_wish *w = s->first;

	s->first = w->next;
	s->n--;
	free(w->name);
	free(w->who);
	free(w);
}

static void schedules_go_on(struct schedules *s);

/* A run has ended; what the command did is in the history already, but for a run that was cut off. */
static void schedules_ran(void *arg, const struct pgresult *r)
{
	struct schedules *s = arg;
	struct schedules_wish *w = s->first;

	s->sent = false;
	if (r->error == NULL)
		log_info("schedule %s: run for %s: %s", w->name, w->who, PQgetvalue(r->res, 0, 0));
	else
		log_warn("schedule %s: the run for %s failed: %s", w->name, w->who, r->error);
	if (r->error != NULL && *r->sqlstate != '\0') {
		const char *params[] = { w->name, w->who, r->error };

		pgconn_query(s->pg, NULL, "SELECT status FROM pgmqd.run_now($1, $2, $3)", 3, params, NULL, NULL);
	}
	schedules_drop(s);
	schedules_go_on(s);
}

/* Sends the next run, or closes the connection: not here, since this may be a callback of it. */
static void schedules_go_on(struct schedules *s)
{
	const char *params[2];

	if (s->sent || !pgconn_is_up(s->pg))
		return;
	if (s->first == NULL) {
		loop_timer(s->idle, 1000);
		return;
	}
	params[0] = s->first->name;
	params[1] = s->first->who;
	s->sent = true;
	pgconn_query(s->pg, NULL, "SELECT status FROM pgmqd.run_now($1, $2)", 2, params, schedules_ran, s);
}

/* Nothing has run for a second. */
static void schedules_idle(evutil_socket_t fd, short what, void *arg)
{
	struct schedules *s = arg;

	(void)fd, (void)what;
	if (s->first != NULL)
		return;
	pgconn_free(s->pg);
	s->pg = NULL;
}

/* Connected. */
static void schedules_up(void *arg)
{
	schedules_go_on(arg);
}

/* When the connection is lost, the run under way is answered as failed. */
static const struct pgconn_events schedules_events = { .up = schedules_up };

struct schedules *schedules_new(struct control *c)
{
	struct schedules *s = xcalloc(1, sizeof *s);

	s->control = c;
	s->idle = loop_timer_new(c->base, schedules_idle, s);
	return s;
}

void schedules_free(struct schedules *s)
{
	if (s == NULL)
		return;
	if (s->pg != NULL)
		pgconn_free(s->pg);
	while (s->first != NULL)
		schedules_drop(s);
	event_free(s->idle);
	free(s);
}

/* The schedule exists: it runs behind those that were asked for before. */
static void schedules_start(struct http_request *req, const struct pgresult *r)
{
	struct schedules *s = control_of(req)->schedules;
	struct schedules_wish *w, **last = &s->first;
	cJSON *one = schedules_one(req, r);

	if (one == NULL)
		return;
	cJSON_Delete(one);
	if (s->n >= SCHEDULES_WAITING_MAX) {
		http_request_add_header(req, "Retry-After", "10");
		http_request_error(req, 503, "busy", "%zu runs wait already; try again later", s->n);
		return;
	}
	w = xcalloc(1, sizeof *w);
	w->name = xstrdup(req->param[0]);
	w->who = xstrdup(http_request_who(req));
	while (*last != NULL)
		last = &(*last)->next;
	*last = w;
	s->n++;
	if (s->pg == NULL) {
		s->pg = pgconn_new(s->control->base, s->control->env->settings->database, "pgmqd control schedules",
			false, &schedules_events, s);
		pgconn_set_statement_timeout(s->pg, SCHEDULES_RUN_TIMEOUT_S);
		pgconn_start(s->pg);
	} else {
		schedules_go_on(s);
	}
	one = cJSON_CreateObject();
	cJSON_AddBoolToObject(one, "started", true);
	http_request_json(req, 202, one);
}

/* POST …/run, with {}: 202 at once; the outcome is in the history. */
void schedules_run(struct http_request *req)
{
	const char *params[] = { req->param[0] };
	cJSON *json = http_request_object(req);

	if (json == NULL)
		return;
	cJSON_Delete(json);
	control_db_query(req, "SELECT pgmqd.schedule_status($1, 0)", 1, params, schedules_start);
}

/* ---- changing ---- */

/* Changes a schedule. */
static void schedules_change(struct http_request *req, const char *request)
{
	const char *params[] = { req->param[0], request, http_request_who(req) };

	control_db_query(req, "SELECT pgmqd.edit_schedule($1, $2::jsonb, $3)", 3, params, control_db_answer);
}

/* Switches a schedule on or off, with {"why": "..."} or {}. */
static void schedules_switch(struct http_request *req, bool on)
{
	cJSON *json = http_request_object(req), *request, *why;
	char *text;

	if (json == NULL)
		return;
	request = cJSON_CreateObject();
	cJSON_AddBoolToObject(request, "enabled", on);
	if ((why = cJSON_DetachItemFromObjectCaseSensitive(json, "why")) != NULL)
		cJSON_AddItemToObject(request, "why", why);
	text = cJSON_PrintUnformatted(request);
	schedules_change(req, text);
	free(text);
	cJSON_Delete(request);
	cJSON_Delete(json);
}

void schedules_pause(struct http_request *req)
{
	schedules_switch(req, false);
}

void schedules_resume(struct http_request *req)
{
	schedules_switch(req, true);
}

/* POST …/edit, with {"cron": "...", "tz": "..."}. */
void schedules_edit(struct http_request *req)
{
	cJSON *json = http_request_object(req);

	if (json == NULL)
		return;
	cJSON_Delete(json);
	schedules_change(req, req->body);
}
