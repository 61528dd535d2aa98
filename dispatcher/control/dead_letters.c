/* dead_letters.c: dead letters over HTTP: GET /api/failures (grouped by reason), GET /api/queues/QUEUE/dead-letters and
 * one of them with its body, POST …/redrive and …/purge. What they do is done by sql/021_dead_letters.sql and
 * 023_status.sql. */
#include "config.h"

#include "http/route.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "control/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HTTPDEAD_LIMIT "100" /* letters in one answer */

/* Hands on the JSON that the database made. */
static void httpdead_answer(struct httpcall *call, const struct pgresult *r)
{
	if (PQntuples(r->res) == 0 || PQgetisnull(r->res, 0, 0))
		httpcall_error(call, HTTP_NOTFOUND, "not_found",
			"there is no such dead letter; it may have been put back or thrown away");
	else
		httpcall_text(call, HTTP_OK, "application/json", PQgetvalue(r->res, 0, 0));
}

/* GET /api/failures. */
static void httpdead_failures(struct httpcall *call)
{
	httpdb_query(call, "SELECT pgmqd.failure_groups()", 0, NULL, httpdead_answer);
}

/* GET /api/queues/QUEUE/dead-letters: without bodies; ?before=ID goes back from there, ?reason= is a text that the
 * reason holds. */
static void httpdead_list(struct httpcall *call)
{
	const char *params[] = { call->param[0], httpcall_query(call, "before"), httpcall_query(call, "reason"),
		HTTPDEAD_LIMIT };

	httpdb_query(call, "SELECT pgmqd.dead_letter_page($1, $2, $3, $4)", 4, params, httpdead_answer);
}

/* GET /api/queues/QUEUE/dead-letters/ID: all about one; the body as text, since a JSON printer on the way could change
 * its numbers. */
static void httpdead_show(struct httpcall *call)
{
	const char *params[] = { call->param[0], call->param[1] };

	httpdb_query(call, "SELECT pgmqd.dead_letter_body($1, $2)", 2, params, httpdead_answer);
}

/* Turns {"ids": [...], "reason": "...", "class": "..."} into the parameters of the functions. False: it was answered.
 */
static bool httpdead_choice(struct httpcall *call, struct sqltext *ids, char **reason, char **class)
{
	cJSON *json = httpcall_body_object(call), *list, *item;
	const char *text;
	bool good = true;

	if (json == NULL)
		return false;
	for (item = json->child; item != NULL && good; item = item->next)
		good = strcmp(item->string, "ids") == 0 || strcmp(item->string, "reason") == 0 ||
		       strcmp(item->string, "class") == 0 || strcmp(item->string, "all") == 0;
	list = cJSON_GetObjectItemCaseSensitive(json, "ids");
	if (list != NULL && !cJSON_IsArray(list))
		good = false;
	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsNumber(item) || item->valuedouble < 1 || item->valuedouble > 9e15)
			good = false;
		else
			sqltext_int(ids, (int64_t)item->valuedouble);
	}
	if ((text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "reason"))) != NULL && *text != '\0')
		*reason = xstrdup(text);
	if ((text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "class"))) != NULL && *text != '\0')
		*class = xstrdup(text);
	/* an empty object is no choice: whoever means all of them says so */
	if (good && cJSON_GetArraySize(list) == 0 && *reason == NULL && *class == NULL &&
		!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "all")))
		good = false;
	cJSON_Delete(json);
	if (!good)
		httpcall_error(call, HTTP_BADREQUEST, "bad_choice",
			"say which are meant: {\"ids\": [1, 2]}, {\"reason\": \"a part of it\"}, {\"class\": \"...\"}, "
			"or {\"all\": true}");
	return good;
}

/* POST …/redrive and …/purge. */
static void httpdead_act(struct httpcall *call, const char *sql)
{
	struct sqltext ids = { 0 };
	char *reason = NULL, *class = NULL;
	const char *params[4] = { call->param[0] };

	if (httpdead_choice(call, &ids, &reason, &class)) {
		params[1] = ids.len > 0 ? sqltext_end(&ids) : NULL;
		params[2] = reason;
		params[3] = class;
		httpdb_query(call, sql, 4, params, httpdead_answer);
	}
	sqltext_free(&ids);
	free(reason);
	free(class);
}

/* Puts them back into the queue. */
static void httpdead_redrive(struct httpcall *call)
{
	httpdead_act(call, "SELECT jsonb_build_object('redriven', coalesce(jsonb_agg(jsonb_build_object('id', dead_id, "
			   "'new_id', new_id) ORDER BY dead_id), '[]'))"
			   " FROM pgmqd.redrive($1, $2::bigint[], $3, $4)");
}

/* Throws them away for good. */
static void httpdead_purge(struct httpcall *call)
{
	httpdead_act(call, "SELECT jsonb_build_object('purged', pgmqd.purge_dead_letters($1, $2::bigint[], $3, $4))");
}

const struct httproute httpdead_routes[] = {
	{ EVHTTP_REQ_GET, "/api/failures", 0, httpdead_failures },
	{ EVHTTP_REQ_GET, "/api/queues/{queue}/dead-letters", 0, httpdead_list },
	{ EVHTTP_REQ_GET, "/api/queues/{queue}/dead-letters/{id}", HTTPROUTE_TOKEN, httpdead_show },
	{ EVHTTP_REQ_POST, "/api/queues/{queue}/redrive", HTTPROUTE_BODY, httpdead_redrive },
	{ EVHTTP_REQ_POST, "/api/queues/{queue}/purge", HTTPROUTE_BODY, httpdead_purge },
	{ 0 },
};
