/* jobs_events.c: what waits for a job to change: server-sent events, and trying again with the outcome as the answer.
 */
#include "config.h"

#include "http/route.h"

#include "base/xalloc.h"
#include "control/db.h"
#include "control/jobs.h"
#include "control/jobs_watch.h"

#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HTTPEVENTS_UNREAD_MAX 65536 /* a client that does not read gets no more */
#define HTTPEVENTS_WAIT_S 10        /* for the outcome of a retry */
#define HTTPEVENTS_WAIT_MAX_S 60

/* A client that waits. */
struct httpevents {
	struct httpcall *call;
	struct httpwatch *watch;
	bool streaming;
	int64_t version; /* the client's */
	/* of a retry */
	int attempts, missing; /* before it */
	struct event *timer;
	int wait_s;
};

/* Frees it with its call. */
static void httpevents_free(void *data)
{
	struct httpevents *e = data;

	httpwatch_remove(e->watch);
	if (e->timer != NULL)
		event_free(e->timer);
	free(e);
}

/* The client has left. */
static void httpevents_gone(struct httpcall *call)
{
	httpcall_stream_end(call);
}

/* A new client. */
static struct httpevents *httpevents_new(struct httpcall *call)
{
	struct httpevents *e = xcalloc(1, sizeof(*e));

	e->call = call;
	call->data = e;
	call->free_data = httpevents_free;
	return e;
}

/* Begins to watch. False: there are too many, and the call was answered. */
static bool httpevents_watch(struct httpevents *e, httpwatch_cb cb)
{
	struct httpcall *call = e->call;

	call->gone = httpevents_gone;
	e->watch = httpwatch_add(call->control, call->param[0], call->param[1], cb, e);
	if (e->watch != NULL)
		return true;
	httpcall_add_header(call, "Retry-After", "10");
	httpcall_error(call, HTTP_SERVUNAVAIL, "too_many_watchers", "too many clients wait for jobs already");
	return false;
}

/* ---- server-sent events ---- */

/* The job was looked at. */
static void httpevents_state(void *arg, const struct httpwatch_state *s, const struct pgresult *error)
{
	struct httpevents *e = arg;
	struct httpcall *call = e->call;
	char *text;

	if (s == NULL) {
		if (!e->streaming)
			httpdb_refuse(call, error);
		return; /* a stream goes on when the database is back */
	}
	if (!e->streaming && s->finished && e->version >= s->version) {
		httpcall_text(call, HTTP_NOCONTENT, "text/event-stream", ""); /* an EventSource asks no more */
		return;
	}
	if (!e->streaming) {
		httpcall_stream_begin(call, "text/event-stream");
		httpcall_stream_write(call, "retry: 2000\n\n", 13);
	} else if (call->conn != NULL && evbuffer_get_length(bufferevent_get_output(evhttp_connection_get_bufferevent(
						 call->conn))) > HTTPEVENTS_UNREAD_MAX) {
		httpcall_stream_end(call);
		return;
	}
	e->streaming = true;
	if (s->version > e->version) {
		e->version = s->version;
		text = xasprintf("id: %lld\nevent: status\ndata: %s\n\n", (long long)s->version, s->info);
		httpcall_stream_write(call, text, strlen(text));
		free(text);
	} else {
		httpcall_stream_write(call, ":\n\n", 3);
	}
	if (s->finished) {
		httpcall_stream_write(call, "event: end\ndata: {}\n\n", 21);
		httpcall_stream_end(call);
	}
}

/* GET /api/TYPE/events/{job_id}. */
static void httpevents_get(struct httpcall *call)
{
	const char *last = httpcall_header(call, "Last-Event-ID");
	struct httpevents *e;

	if (!httpjobs_check(call))
		return;
	if (evhttp_request_get_command(call->req) == EVHTTP_REQ_HEAD) {
		httpcall_text(call, HTTP_OK, "text/event-stream", "");
		return;
	}
	e = httpevents_new(call);
	e->version = last != NULL ? strtoll(last, NULL, 10) : 0;
	httpevents_watch(e, httpevents_state);
}

/* ---- trying again ---- */

/* Answers a retry: how many of the missing came, and how many did not. */
static void httpevents_retried(struct httpevents *e, const struct httpwatch_state *s, bool done)
{
	cJSON *json = cJSON_Parse(s->info), *retry = cJSON_AddObjectToObject(json, "retry_result"), *missing;
	int came = e->missing > 0 ? e->missing - s->missing : s->completed;
	int tried = e->missing > 0 ? e->missing : 1;

	cJSON_AddNumberToObject(retry, "success_count", came > 0 ? came : 0);
	cJSON_AddNumberToObject(retry, "failed_count", done && came < tried ? tried - came : 0);
	missing = cJSON_DetachItemFromObjectCaseSensitive(json, "missing_sources");
	cJSON_AddItemToObject(retry, "missing_sources", missing != NULL ? missing : cJSON_CreateArray());
	cJSON_AddBoolToObject(retry, "finished", done);
	httpcall_json(e->call, done ? HTTP_OK : 202, json);
}

/* The job was looked at: is the try over? */
static void httpevents_retry_state(void *arg, const struct httpwatch_state *s, const struct pgresult *error)
{
	struct httpevents *e = arg;
	bool over = e->timer != NULL && !event_pending(e->timer, EV_TIMEOUT, NULL), done;

	if (s == NULL) {
		httpdb_refuse(e->call, error);
		return;
	}
	done = s->attempts > e->attempts && (s->finished || s->waiting);
	if (done || over)
		httpevents_retried(e, s, done);
}

/* The time for the outcome is over: one last look. */
static void httpevents_over(evutil_socket_t fd, short what, void *arg)
{
	struct httpevents *e = arg;

	(void)fd, (void)what;
	httpwatch_remove(e->watch);
	httpevents_watch(e, httpevents_retry_state);
}

/* The retry was arranged: now the outcome is waited for. */
static void httpevents_retrying(struct httpcall *call, const struct pgresult *r)
{
	struct httpevents *e = call->data;
	struct timeval wait = { .tv_sec = e->wait_s };

	e->attempts = atoi(PQgetvalue(r->res, 0, 0));
	e->missing = atoi(PQgetvalue(r->res, 0, 1));
	e->timer = evtimer_new(call->control->base, httpevents_over, e);
	if (e->timer == NULL || (e->wait_s > 0 && event_add(e->timer, &wait) == -1))
		abort();
	httpevents_watch(e, httpevents_retry_state);
}

/* POST /api/TYPE/retry/{job_id}. */
static void httpevents_retry(struct httpcall *call)
{
	const char *params[2] = { call->param[0], call->param[1] }, *wait = httpcall_query(call, "wait");
	struct httpevents *e;
	char *end;
	long seconds = wait != NULL ? strtol(wait, &end, 10) : HTTPEVENTS_WAIT_S;

	if (!httpjobs_check(call))
		return;
	if (wait != NULL && (*wait == '\0' || *end != '\0' || seconds < 0 || seconds > HTTPEVENTS_WAIT_MAX_S)) {
		httpcall_error(
			call, HTTP_BADREQUEST, "bad_wait", "wait has to be 0 to %d seconds", HTTPEVENTS_WAIT_MAX_S);
		return;
	}
	e = httpevents_new(call);
	e->wait_s = (int)seconds;
	httpdb_query(call, "SELECT attempts, cardinality(missing) FROM pgmqd.retry_job($1, $2::uuid)", 2, params,
		httpevents_retrying);
}

const struct httproute httpevents_routes[] = {
	{ EVHTTP_REQ_GET, "/api/{type}/events/{job_id}", 0, httpevents_get },
	{ EVHTTP_REQ_POST, "/api/{type}/retry/{job_id}", 0, httpevents_retry },
	{ 0 },
};
