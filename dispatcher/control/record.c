/* record.c: what was settled, kept in the database for a month: GET /api/history; and the dispatchers of the database:
 * GET /api/dispatchers. */
#include "config.h"

#include "control/record.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sqltext.h"
#include "base/xalloc.h"
#include "control/db.h"
#include "control/history.h"
#include "pg/sqlstate.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The name of this dispatcher: its host and the process of its supervisor. Malloc'd. */
static char *record_name(void)
{
	return xasprintf("%s:%ld", proc_host(), (long)getppid());
}

/* The queues that this dispatcher serves, as an array literal. */
static const char *record_queues(const struct stats *st, struct sqltext *list)
{
	for (size_t i = 0; i < st->nslots; i++)
		if (atomic_load(&st->slot[i].role) == ROLE_WORKER && !atomic_load(&st->slot[i].retired) &&
			st->slot[i].queue[0] != '\0')
			sqltext_str(list, st->slot[i].queue);
	return sqltext_end(list);
}

/* It was written, or not. A schema of before has no place for it. */
static void record_written(void *arg, const struct pgresult *r)
{
	(void)arg;
	if (r->error != NULL && *r->sqlstate != '\0' && sqlstate_class(r->sqlstate) != SQLSTATE_STALE)
		log_warn("cannot write the history down: %s (%s)", r->error, r->sqlstate);
}

bool record_write(struct control *c)
{
	const struct stats *st = c->env->stats;
	char *name, *rows, started[32];
	struct sqltext queues = { 0 };
	const char *params[5] = { NULL, PACKAGE_VERSION, started };
	cJSON *list;

	if (atomic_load(&c->env->slot->gauges[GAUGE_CONNECTED]) == 0)
		return false;
	params[0] = name = record_name();
	list = history_since_recorded(c->history);
	rows = cJSON_PrintUnformatted(list);
	snprintf(started, sizeof started, "%.3f",
		((double)clock_realtime_us() / 1000 - (double)(clock_monotonic_ms() - atomic_load(&st->started_ms))) /
			1000);
	params[3] = record_queues(st, &queues);
	params[4] = rows;
	control_db_send(c->db,
		"SELECT pgmqd.record_history($1, $2, $3::float8, (SELECT coalesce(array_agg(DISTINCT q), '{}') "
		"FROM unnest($4::text[]) q), $5::jsonb)",
		5, params, record_written, NULL);
	cJSON_Delete(list);
	free(rows);
	sqltext_free(&queues);
	free(name);
	return true;
}

/* GET /api/history?span=1h|24h|30d&queue=&dispatcher=. */
void record_history(struct http_request *req)
{
	const char *params[4] = { http_request_query(req, "span"), NULL, http_request_query(req, "queue"),
		http_request_query(req, "dispatcher") };
	char bounds[STATS_NBOUNDS * 24 + 3] = "{";
	size_t n = 1;

	for (int b = 0; b < STATS_NBOUNDS; b++)
		n += (size_t)snprintf(
			bounds + n, sizeof bounds - n, "%s%g", b > 0 ? "," : "", (double)stats_bounds_us[b] / 1e6);
	snprintf(bounds + n, sizeof bounds - n, "}");
	params[1] = bounds;
	control_db_query(req, "SELECT pgmqd.history_page($1, $2::float8[], $3, $4)", 4, params, control_db_answer);
}

/* GET /api/dispatchers. */
void record_dispatchers(struct http_request *req)
{
	control_db_query(req, "SELECT pgmqd.dispatcher_list()", 0, NULL, control_db_answer);
}
