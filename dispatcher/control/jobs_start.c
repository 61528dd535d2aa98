/* jobs_start.c: POST /api/TYPE/start. What arrives while a statement is under way goes into the next one together. */
#include "config.h"

#include "control/jobs.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "control/db.h"
#include "http/route.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HTTPSTART_BATCH 200        /* jobs in one statement */
#define HTTPSTART_WAITING 2000     /* jobs that wait for one */
#define HTTPSTART_BYTES (16 << 20) /* in one statement, and eight times that waiting */
#define HTTPSTART_KEY_MAX 255

/* One job to be started, and who wants it. */
struct httpstart_job {
	TAILQ_ENTRY(httpstart_job) link;
	struct httpcall *call;
	const struct job_settings *type;
	char *input, *key;
	size_t size;
	bool alone; /* one of its statement was refused: it goes into one of its own */
};
TAILQ_HEAD(httpstart_jobs, httpstart_job);

struct httpstart {
	struct control *control;
	struct httpstart_jobs waiting;
	size_t nwaiting, bytes;
	bool sending;
};

/* What goes together in one statement. */
struct httpstart_batch {
	struct httpstart *start;
	struct httpstart_jobs jobs;
};

static void httpstart_send(struct httpstart *s);

/* Frees one. */
static void httpstart_job_free(struct httpstart_job *j)
{
	free(j->input);
	free(j->key);
	free(j);
}

struct httpstart *httpstart_new(struct control *c)
{
	struct httpstart *s = xcalloc(1, sizeof(*s));

	s->control = c;
	TAILQ_INIT(&s->waiting);
	return s;
}

void httpstart_free(struct httpstart *s)
{
	struct httpstart_job *j;

	if (s == NULL)
		return;
	while ((j = TAILQ_FIRST(&s->waiting)) != NULL) {
		TAILQ_REMOVE(&s->waiting, j, link);
		httpstart_job_free(j);
	}
	free(s);
}

/* Answers one: 202 with the job, a new one or the one that its key stands for. */
static void httpstart_answer(struct httpstart_job *j, const PGresult *res, int row)
{
	const char *id = PQgetvalue(res, row, 0), *outcome = PQgetvalue(res, row, 1);
	char *url;
	cJSON *json;

	if (strcmp(outcome, "conflict") == 0) {
		httpcall_error(j->call, 422, "idempotency_conflict",
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
	httpcall_add_header(j->call, "Location", url);
	free(url);
	httpcall_json(j->call, 202, json);
}

/* Refuses one. What PostgreSQL does not take for a JSON object is the client's mistake. */
static void httpstart_refuse(struct httpstart_job *j, const struct pgresult *r)
{
	if (strncmp(r->sqlstate, "22", 2) == 0 || strcmp(r->sqlstate, "54001") == 0)
		httpcall_error(
			j->call, HTTP_BADREQUEST, "bad_input", "the database does not take this body: %s", r->error);
	else
		httpdb_refuse(j->call, r);
}

/* A statement is through: all of its jobs were started, or none; one bad one must not refuse the others. */
static void httpstart_answered(void *arg, const struct pgresult *r)
{
	struct httpstart_batch *b = arg;
	struct httpstart *s = b->start;
	struct httpstart_job *j = TAILQ_FIRST(&b->jobs);
	bool several = j != NULL && TAILQ_NEXT(j, link) != NULL;
	bool again = several && r->error != NULL && *r->sqlstate != '\0';
	int row = 0;

	s->sending = false;
	while ((j = TAILQ_LAST(&b->jobs, httpstart_jobs)) != NULL && again) {
		TAILQ_REMOVE(&b->jobs, j, link);
		j->alone = true;
		TAILQ_INSERT_HEAD(&s->waiting, j, link);
		s->nwaiting++;
		s->bytes += j->size;
	}
	while ((j = TAILQ_FIRST(&b->jobs)) != NULL) {
		TAILQ_REMOVE(&b->jobs, j, link);
		if (r->error != NULL)
			httpstart_refuse(j, r);
		else
			httpstart_answer(j, r->res, row++);
		httpstart_job_free(j);
	}
	free(b);
	httpstart_send(s);
}

/* Sends what waits, if nothing is under way. */
static void httpstart_send(struct httpstart *s)
{
	struct sqltext types = { 0 }, queues = { 0 }, inputs = { 0 }, keys = { 0 };
	struct httpstart_batch *b;
	struct httpstart_job *j;
	const char *params[4];
	size_t n = 0, bytes = 0;

	if (s->sending || TAILQ_EMPTY(&s->waiting))
		return;
	b = xcalloc(1, sizeof(*b));
	b->start = s;
	TAILQ_INIT(&b->jobs);
	while ((j = TAILQ_FIRST(&s->waiting)) != NULL && n < HTTPSTART_BATCH &&
		(n == 0 || (!j->alone && bytes + j->size <= HTTPSTART_BYTES))) {
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
	httpdb_send(s->control->db,
		"SELECT job_id, outcome, job_status FROM pgmqd.start_jobs($1::text[], $2::text[], $3::text[], "
		"$4::text[])",
		4, params, httpstart_answered, b);
	sqltext_free(&types);
	sqltext_free(&queues);
	sqltext_free(&inputs);
	sqltext_free(&keys);
}

/* Whether a key can be one: 1 to 255 visible characters. */
static bool httpstart_key_is_good(const char *key)
{
	size_t len = 0;

	for (; key[len] != '\0'; len++)
		if (key[len] <= ' ' || key[len] > '~')
			return false;
	return len > 0 && len <= HTTPSTART_KEY_MAX;
}

/* POST /api/TYPE/start. */
static void httpstart_post(struct httpcall *call)
{
	struct httpstart *s = call->control->starts;
	const char *key = httpcall_header(call, "Idempotency-Key"), *text;
	struct httpstart_job *j;
	cJSON *json;
	size_t len;

	if (!httpjobs_check(call))
		return;
	if (key != NULL && !httpstart_key_is_good(key)) {
		httpcall_error(call, HTTP_BADREQUEST, "bad_key",
			"Idempotency-Key has to be 1 to %d visible ASCII characters", HTTPSTART_KEY_MAX);
		return;
	}
	text = httpcall_body(call, &len);
	if (s->nwaiting >= HTTPSTART_WAITING || s->bytes + len > 8 * (size_t)HTTPSTART_BYTES) {
		httpcall_add_header(call, "Retry-After", "1");
		httpcall_error(call, HTTP_SERVUNAVAIL, "busy", "too many jobs wait to be started");
		return;
	}
	/* only looked at: what the database gets is the text, since a number would lose its digits here */
	json = httpcall_body_object(call);
	if (json == NULL)
		return;
	cJSON_Delete(json);
	j = xcalloc(1, sizeof(*j));
	j->call = call;
	j->type = httpjobs_type(call->control, call->param[0]);
	j->input = xstrdup(text);
	j->key = xstrdup(key);
	j->size = len;
	s->nwaiting++;
	s->bytes += len;
	TAILQ_INSERT_TAIL(&s->waiting, j, link);
	httpstart_send(s);
}

const struct httproute httpstart_routes[] = {
	{ EVHTTP_REQ_POST, "/api/{type}/start", HTTPROUTE_BODY, httpstart_post },
	{ 0 },
};
