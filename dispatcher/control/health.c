/* health.c: probes: is it alive, is it well, is it ready; out of the shared counters, without the database. */
#include "config.h"

#include "control/health.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "control/context.h"
#include "control/prometheus.h"
#include "http/route.h"

#include <stdio.h>
#include <stdlib.h>

/* "worker email_queue" for people. */
static const char *health_name(const struct stats_slot *s, char *buf, size_t size)
{
	if (atomic_load(&s->role) == ROLE_WORKER)
		snprintf(buf, size, "worker %s", s->process);
	else
		snprintf(buf, size, "%s", s->process);
	return buf;
}

/* Appends "NAME: WHAT", and the newest error of the process where that may explain it. */
static void health_note(cJSON *list, const struct stats_slot *s, const char *what, bool with_error)
{
	char name[128], error[256] = "", *text;

	if (with_error)
		stats_error_read(s, error, sizeof error);
	text = xasprintf("%s: %s%s%s", health_name(s, name, sizeof name), what, *error != '\0' ? ": " : "", error);
	cJSON_AddItemToArray(list, cJSON_CreateString(text));
	free(text);
}

/* A worker that has failed several claims in a row shows itself as connecting; at a start it has failed none yet. */
bool health_claims_fail(const struct stats_slot *s)
{
	return atomic_load(&s->role) == ROLE_WORKER && atomic_load(&s->state) == STATE_CONNECTING &&
	       atomic_load(&s->gauges[GAUGE_CONNECTED]) != 0 && atomic_load(&s->counters[STAT_CLAIMS_FAILED]) != 0;
}

/* Lists what is wrong with the processes in service, which queues are paused, and what makes the service slower only.
 */
static void health_examine(const struct control *c, cJSON *problems, cJSON *paused, cJSON *notes)
{
	const struct stats *st = c->env->stats;
	const struct stats_slot *s;
	char text[128];
	int role, state;
	size_t i;

	for (i = 0; i < st->nslots; i++) {
		s = &st->slot[i];
		role = atomic_load(&s->role);
		state = atomic_load(&s->state);
		if (role == ROLE_FREE || atomic_load(&s->retired))
			continue;
		if (state == STATE_PAUSED)
			health_note(paused, s, s->queue, true);
		if (health_claims_fail(s))
			health_note(problems, s, "cannot claim messages", true);
		if (!s->lead)
			continue;
		if (atomic_load(&s->pid) == 0) {
			snprintf(text, sizeof text, "not running (%s)", stats_state_name(state));
			health_note(problems, s, text, true);
		} else if (!prometheus_process_up(st, s, c->beat_limit_ms)) {
			snprintf(text, sizeof text, "not responding for %lld ms",
				(long long)(clock_monotonic_ms() - atomic_load(&s->beat_ms)));
			health_note(problems, s, text, false);
		} else if ((role == ROLE_WORKER || role == ROLE_LISTENER) &&
			   atomic_load(&s->gauges[GAUGE_CONNECTED]) == 0)
			health_note(problems, s, "not connected to the database", true);
		else if (role == ROLE_LISTENER && atomic_load(&s->gauges[GAUGE_HEARING]) == 0)
			health_note(notes, s, "not receiving notifications: queues are polled", false);
	}
}

/* Gives the list to the answer; an empty one is left out. */
static void health_add(cJSON *json, const char *name, cJSON *list)
{
	if (cJSON_GetArraySize(list) == 0)
		cJSON_Delete(list);
	else
		cJSON_AddItemToObject(json, name, list);
}

/* GET /livez: this process answers. A platform restarts pgmqd when it does not, so nothing else is checked here. */
void health_live(struct http_request *req)
{
	http_request_text(req, 200, "application/json", "{\"status\":\"ok\"}\n");
}

/* GET /health: are all processes alive, and connected. A paused queue and missing notifications are listed, but are no
 * problems: every message is handled in time. */
void health_get(struct http_request *req)
{
	cJSON *json = cJSON_CreateObject(), *problems = cJSON_CreateArray(), *paused = cJSON_CreateArray();
	cJSON *notes = cJSON_CreateArray();
	bool good;

	health_examine(control_of(req), problems, paused, notes);
	good = cJSON_GetArraySize(problems) == 0;
	cJSON_AddStringToObject(json, "status", good ? "ok" : "failing");
	health_add(json, "problems", problems);
	health_add(json, "paused", paused);
	health_add(json, "notes", notes);
	http_request_json(req, good ? 200 : 503, json);
}

/* GET /ready and /readyz: has every process started, is every queue served, and is pgmqd not shutting down. */
void health_ready(struct http_request *req)
{
	const struct stats *st = control_of(req)->env->stats;
	cJSON *json = cJSON_CreateObject(), *waiting = cJSON_CreateArray();
	const struct stats_slot *s;
	bool ready = true;
	int role, state;
	size_t i;

	for (i = 0; i < st->nslots; i++) {
		s = &st->slot[i];
		state = atomic_load(&s->state);
		role = atomic_load(&s->role);
		if (role == ROLE_FREE || atomic_load(&s->retired) || state == STATE_READY ||
			(state == STATE_PAUSED && role == ROLE_WORKER))
			continue;
		if (role == ROLE_LISTENER && atomic_load(&s->gauges[GAUGE_CONNECTED]) != 0)
			continue; /* connected, but not receiving notifications (a pooler in between): the workers poll
			           */
		if (health_claims_fail(s))
			health_note(waiting, s, "cannot claim messages", true);
		else
			health_note(waiting, s, stats_state_name(state), false);
		ready = false;
	}
	cJSON_AddStringToObject(json, "status", ready ? "ready" : "not ready");
	/* /readyz answers anybody, so it names queues only to clients with the token */
	if (ready || ((req->route->flags & HTTP_ROUTE_PROBE) && req->person == NULL))
		cJSON_Delete(waiting);
	else
		cJSON_AddItemToObject(json, "waiting_for", waiting);
	http_request_json(req, ready ? 200 : 503, json);
}
