/* status.c: what the status page asks for beside the queues: GET /api/status (the processes, and the last minutes), and
 * GET /api/schedules. */
#include "config.h"

#include "base/clock.h"
#include "http/route.h"

#include "control/db.h"
#include "control/history.h"
#include "control/prometheus.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A string, or null for an empty one. */
static void httpstatus_text(cJSON *json, const char *name, const char *text)
{
	if (*text != '\0')
		cJSON_AddStringToObject(json, name, text);
	else
		cJSON_AddNullToObject(json, name);
}

/* One process, of one of its queues. */
static cJSON *httpstatus_process(const struct control *c, const struct stats_slot *s)
{
	static const char *const roles[] = { "free", "supervisor", "listener", "worker", "control" };
	cJSON *json = cJSON_CreateObject();
	char error[256];

	stats_error_read(s, error, sizeof error);
	cJSON_AddStringToObject(json, "role", roles[atomic_load(&s->role)]);
	cJSON_AddStringToObject(json, "process", s->process);
	httpstatus_text(json, "queue", s->queue);
	httpstatus_text(json, "plugin", s->plugin);
	httpstatus_text(json, "plugin_version", s->plugin_version);
	cJSON_AddNumberToObject(json, "pid", atomic_load(&s->pid));
	cJSON_AddStringToObject(json, "state", stats_state_name(atomic_load(&s->state)));
	cJSON_AddBoolToObject(json, "up", metrics_process_up(s, c->beat_limit_ms));
	cJSON_AddBoolToObject(json, "retired", atomic_load(&s->retired));
	cJSON_AddBoolToObject(json, "connected", atomic_load(&s->gauges[GAUGE_CONNECTED]) != 0);
	cJSON_AddNumberToObject(json, "restarts", atomic_load(&s->restarts));
	cJSON_AddNumberToObject(
		json, "uptime_seconds", (double)(clock_monotonic_ms() - atomic_load(&s->started_ms)) / 1000);
	cJSON_AddNumberToObject(json, "running", (double)atomic_load(&s->gauges[GAUGE_RUNNING]));
	cJSON_AddNumberToObject(json, "longest_callback_ms", (double)atomic_load(&s->gauges[GAUGE_STALL]) / 1000);
	httpstatus_text(json, "last_error", error);
	return json;
}

/* GET /api/status: needs no database. ?after=N leaves out what the asker has of the history. */
static void httpstatus_get(struct httpcall *call)
{
	const struct control *c = call->control;
	const struct stats *st = c->env->stats;
	const char *after = httpcall_query(call, "after");
	cJSON *json = cJSON_CreateObject(), *list;
	bool listens = false, hearing = false;

	cJSON_AddStringToObject(json, "version", PACKAGE_VERSION);
	cJSON_AddNumberToObject(json, "now", (double)time(NULL));
	cJSON_AddNumberToObject(
		json, "uptime_seconds", (double)(clock_monotonic_ms() - atomic_load(&st->started_ms)) / 1000);
	cJSON_AddBoolToObject(json, "token_set", *c->env->settings->http_token != '\0');
	cJSON_AddBoolToObject(json, "authorized", call->authorized);
	list = cJSON_AddArrayToObject(json, "processes");
	for (size_t i = 0; i < st->nslots; i++) {
		const struct stats_slot *s = &st->slot[i];

		if (atomic_load(&s->role) == ROLE_FREE)
			continue;
		if (atomic_load(&s->role) == ROLE_LISTENER) {
			listens = true;
			hearing = hearing || atomic_load(&s->gauges[GAUGE_HEARING]) != 0;
		}
		cJSON_AddItemToArray(list, httpstatus_process(c, s));
	}
	if (listens)
		cJSON_AddBoolToObject(json, "hearing", hearing);
	else
		cJSON_AddNullToObject(json, "hearing");
	cJSON_AddItemToObject(json, "history", history_json(c->history, after != NULL ? strtoull(after, NULL, 10) : 0));
	httpcall_json(call, HTTP_OK, json);
}

/* The schedules, as a JSON array that the database made. */
static void httpstatus_schedules_answer(struct httpcall *call, const struct pgresult *r)
{
	httpcall_text(call, HTTP_OK, "application/json", PQgetvalue(r->res, 0, 0));
}

/* GET /api/schedules. */
static void httpstatus_schedules(struct httpcall *call)
{
	httpdb_query(call, "SELECT pgmqd.schedule_status()", 0, NULL, httpstatus_schedules_answer);
}

const struct httproute httpstatus_routes[] = {
	{ EVHTTP_REQ_GET, "/api/status", 0, httpstatus_get },
	{ EVHTTP_REQ_GET, "/api/schedules", 0, httpstatus_schedules },
	{ 0 },
};
