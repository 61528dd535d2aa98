/* metrics.c: GET /metrics: the counters of all processes, and how the queues stand in the database.
 *
 * The database is asked once for each scrape, and has a second to answer: what a monitoring system most wants to know
 * while the database is in trouble must not wait for it.
 */
#include "config.h"

#include "http/route.h"

#include "base/xalloc.h"
#include "control/db.h"
#include "control/prometheus.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define HTTPMETRICS_WAIT_S 1

/* One scrape; freed when both the client and the database are done with it. */
struct httpmetrics_scrape {
	struct httpcall *call; /* NULL: it was answered */
	struct event *timer;
	bool asked; /* the database has not answered yet */
};

/* Figures of queue_status(), in the order of its columns. */
static const struct {
	const char *name, *state, *help;
} httpmetrics_columns[] = {
	{ "queue_messages", "due",
		"Messages in the queue, by state: due (may be claimed now), delayed (later), leased (claimed, or "
		"waiting for another attempt)." },
	{ "queue_messages", "delayed", NULL },
	{ "queue_messages", "leased", NULL },
	{ "queue_oldest_due_seconds", NULL,
		"How long the message that has been due longest has waited; 0 when none is due." },
	{ "queue_dead_letters", NULL, "Messages in the dead-letter queue." },
	{ "queue_attached", NULL, "1 when an enqueue wakes the dispatcher." },
};

/* Writes what the database has told. Names of queues hold nothing that the format wants escaped but backslash and
 * quote. */
static void httpmetrics_queues(struct evbuffer *out, const PGresult *res)
{
	for (size_t c = 0; c < sizeof httpmetrics_columns / sizeof httpmetrics_columns[0]; c++) {
		const char *name = httpmetrics_columns[c].name;

		if (httpmetrics_columns[c].help != NULL)
			metrics_head(out, name, "gauge", httpmetrics_columns[c].help);
		for (int i = 0; i < PQntuples(res); i++) {
			if (PQgetisnull(res, i, (int)c + 1))
				continue;
			evbuffer_add_printf(out, "pgmqd_%s{", name);
			metrics_label(out, "queue", PQgetvalue(res, i, 0), "");
			if (httpmetrics_columns[c].state != NULL)
				metrics_label(out, "state", httpmetrics_columns[c].state, ",");
			evbuffer_add_printf(out, "} %s\n", PQgetvalue(res, i, (int)c + 1));
		}
	}
}

/* Answers, with the queues where the database has told of them. */
static void httpmetrics_answer(struct httpmetrics_scrape *s, const PGresult *res)
{
	struct httpcall *call = s->call;
	struct evbuffer *body = httpcall_buffer();

	s->call = NULL;
	metrics_write(call->control->env->stats, call->control->beat_limit_ms, body);
	metrics_head(body, "database_up", "gauge", "1 when the database told how the queues stand.");
	evbuffer_add_printf(body, "pgmqd_database_up %d\n", res != NULL ? 1 : 0);
	if (res != NULL)
		httpmetrics_queues(body, res);
	httpcall_send(call, HTTP_OK, METRICS_CONTENT_TYPE, body);
}

/* Frees it when nobody needs it any more. */
static void httpmetrics_end(struct httpmetrics_scrape *s)
{
	if (s->asked || s->call != NULL)
		return;
	event_free(s->timer);
	free(s);
}

/* The database has answered, or cannot. */
static void httpmetrics_told(void *arg, const struct pgresult *r)
{
	struct httpmetrics_scrape *s = arg;

	s->asked = false;
	if (s->call != NULL)
		httpmetrics_answer(s, r->error == NULL ? r->res : NULL);
	httpmetrics_end(s);
}

/* It has had its time. */
static void httpmetrics_late(evutil_socket_t fd, short what, void *arg)
{
	struct httpmetrics_scrape *s = arg;

	(void)fd, (void)what;
	if (s->call != NULL)
		httpmetrics_answer(s, NULL);
	httpmetrics_end(s);
}

/* GET /metrics. */
static void httpmetrics_get(struct httpcall *call)
{
	static const struct timeval wait = { .tv_sec = HTTPMETRICS_WAIT_S };
	struct httpmetrics_scrape *s = xcalloc(1, sizeof *s);

	s->call = call;
	s->asked = true;
	s->timer = evtimer_new(call->control->base, httpmetrics_late, s);
	if (s->timer == NULL)
		abort();
	evtimer_add(s->timer, &wait);
	httpdb_send(call->control->db,
		"SELECT queue, due, delayed, leased, coalesce(oldest_due_s, 0), dead_letters, attached::int FROM "
		"pgmqd.queue_status() WHERE problem IS NULL",
		0, NULL, httpmetrics_told, s);
}

const struct httproute httpmetrics_routes[] = {
	{ EVHTTP_REQ_GET, "/metrics", 0, httpmetrics_get },
	{ 0 },
};
