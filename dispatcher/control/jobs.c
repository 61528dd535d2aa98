/* jobs.c: jobs over HTTP: how they stand, and retrying those that are due. */
#include "config.h"

#include "control/jobs.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "control/context.h"
#include "control/db.h"
#include "http/route.h"

#include "control/openapi.inc" /* static const char openapi_text[], out of openapi.json */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const struct job_settings *jobs_type(const struct control *c, const char *name)
{
	for (size_t i = 0; i < c->env->settings->njobs; i++)
		if (strcmp(c->env->settings->jobs[i].name, name) == 0)
			return &c->env->settings->jobs[i];
	return NULL;
}

bool jobs_leaves_open(const struct http_request *req)
{
	const struct control *c = req->context;
	const struct job_settings *j = jobs_type(c, req->param[0]);

	return j != NULL && j->open;
}

/* Whether it is a UUID as we write them. */
static bool jobs_is_id(const char *s)
{
	size_t i;

	for (i = 0; s[i] != '\0'; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	return i == 36;
}

bool jobs_check(struct http_request *req)
{
	if (jobs_type(control_of(req), req->param[0]) == NULL) {
		http_request_error(
			req, 404, "no_such_type", "there is no section [job %.63s] in the settings", req->param[0]);
		return false;
	}
	if (strstr(req->route->pattern, "{job_id}") != NULL && !jobs_is_id(req->param[1])) {
		http_request_error(req, 404, "no_such_job", "there is no such job");
		return false;
	}
	return true;
}

/* Sends the JSON text that the database made. */
static void jobs_answer(struct http_request *req, const struct pgresult *r)
{
	struct evbuffer *body = http_request_buffer();

	evbuffer_add_printf(body, "%s\n", PQgetvalue(r->res, 0, 0));
	http_request_send(req, 200, "application/json", body);
}

/* Answers with one view of a job. */
static void jobs_info(struct http_request *req, const char *what)
{
	const char *params[3] = { req->param[0], req->param[1], what };

	if (jobs_check(req))
		control_db_query(req, "SELECT pgmqd.job_info($1, $2::uuid, $3)::text", 3, params, jobs_answer);
}

/* GET /api/TYPE/status/{job_id}. */
void jobs_status(struct http_request *req)
{
	jobs_info(req, "status");
}

/* GET /api/TYPE/result/{job_id}. */
void jobs_result(struct http_request *req)
{
	jobs_info(req, "result");
}

/* GET /api/TYPE/missing-sources/{job_id}. */
void jobs_missing(struct http_request *req)
{
	jobs_info(req, "missing");
}

/* GET /api/TYPE/retry-status/{job_id}. */
void jobs_retry_status(struct http_request *req)
{
	jobs_info(req, "retry");
}

/* GET /api/cron/retry-missing-data: retries only jobs that are due; safe for anyone to call. */
void jobs_retry_due(struct http_request *req)
{
	control_db_query(req,
		"SELECT jsonb_build_object('triggered', count(*), 'jobs', coalesce(jsonb_agg(id), '[]'))::text FROM "
		"pgmqd.retry_due_jobs() id",
		0, NULL, jobs_answer);
}

/* GET /api/openapi.json. */
void jobs_openapi(struct http_request *req)
{
	http_request_text(req, 200, "application/json", openapi_text);
}

/* A queue was attached, or could not be. */
static void jobs_attached(void *arg, const struct pgresult *r)
{
	const struct job_settings *j = arg;

	if (r->error != NULL && *r->sqlstate != '\0')
		log_error("[job %s]: its jobs do not follow the messages of queue \"%s\": %s; as the owner of the "
			  "queue: SELECT pgmqd.attach_jobs('%s')",
			j->name, j->queue, r->error, j->queue);
}

void jobs_attach(struct control *c)
{
	for (size_t i = 0; i < c->env->settings->njobs; i++)
		control_db_send(c->db, "SELECT pgmqd.attach_jobs($1)", 1, &c->env->settings->jobs[i].queue,
			jobs_attached, &c->env->settings->jobs[i]);
}
