/* status.c: GET /api/status (the processes, and the history of the last minutes) and GET /api/schedules. */
#include "config.h"

#include "control/status.h"

#include "base/clock.h"
#include "control/context.h"
#include "control/db.h"
#include "control/health.h"
#include "control/history.h"
#include "control/prometheus.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A string, or null for an empty one. */
static void status_text(cJSON *json, const char *name, const char *text)
{
	if (*text != '\0')
		cJSON_AddStringToObject(json, name, text);
	else
		cJSON_AddNullToObject(json, name);
}

/* One process, of one of its queues. */
static cJSON *status_process(const struct control *c, const struct stats_slot *s)
{
	static const char *const roles[] = { "free", "supervisor", "listener", "worker", "control" };
	cJSON *json = cJSON_CreateObject();
	char error[256];

	stats_error_read(s, error, sizeof error);
	cJSON_AddStringToObject(json, "role", roles[atomic_load(&s->role)]);
	cJSON_AddStringToObject(json, "process", s->process);
	status_text(json, "queue", s->queue);
	status_text(json, "plugin", s->plugin);
	status_text(json, "plugin_version", s->plugin_version);
	cJSON_AddNumberToObject(json, "pid", atomic_load(&s->pid));
	cJSON_AddStringToObject(json, "state", stats_state_name(atomic_load(&s->state)));
	cJSON_AddBoolToObject(json, "up", prometheus_process_up(c->env->stats, s, c->beat_limit_ms));
	cJSON_AddBoolToObject(json, "retired", atomic_load(&s->retired));
	cJSON_AddBoolToObject(json, "connected", atomic_load(&s->gauges[GAUGE_CONNECTED]) != 0);
	cJSON_AddBoolToObject(json, "claims_fail", health_claims_fail(s));
	if (atomic_load(&s->gauges[GAUGE_CLAIM_OK]) != 0)
		cJSON_AddNumberToObject(json, "last_claim", (double)atomic_load(&s->gauges[GAUGE_CLAIM_OK]));
	else
		cJSON_AddNullToObject(json, "last_claim");
	cJSON_AddNumberToObject(json, "restarts", atomic_load(&s->restarts));
	cJSON_AddNumberToObject(
		json, "uptime_seconds", (double)(clock_monotonic_ms() - atomic_load(&s->started_ms)) / 1000);
	cJSON_AddNumberToObject(json, "running", (double)atomic_load(&s->gauges[GAUGE_RUNNING]));
	cJSON_AddNumberToObject(json, "longest_callback_ms", (double)atomic_load(&s->gauges[GAUGE_STALL]) / 1000);
	status_text(json, "last_error", error);
	return json;
}

/* GET /api/status: needs no database. ?after=N leaves out the points of the history up to N. */
void status_get(struct http_request *req)
{
	const struct control *c = control_of(req);
	const struct stats *st = c->env->stats;
	const char *after = http_request_query(req, "after");
	cJSON *json = cJSON_CreateObject(), *list;
	bool listens = false, hearing = false;

	cJSON_AddStringToObject(json, "version", PACKAGE_VERSION);
	cJSON_AddNumberToObject(json, "now", (double)time(NULL));
	cJSON_AddNumberToObject(
		json, "uptime_seconds", (double)(clock_monotonic_ms() - atomic_load(&st->started_ms)) / 1000);
	cJSON_AddBoolToObject(json, "token_set", c->people.n > 0);
	cJSON_AddBoolToObject(json, "authorized", req->person != NULL);
	cJSON_AddStringToObject(json, "role", people_role_name(req->role));
	status_text(json, "name", req->person != NULL ? req->person->name : "");
	list = cJSON_AddArrayToObject(json, "processes");
	for (size_t i = 0; i < st->nslots; i++) {
		const struct stats_slot *s = &st->slot[i];

		if (atomic_load(&s->role) == ROLE_FREE)
			continue;
		if (atomic_load(&s->role) == ROLE_LISTENER) {
			listens = true;
			hearing = hearing || atomic_load(&s->gauges[GAUGE_HEARING]) != 0;
		}
		cJSON_AddItemToArray(list, status_process(c, s));
	}
	if (listens)
		cJSON_AddBoolToObject(json, "hearing", hearing);
	else
		cJSON_AddNullToObject(json, "hearing");
	cJSON_AddItemToObject(json, "history", history_json(c->history, after != NULL ? strtoull(after, NULL, 10) : 0));
	http_request_json(req, 200, json);
}
