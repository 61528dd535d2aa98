/* queues.c: GET /api/queues: how each queue stands in the database, and how its worker does; POST …/pause and …/resume.
 */
#include "config.h"

#include "control/queues.h"

#include "base/xalloc.h"
#include "control/context.h"
#include "control/db.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A queue's worker processes together, out of their slots. */
struct queues_worker {
	const char *plugin;
	int state; /* of the one that is worst off */
	int64_t running, waiting;
	uint64_t restarts, counters[STATS_NCOUNTERS];
	size_t processes;
	char error[256];
	cJSON *numbers; /* that the plugin keeps */
	uint64_t hist[STATS_NHISTOGRAMS][STATS_NBOUNDS + 1];
};

/* The histograms that are shown, and their names. */
static const struct {
	enum stats_histogram id;
	const char *name;
} queues_histograms[] = { { HIST_WAKE, "wake" }, { HIST_WAIT, "wait" }, { HIST_RUN, "run" } };

/* A number of a row, or null. */
static void queues_number(cJSON *json, const char *name, const PGresult *res, int row, int col)
{
	if (PQgetisnull(res, row, col))
		cJSON_AddNullToObject(json, name);
	else
		cJSON_AddNumberToObject(json, name, strtod(PQgetvalue(res, row, col), NULL));
}

/* Adds the numbers that a process's plugin keeps to those of the queue's other processes: of gauges the highest counts.
 */
static void queues_numbers(cJSON *list, const struct stats_slot *s)
{
	for (size_t i = 0; i < STATS_NEXTRA && atomic_load(&s->extra[i].kind) != 0; i++) {
		const struct stats_extra *x = &s->extra[i];
		bool counter = atomic_load(&x->kind) == STATS_EXTRA_COUNTER;
		double number = (double)atomic_load(&x->number), had;
		cJSON *item, *field;

		cJSON_ArrayForEach(
			item, list) if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "name")),
						x->name) == 0 &&
					strcmp(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "value")),
						x->value) == 0) break;
		if (item == NULL) {
			item = cJSON_CreateObject();
			cJSON_AddStringToObject(item, "name", x->name);
			cJSON_AddStringToObject(item, "kind", counter ? "counter" : "gauge");
			cJSON_AddStringToObject(item, "label", x->label);
			cJSON_AddStringToObject(item, "value", x->value);
			cJSON_AddNumberToObject(item, "number", number);
			cJSON_AddItemToArray(list, item);
			continue;
		}
		field = cJSON_GetObjectItemCaseSensitive(item, "number");
		had = field->valuedouble;
		cJSON_SetNumberValue(field, counter ? had + number : number > had ? number : had);
	}
}

/* Adds up what the slots of a queue's processes hold; those that drain after a reload only count. */
static bool queues_gather(const struct stats *st, const char *queue, struct queues_worker *w)
{
	bool found = false;

	memset(w, 0, sizeof *w);
	w->state = STATE_READY;
	w->numbers = cJSON_CreateArray();
	for (size_t i = 0; i < st->nslots; i++) {
		const struct stats_slot *s = &st->slot[i];
		int state = atomic_load(&s->state);

		if (atomic_load(&s->role) != ROLE_WORKER || strcasecmp(s->queue, queue) != 0)
			continue;
		for (int c = 0; c < STATS_NCOUNTERS; c++)
			w->counters[c] += atomic_load(&s->counters[c]);
		w->running += atomic_load(&s->gauges[GAUGE_RUNNING]);
		w->waiting += atomic_load(&s->gauges[GAUGE_WAITING]);
		for (int h = 0; h < STATS_NHISTOGRAMS; h++)
			for (int b = 0; b <= STATS_NBOUNDS; b++)
				w->hist[h][b] += atomic_load_explicit(&s->hist[h].bucket[b], memory_order_relaxed);
		queues_numbers(w->numbers, s);
		if (atomic_load(&s->retired))
			continue;
		found = true;
		w->processes++;
		w->plugin = s->plugin;
		w->restarts += atomic_load(&s->restarts);
		if (state != STATE_READY)
			w->state = state;
		if (w->error[0] == '\0')
			stats_error_read(s, w->error, sizeof w->error);
	}
	return found;
}

/* The worker's part of a queue. */
static void queues_add_worker(cJSON *json, const struct queues_worker *w)
{
	cJSON *worker = cJSON_AddObjectToObject(json, "worker"), *settled;

	cJSON_AddStringToObject(worker, "plugin", w->plugin);
	cJSON_AddStringToObject(worker, "state", stats_state_name(w->state));
	cJSON_AddNumberToObject(worker, "processes", (double)w->processes);
	cJSON_AddNumberToObject(worker, "restarts", (double)w->restarts);
	settled = cJSON_AddObjectToObject(worker, "settled");
	cJSON_AddNumberToObject(settled, "done", (double)w->counters[STAT_DONE]);
	cJSON_AddNumberToObject(settled, "retried", (double)w->counters[STAT_RETRIED]);
	cJSON_AddNumberToObject(settled, "failed", (double)w->counters[STAT_FAILED]);
	cJSON_AddNumberToObject(settled, "replaced", (double)w->counters[STAT_REPLACED]);
	cJSON_AddNumberToObject(settled, "released", (double)w->counters[STAT_RELEASED]);
	cJSON_AddNumberToObject(settled, "lease_lost", (double)w->counters[STAT_LEASE_LOST]);
	cJSON_AddItemToObject(worker, "numbers", w->numbers);
	if (w->error[0] != '\0')
		cJSON_AddStringToObject(worker, "last_error", w->error);
	else
		cJSON_AddNullToObject(worker, "last_error");
}

/* How long messages took: for each stage the counts between the bounds, and above the last one. */
static void queues_add_histograms(cJSON *json, const struct queues_worker *w)
{
	cJSON *all = cJSON_AddObjectToObject(json, "histograms"), *list = cJSON_AddArrayToObject(all, "bounds_seconds");

	for (int b = 0; b < STATS_NBOUNDS; b++)
		cJSON_AddItemToArray(list, cJSON_CreateNumber((double)stats_bounds_us[b] / 1e6));
	for (size_t i = 0; i < sizeof queues_histograms / sizeof *queues_histograms; i++) {
		list = cJSON_AddArrayToObject(all, queues_histograms[i].name);
		for (int b = 0; b <= STATS_NBOUNDS; b++)
			cJSON_AddItemToArray(list, cJSON_CreateNumber((double)w->hist[queues_histograms[i].id][b]));
	}
}

void queues_add_kept_back(cJSON *json, const PGresult *res, int row, int col)
{
	static const char *const names[] = { "rate", "key", "place", "pause" };
	cJSON *kept = cJSON_CreateObject();
	bool limited = false;

	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
		queues_number(kept, names[i], res, row, col + i);
		limited = limited || !PQgetisnull(res, row, col + i);
	}
	if (!limited) {
		cJSON_Delete(kept);
		kept = cJSON_CreateNull();
	}
	cJSON_AddItemToObject(json, "kept_back", kept);
	col += (int)(sizeof names / sizeof *names);
	cJSON_AddItemToObject(json, "keys",
		PQgetisnull(res, row, col) ? cJSON_CreateArray() : cJSON_Parse(PQgetvalue(res, row, col)));
}

/* One queue: a row of queue_status(), and the worker. A leased message that no worker here has waits for its
 * next attempt, or is in the hands of another dispatcher. */
static cJSON *queues_queue(const struct stats *st, const PGresult *res, int row)
{
	struct queues_worker w;
	cJSON *json = cJSON_CreateObject();
	const char *name = PQgetvalue(res, row, 0);
	bool served = queues_gather(st, name, &w);

	cJSON_AddStringToObject(json, "queue", name);
	queues_number(json, "waiting", res, row, 1);
	queues_number(json, "due", res, row, 2);
	queues_number(json, "delayed", res, row, 3);
	queues_number(json, "leased", res, row, 4);
	cJSON_AddNumberToObject(json, "in_flight", (double)(w.running + w.waiting));
	queues_number(json, "oldest_due_seconds", res, row, 5);
	if (PQgetisnull(res, row, 6))
		cJSON_AddNullToObject(json, "next_due");
	else
		cJSON_AddStringToObject(json, "next_due", PQgetvalue(res, row, 6));
	queues_number(json, "dead_letters", res, row, 7);
	cJSON_AddBoolToObject(json, "attached", strcmp(PQgetvalue(res, row, 8), "t") == 0);
	if (!PQgetisnull(res, row, 9))
		cJSON_AddStringToObject(json, "problem", PQgetvalue(res, row, 9));
	if (PQgetisnull(res, row, 10))
		cJSON_AddNullToObject(json, "paused");
	else
		cJSON_AddStringToObject(json, "paused", PQgetvalue(res, row, 10));
	queues_add_kept_back(json, res, row, 11);
	if (served) {
		queues_add_worker(json, &w);
		queues_add_histograms(json, &w);
	} else {
		cJSON_AddNullToObject(json, "worker");
		cJSON_AddNullToObject(json, "histograms");
		cJSON_Delete(w.numbers);
	}
	return json;
}

/* The database has answered. */
static void queues_answer(struct http_request *req, const struct pgresult *r)
{
	cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "queues");

	for (int i = 0; i < PQntuples(r->res); i++)
		cJSON_AddItemToArray(list, queues_queue(control_of(req)->env->stats, r->res, i));
	http_request_json(req, 200, json);
}

/* GET /api/queues. */
void queues_get(struct http_request *req)
{
	control_db_query(req,
		"SELECT queue, waiting, due, delayed, leased, oldest_due_s, pgmqd.iso_time(next_due), dead_letters, "
		"attached, problem,"
		" pgmqd.queue_pause(queue), by_rate, by_key, by_place, by_pause, keys FROM pgmqd.queue_status() s, "
		"pgmqd.kept_back(s.queue)",
		0, NULL, queues_answer);
}

/* The queue was paused, or goes on; a queue that was so already is no error. */
static void queues_operated(struct http_request *req, const struct pgresult *r)
{
	cJSON *json = cJSON_CreateObject();

	cJSON_AddBoolToObject(json, "changed", strcmp(PQgetvalue(r->res, 0, 0), "t") == 0);
	http_request_json(req, 200, json);
}

/* The text of a field of the body, or NULL. False: the request was answered. */
static bool queues_reason(struct http_request *req, char **reason)
{
	cJSON *json = http_request_object(req), *item;

	*reason = NULL;
	if (json == NULL)
		return false;
	item = cJSON_GetObjectItemCaseSensitive(json, "reason");
	if (cJSON_IsString(item))
		*reason = xstrdup(item->valuestring);
	cJSON_Delete(json);
	if (*reason == NULL || strlen(*reason) <= 500)
		return true;
	free(*reason);
	http_request_error(req, 400, "bad_reason", "the reason may have up to 500 bytes");
	return false;
}

/* POST /api/queues/QUEUE/pause, with {"reason": "..."} or {}. */
void queues_pause(struct http_request *req)
{
	const char *params[3] = { req->param[0], NULL, http_request_who(req) };
	char *reason;

	if (!queues_reason(req, &reason))
		return;
	params[1] = reason;
	control_db_query(req, "SELECT pgmqd.pause($1, $2, $3)", 3, params, queues_operated);
	free(reason);
}

/* POST /api/queues/QUEUE/resume, with {}. */
void queues_resume(struct http_request *req)
{
	const char *params[2] = { req->param[0], http_request_who(req) };

	control_db_query(req, "SELECT pgmqd.resume($1, $2)", 2, params, queues_operated);
}
