/* jobs_start.c: POST /api/TYPE/start. Requests that arrive while a statement runs share the next statement. */
#include "config.h"

#include "control/jobs_start.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "control/context.h"
#include "control/db.h"
#include "control/jobs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define JOBS_START_BATCH 200        /* jobs in one statement */
#define JOBS_START_WAITING 2000     /* jobs that wait for one */
#define JOBS_START_BYTES (16 << 20) /* in one statement, and eight times that waiting */
#define JOBS_START_KEY_MAX 255

/* One job to be started, and the request that waits for it. */
struct jobs_start_job {
	TAILQ_ENTRY(jobs_start_job) link;
	struct http_request *req;
	const struct job_settings *type;
	char *input, *key;
	size_t size;
	bool alone; /* its statement was refused: it gets a statement of its own, so that one bad job does not refuse
	               others */
};
TAILQ_HEAD(jobs_start_jobs, jobs_start_job);

struct jobs_start {
	struct control *control;
	struct jobs_start_jobs waiting;
	size_t nwaiting, bytes;
	bool sending;
};

/* The jobs of one statement. */
struct jobs_start_batch {
	struct jobs_start *start;
	struct jobs_start_jobs jobs;
};

static void jobs_start_send(struct jobs_start *s);

/* Frees one. */
static void jobs_start_job_free(struct jobs_start_job *j)
{
	free(j->input);
	free(j->key);
	free(j);
}

struct jobs_start *jobs_start_new(struct control *c)
{
	struct jobs_start *s = xcalloc(1, sizeof(*s));

	s->control = c;
	TAILQ_INIT(&s->waiting);
	return s;
}

void jobs_start_free(struct jobs_start *s)
{
	struct jobs_start_job *j;

	if (s == NULL)
		return;
	while ((j = TAILQ_FIRST(&s->waiting)) != NULL) {
		TAILQ_REMOVE(&s->waiting, j, link);
		jobs_start_job_free(j);
	}
	free(s);
}

/* Answers one: 202 with the new job, or with the earlier job of the same key. */
static void jobs_start_answer(struct jobs_start_job *j, const PGresult *res, int row)
{
	const char *id = PQgetvalue(res, row, 0), *outcome = PQgetvalue(res, row, 1);
	char *url;
	cJSON *json;

	if (strcmp(outcome, "conflict") == 0) {
		http_request_error(j->req, 422, "idempotency_conflict",
			"this Idempotency-Key was used for a job with another body");
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "job_id", id);
	cJSON_AddStringToObject(json, "type", j->type->name);
	cJSON_AddStringToObject(json, "status", PQgetvalue(res, row, 2));
	cJSON_AddBoolToObject(json, "started", strcmp(outcome, "started") == 0);
	url = xasprintf("/api/%s/status/%s", j->type->name, id);
	cJSON_AddStringToObject(json, "status_url", url);
	http_request_add_header(j->req, "Location", url);
	free(url);
	http_request_json(j->req, 202, json);
}

/* Refuses one. What PostgreSQL does not take for a JSON object is the client's mistake. */
static void jobs_start_refuse(struct jobs_start_job *j, const struct pgresult *r)
{
	if (strncmp(r->sqlstate, "22", 2) == 0 || strcmp(r->sqlstate, "54001") == 0)
		http_request_error(j->req, 400, "bad_input", "the database refuses this body: %s", r->error);
	else
		control_db_refuse(j->req, r);
}

/* A statement was answered: all of its jobs were started, or none; then each is tried alone. */
static void jobs_start_answered(void *arg, const struct pgresult *r)
{
	struct jobs_start_batch *b = arg;
	struct jobs_start *s = b->start;
	struct jobs_start_job *j = TAILQ_FIRST(&b->jobs);
	bool several = j != NULL && TAILQ_NEXT(j, link) != NULL;
	bool again = several && r->error != NULL && *r->sqlstate != '\0';
	int row = 0;

	s->sending = false;
	while ((j = TAILQ_LAST(&b->jobs, jobs_start_jobs)) != NULL && again) {
		TAILQ_REMOVE(&b->jobs, j, link);
		j->alone = true;
		TAILQ_INSERT_HEAD(&s->waiting, j, link);
		s->nwaiting++;
		s->bytes += j->size;
	}
	while ((j = TAILQ_FIRST(&b->jobs)) != NULL) {
		TAILQ_REMOVE(&b->jobs, j, link);
		if (r->error != NULL)
			jobs_start_refuse(j, r);
		else
			jobs_start_answer(j, r->res, row++);
		jobs_start_job_free(j);
	}
	free(b);
	jobs_start_send(s);
}

/* Sends the waiting jobs, unless a statement is running. */
static void jobs_start_send(struct jobs_start *s)
{
	struct sqltext types = { 0 }, queues = { 0 }, inputs = { 0 }, keys = { 0 };
	struct jobs_start_batch *b;
	struct jobs_start_job *j;
	const char *params[4];
	size_t n = 0, bytes = 0;

	if (s->sending || TAILQ_EMPTY(&s->waiting))
		return;
	b = xcalloc(1, sizeof(*b));
	b->start = s;
	TAILQ_INIT(&b->jobs);
	while ((j = TAILQ_FIRST(&s->waiting)) != NULL && n < JOBS_START_BATCH &&
		(n == 0 || (!j->alone && bytes + j->size <= JOBS_START_BYTES))) {
		TAILQ_REMOVE(&s->waiting, j, link);
		TAILQ_INSERT_TAIL(&b->jobs, j, link);
		s->nwaiting--;
		s->bytes -= j->size;
		bytes += j->size;
		sqltext_str(&types, j->type->name);
		sqltext_str(&queues, j->type->queue);
		sqltext_str(&inputs, j->input);
		sqltext_str(&keys, j->key);
		n++;
		if (j->alone)
			break;
	}
	params[0] = sqltext_end(&types);
	params[1] = sqltext_end(&queues);
	params[2] = sqltext_end(&inputs);
	params[3] = sqltext_end(&keys);
	s->sending = true;
	control_db_send(s->control->db,
		"SELECT job_id, outcome, job_status FROM pgmqd.start_jobs($1::text[], $2::text[], $3::text[], "
		"$4::text[])",
		4, params, jobs_start_answered, b);
	sqltext_free(&types);
	sqltext_free(&queues);
	sqltext_free(&inputs);
	sqltext_free(&keys);
}

/* Whether a key can be one: 1 to 255 visible characters. */
static bool jobs_start_key_is_good(const char *key)
{
	size_t len = 0;

	for (; key[len] != '\0'; len++)
		if (key[len] <= ' ' || key[len] > '~')
			return false;
	return len > 0 && len <= JOBS_START_KEY_MAX;
}

/* POST /api/TYPE/start. */
void jobs_start_post(struct http_request *req)
{
	struct jobs_start *s = control_of(req)->starts;
	const char *key = http_request_header(req, "Idempotency-Key"), *text;
	struct jobs_start_job *j;
	cJSON *json;
	size_t len;

	if (!jobs_check(req))
		return;
	if (key != NULL && !jobs_start_key_is_good(key)) {
		http_request_error(req, 400, "bad_key", "Idempotency-Key has to be 1 to %d visible ASCII characters",
			JOBS_START_KEY_MAX);
		return;
	}
	text = req->body;
	len = req->body_len;
	if (s->nwaiting >= JOBS_START_WAITING || s->bytes + len > 8 * (size_t)JOBS_START_BYTES) {
		http_request_add_header(req, "Retry-After", "1");
		http_request_error(req, 503, "busy", "too many jobs are waiting to be started");
		return;
	}
	/* parsed only to check it: the database gets the text itself, because cJSON would change large numbers */
	json = http_request_object(req);
	if (json == NULL)
		return;
	cJSON_Delete(json);
	j = xcalloc(1, sizeof(*j));
	j->req = req;
	j->type = jobs_type(control_of(req), req->param[0]);
	j->input = xstrdup(text);
	j->key = xstrdup(key);
	j->size = len;
	s->nwaiting++;
	s->bytes += len;
	TAILQ_INSERT_TAIL(&s->waiting, j, link);
	jobs_start_send(s);
}
