/* jobs_events.c: requests that wait for a job to change: server-sent events, and a retry that answers with its outcome.
 */
#include "config.h"

#include "control/jobs_events.h"

#include "base/loop.h"
#include "base/xalloc.h"
#include "control/context.h"
#include "control/db.h"
#include "control/jobs.h"
#include "control/jobs_watch.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_EVENTS_UNREAD_MAX 65536 /* a client with more unread bytes is disconnected */
#define JOBS_EVENTS_WAIT_S 10        /* for the outcome of a retry */
#define JOBS_EVENTS_WAIT_MAX_S 60

/* A client that waits. */
struct jobs_events {
	struct http_request *req;
	struct jobs_watch *watch;
	bool streaming;
	int64_t version; /* the client's */
	/* of a retry */
	int attempts, missing; /* before it */
	struct event *timer;
	int wait_s;
};

/* Frees it with its request. */
static void jobs_events_free(void *data)
{
	struct jobs_events *e = data;

	jobs_watch_remove(e->watch);
	if (e->timer != NULL)
		event_free(e->timer);
	free(e);
}

/* The client has left. */
static void jobs_events_gone(struct http_request *req)
{
	http_request_stream_end(req);
}

/* A new client. */
static struct jobs_events *jobs_events_new(struct http_request *req)
{
	struct jobs_events *e = xcalloc(1, sizeof(*e));

	e->req = req;
	req->data = e;
	req->free_data = jobs_events_free;
	return e;
}

/* Begins to watch. False: there are too many, and the request was answered. */
static bool jobs_events_watch(struct jobs_events *e, jobs_watch_cb cb)
{
	struct http_request *req = e->req;

	req->gone = jobs_events_gone;
	e->watch = jobs_watch_add(control_of(req), http_request_peer(req), req->param[0], req->param[1], cb, e);
	if (e->watch != NULL)
		return true;
	http_request_add_header(req, "Retry-After", "10");
	http_request_error(req, 503, "too_many_watchers", "too many clients wait for jobs already");
	return false;
}

/* ---- server-sent events ---- */

/* The state of the job has come. */
static void jobs_events_state(void *arg, const struct jobs_watch_state *s, const struct pgresult *error)
{
	struct jobs_events *e = arg;
	struct http_request *req = e->req;
	char *text;

	if (s == NULL) {
		if (!e->streaming)
			control_db_refuse(req, error);
		return; /* the stream continues when the database is back */
	}
	if (!e->streaming && s->finished && e->version >= s->version) {
		http_request_text(req, 204, "text/event-stream", ""); /* tells an EventSource not to reconnect */
		return;
	}
	if (!e->streaming) {
		http_request_stream_begin(req, "text/event-stream");
		http_request_stream_write(req, "retry: 2000\n\n", 13);
	} else if (http_request_unread(req) > JOBS_EVENTS_UNREAD_MAX) {
		http_request_stream_end(req);
		return;
	}
	e->streaming = true;
	if (s->version > e->version) {
		e->version = s->version;
		text = xasprintf("id: %lld\nevent: status\ndata: %s\n\n", (long long)s->version, s->info);
		http_request_stream_write(req, text, strlen(text));
		free(text);
	} else {
		http_request_stream_write(req, ":\n\n", 3);
	}
	if (s->finished) {
		http_request_stream_write(req, "event: end\ndata: {}\n\n", 21);
		http_request_stream_end(req);
	}
}

/* GET /api/TYPE/events/{job_id}. */
void jobs_events_get(struct http_request *req)
{
	const char *last = http_request_header(req, "Last-Event-ID");
	struct jobs_events *e;

	if (!jobs_check(req))
		return;
	if (req->head.method == HTTP_HEAD) {
		http_request_text(req, 200, "text/event-stream", "");
		return;
	}
	e = jobs_events_new(req);
	e->version = last != NULL ? strtoll(last, NULL, 10) : 0;
	jobs_events_watch(e, jobs_events_state);
}

/* ---- retries ---- */

/* Answers a retry: how many of the missing parts have come, and how many have not. */
static void jobs_events_retried(struct jobs_events *e, const struct jobs_watch_state *s, bool done)
{
	cJSON *json = cJSON_Parse(s->info), *retry = cJSON_AddObjectToObject(json, "retry_result"), *missing;
	int came = e->missing > 0 ? e->missing - s->missing : s->completed;
	int tried = e->missing > 0 ? e->missing : 1;

	cJSON_AddNumberToObject(retry, "success_count", came > 0 ? came : 0);
	cJSON_AddNumberToObject(retry, "failed_count", done && came < tried ? tried - came : 0);
	missing = cJSON_DetachItemFromObjectCaseSensitive(json, "missing_sources");
	cJSON_AddItemToObject(retry, "missing_sources", missing != NULL ? missing : cJSON_CreateArray());
	cJSON_AddBoolToObject(retry, "finished", done);
	http_request_json(e->req, done ? 200 : 202, json);
}

/* The state of the job has come: is the retry over? */
static void jobs_events_retry_state(void *arg, const struct jobs_watch_state *s, const struct pgresult *error)
{
	struct jobs_events *e = arg;
	bool over = e->timer != NULL && !event_pending(e->timer, EV_TIMEOUT, NULL), done;

	if (s == NULL) {
		control_db_refuse(e->req, error);
		return;
	}
	done = s->attempts > e->attempts && (s->finished || s->waiting);
	if (done || over)
		jobs_events_retried(e, s, done);
}

/* The time to wait for the outcome is over: asks for the state once more, and answers with it. */
static void jobs_events_over(evutil_socket_t fd, short what, void *arg)
{
	struct jobs_events *e = arg;

	(void)fd, (void)what;
	jobs_watch_remove(e->watch);
	jobs_events_watch(e, jobs_events_retry_state);
}

/* The retry is scheduled: waits for its outcome. */
static void jobs_events_retrying(struct http_request *req, const struct pgresult *r)
{
	struct jobs_events *e = req->data;
	struct timeval wait = { .tv_sec = e->wait_s };

	e->attempts = atoi(PQgetvalue(r->res, 0, 0));
	e->missing = atoi(PQgetvalue(r->res, 0, 1));
	e->timer = loop_timer_new(control_of(req)->base, jobs_events_over, e);
	if (e->wait_s > 0)
		loop_add(e->timer, &wait);
	jobs_events_watch(e, jobs_events_retry_state);
}

/* POST /api/TYPE/retry/{job_id}. */
void jobs_events_retry(struct http_request *req)
{
	const char *params[2] = { req->param[0], req->param[1] }, *wait = http_request_query(req, "wait");
	struct jobs_events *e;
	char *end;
	long seconds = wait != NULL ? strtol(wait, &end, 10) : JOBS_EVENTS_WAIT_S;

	if (!jobs_check(req))
		return;
	if (wait != NULL && (*wait == '\0' || *end != '\0' || seconds < 0 || seconds > JOBS_EVENTS_WAIT_MAX_S)) {
		http_request_error(req, 400, "bad_wait", "wait has to be 0 to %d seconds", JOBS_EVENTS_WAIT_MAX_S);
		return;
	}
	e = jobs_events_new(req);
	e->wait_s = (int)seconds;
	control_db_query(req, "SELECT attempts, cardinality(missing) FROM pgmqd.retry_job($1, $2::uuid)", 2, params,
		jobs_events_retrying);
}
