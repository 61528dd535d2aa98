/* jobs.c: asking after jobs over HTTP, and trying again what is due. */
#include "config.h"

#include "control/jobs.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "control/db.h"
#include "http/route.h"

#include "control/openapi.inc" /* static const char openapi_text[], out of openapi.json */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const struct job_settings *httpjobs_type(const struct control *c, const char *name)
{
	for (size_t i = 0; i < c->env->settings->njobs; i++)
		if (strcmp(c->env->settings->jobs[i].name, name) == 0)
			return &c->env->settings->jobs[i];
	return NULL;
}

/* Whether it is a UUID as we write them. */
static bool httpjobs_is_id(const char *s)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	return i == 36;
}

bool httpjobs_check(struct httpcall *call)
{
	if (httpjobs_type(call->control, call->param[0]) == NULL) {
		httpcall_error(call, HTTP_NOTFOUND, "no_such_type", "there is no section [job %.63s] in the settings",
			call->param[0]);
		return false;
	}
	if (strstr(call->route->pattern, "{job_id}") != NULL && !httpjobs_is_id(call->param[1])) {
		httpcall_error(call, HTTP_NOTFOUND, "no_such_job", "there is no such job");
		return false;
	}
	return true;
}

/* Sends the JSON text that the database made. */
static void httpjobs_answer(struct httpcall *call, const struct pgresult *r)
{
	struct evbuffer *body = httpcall_buffer();

	evbuffer_add_printf(body, "%s\n", PQgetvalue(r->res, 0, 0));
	httpcall_send(call, HTTP_OK, "application/json", body);
}

/* Asks for one side of a job. */
static void httpjobs_info(struct httpcall *call, const char *what)
{
	const char *params[3] = { call->param[0], call->param[1], what };

	if (httpjobs_check(call))
		httpdb_query(call, "SELECT pgmqd.job_info($1, $2::uuid, $3)::text", 3, params, httpjobs_answer);
}

/* GET /api/TYPE/status/{job_id}. */
static void httpjobs_status(struct httpcall *call)
{
	httpjobs_info(call, "status");
}

/* GET /api/TYPE/result/{job_id}. */
static void httpjobs_result(struct httpcall *call)
{
	httpjobs_info(call, "result");
}

/* GET /api/TYPE/missing-sources/{job_id}. */
static void httpjobs_missing(struct httpcall *call)
{
	httpjobs_info(call, "missing");
}

/* GET /api/TYPE/retry-status/{job_id}. */
static void httpjobs_retry_status(struct httpcall *call)
{
	httpjobs_info(call, "retry");
}

/* GET /api/cron/retry-missing-data: brings nothing about that is not due anyway, and may be called by whoever likes. */
static void httpjobs_cron(struct httpcall *call)
{
	httpdb_query(call,
		"SELECT jsonb_build_object('triggered', count(*), 'jobs', coalesce(jsonb_agg(id), '[]'))::text FROM "
		"pgmqd.retry_due_jobs() id",
		0, NULL, httpjobs_answer);
}

/* GET /api/openapi.json. */
static void httpjobs_openapi(struct httpcall *call)
{
	httpcall_text(call, HTTP_OK, "application/json", openapi_text);
}

/* A queue was attached, or could not be. */
static void httpjobs_attached(void *arg, const struct pgresult *r)
{
	const struct job_settings *j = arg;

	if (r->error != NULL && *r->sqlstate != '\0')
		log_error("[job %s]: its jobs do not follow the messages of queue \"%s\": %s; as the owner of the "
			  "queue: SELECT pgmqd.attach_jobs('%s')",
			j->name, j->queue, r->error, j->queue);
}

void httpjobs_attach(struct control *c)
{
	for (size_t i = 0; i < c->env->settings->njobs; i++)
		httpdb_send(c->db, "SELECT pgmqd.attach_jobs($1)", 1, &c->env->settings->jobs[i].queue,
			httpjobs_attached, &c->env->settings->jobs[i]);
}

const struct httproute httpjobs_routes[] = {
	{ EVHTTP_REQ_GET, "/api/openapi.json", 0, httpjobs_openapi },
	{ EVHTTP_REQ_GET, "/api/cron/retry-missing-data", 0, httpjobs_cron },
	{ EVHTTP_REQ_GET, "/api/{type}/status/{job_id}", 0, httpjobs_status },
	{ EVHTTP_REQ_GET, "/api/{type}/result/{job_id}", HTTPROUTE_TOKEN, httpjobs_result },
	{ EVHTTP_REQ_GET, "/api/{type}/missing-sources/{job_id}", 0, httpjobs_missing },
	{ EVHTTP_REQ_GET, "/api/{type}/retry-status/{job_id}", 0, httpjobs_retry_status },
	{ 0 },
};
