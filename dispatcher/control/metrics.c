/* metrics.c: GET /metrics: the counters of all processes, and how the queues stand in the database.
 *
 * Each scrape asks the database once and waits a second for it: the counters must be visible while the database is in
 * trouble.
 */
#include "config.h"

#include "control/metrics.h"

#include "base/loop.h"
#include "base/xalloc.h"
#include "control/context.h"
#include "control/db.h"
#include "control/prometheus.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_WAIT_S 1

/* One scrape; freed when the client was answered and the database has answered. */
struct metrics_scrape {
	struct http_request *req; /* NULL: it was answered */
	struct event *timer;
	bool asked; /* the database has not answered yet */
};

/* Figures of queue_status(), in the order of its columns. */
static const struct {
	const char *name, *label, *value, *help;
} metrics_columns[] = {
	{ "queue_messages", "state", "due",
		"Messages in the queue, by state: due (may be claimed now), delayed (later), leased (claimed, or "
		"waiting for another attempt)." },
	{ "queue_messages", "state", "delayed", NULL },
	{ "queue_messages", "state", "leased", NULL },
	{ "queue_oldest_due_seconds", NULL, NULL,
		"How long the message that has been due longest has waited; 0 when none is due." },
	{ "queue_dead_letters", NULL, NULL, "Messages in the dead-letter queue." },
	{ "queue_attached", NULL, NULL, "1 when an enqueue wakes the dispatcher." },
	{ "queue_kept_back", "by", "rate",
		"Due messages that a limit keeps back, by what they wait for: rate, key (a place of their key), place "
		"(a place of the queue), pause (their key is paused, or held by the plugin)." },
	{ "queue_kept_back", "by", "key", NULL },
	{ "queue_kept_back", "by", "place", NULL },
	{ "queue_kept_back", "by", "pause", NULL },
};

/* Writes what the database has told. Names of queues hold nothing that the format wants escaped but backslash and
 * quote. */
static void metrics_queues(struct evbuffer *out, const PGresult *res)
{
	for (size_t c = 0; c < sizeof metrics_columns / sizeof metrics_columns[0]; c++) {
		const char *name = metrics_columns[c].name;

		if (metrics_columns[c].help != NULL)
			prometheus_head(out, name, "gauge", metrics_columns[c].help);
		for (int i = 0; i < PQntuples(res); i++) {
			if (PQgetisnull(res, i, (int)c + 1))
				continue;
			evbuffer_add_printf(out, "pgmqd_%s{", name);
			prometheus_label(out, "queue", PQgetvalue(res, i, 0), "");
			if (metrics_columns[c].label != NULL)
				prometheus_label(out, metrics_columns[c].label, metrics_columns[c].value, ",");
			evbuffer_add_printf(out, "} %s\n", PQgetvalue(res, i, (int)c + 1));
		}
	}
}

/* Answers, with the queues where the database has told of them. */
static void metrics_answer(struct metrics_scrape *s, const PGresult *res)
{
	struct http_request *req = s->req;
	struct evbuffer *body = http_request_buffer();

	s->req = NULL;
	prometheus_write(control_of(req)->env->stats, control_of(req)->beat_limit_ms, body);
	prometheus_head(body, "database_up", "gauge", "1 when the database answered how the queues stand.");
	evbuffer_add_printf(body, "pgmqd_database_up %d\n", res != NULL ? 1 : 0);
	if (res != NULL)
		metrics_queues(body, res);
	http_request_send(req, 200, PROMETHEUS_CONTENT_TYPE, body);
}

/* Frees it when both are done with it. */
static void metrics_end(struct metrics_scrape *s)
{
	if (s->asked || s->req != NULL)
		return;
	event_free(s->timer);
	free(s);
}

/* The database has answered, or cannot. */
static void metrics_told(void *arg, const struct pgresult *r)
{
	struct metrics_scrape *s = arg;

	s->asked = false;
	if (s->req != NULL)
		metrics_answer(s, r->error == NULL ? r->res : NULL);
	metrics_end(s);
}

/* The database took too long: answers without it. */
static void metrics_late(evutil_socket_t fd, short what, void *arg)
{
	struct metrics_scrape *s = arg;

	(void)fd, (void)what;
	if (s->req != NULL)
		metrics_answer(s, NULL);
	metrics_end(s);
}

/* GET /metrics. */
void metrics_get(struct http_request *req)
{
	static const struct timeval wait = { .tv_sec = METRICS_WAIT_S };
	struct metrics_scrape *s = xcalloc(1, sizeof *s);

	s->req = req;
	s->asked = true;
	s->timer = loop_timer_new(control_of(req)->base, metrics_late, s);
	loop_add(s->timer, &wait);
	control_db_send(control_of(req)->db,
		"SELECT queue, due, delayed, leased, coalesce(oldest_due_s, 0), dead_letters, attached::int, by_rate,"
		" by_key, "
		"by_place, by_pause FROM pgmqd.queue_status() s, pgmqd.kept_back(s.queue) WHERE problem IS NULL",
		0, NULL, metrics_told, s);
}
