/* dead_letters.c: dead letters over HTTP: GET /api/failures (grouped by reason), GET /api/queues/QUEUE/dead-letters and
 * one of them with its body, POST …/redrive and …/purge. The work is done by functions in sql/. */
#include "config.h"

#include "control/dead_letters.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "control/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEAD_LETTERS_LIMIT "100" /* letters in one answer */

/* Answers with the JSON that the database made. */
static void dead_letters_answer(struct http_request *req, const struct pgresult *r)
{
	if (PQntuples(r->res) == 0 || PQgetisnull(r->res, 0, 0))
		http_request_error(
			req, 404, "not_found", "there is no such dead letter; it may have been requeued or deleted");
	else
		control_db_answer(req, r);
}

/* GET /api/failures. */
void dead_letters_failures(struct http_request *req)
{
	const char *params[] = { req->role >= PEOPLE_BODIES ? "t" : "f" };

	control_db_query(req, "SELECT pgmqd.failure_groups(is_open => $1::boolean)", 1, params, dead_letters_answer);
}

/* GET /api/queues/QUEUE/dead-letters: without bodies; ?before=ID goes back from there, ?reason= is a text that the
 * reason holds. */
void dead_letters_list(struct http_request *req)
{
	const char *params[] = { req->param[0], http_request_query(req, "before"), http_request_query(req, "reason"),
		DEAD_LETTERS_LIMIT, req->role >= PEOPLE_BODIES ? "t" : "f" };

	control_db_query(
		req, "SELECT pgmqd.dead_letter_page($1, $2, $3, $4, $5::boolean)", 5, params, dead_letters_answer);
}

/* GET /api/queues/QUEUE/dead-letters/ID: all about one; the body as text, since a JSON printer on the way could change
 * its numbers. */
void dead_letters_show(struct http_request *req)
{
	const char *params[] = { req->param[0], req->param[1] };

	control_db_query(req, "SELECT pgmqd.dead_letter_body($1, $2)", 2, params, dead_letters_answer);
}

/* Turns {"ids": [...], "reason": "...", "class": "..."} into the parameters of the functions. False: it was answered.
 */
static bool dead_letters_choice(struct http_request *req, struct sqltext *ids, char **reason, char **class)
{
	cJSON *json = http_request_object(req), *list, *item;
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
	/* an empty object selects nothing: a client that means all of them sends "all" */
	if (good && cJSON_GetArraySize(list) == 0 && *reason == NULL && *class == NULL &&
		!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "all")))
		good = false;
	cJSON_Delete(json);
	if (!good)
		http_request_error(req, 400, "bad_choice",
			"select dead letters by {\"ids\": [1, 2]}, {\"reason\": \"a part of it\"}, {\"class\": "
			"\"...\"}, or {\"all\": true}");
	return good;
}

/* POST …/redrive and …/purge. */
static void dead_letters_act(struct http_request *req, const char *action)
{
	struct sqltext ids = { 0 };
	char *reason = NULL, *class = NULL;
	const char *params[6] = { req->param[0], action };

	if (dead_letters_choice(req, &ids, &reason, &class)) {
		params[2] = ids.len > 0 ? sqltext_end(&ids) : NULL;
		params[3] = reason;
		params[4] = class;
		params[5] = http_request_who(req);
		control_db_query(req, "SELECT pgmqd.act_on_dead_letters($1, $2, $3::bigint[], $4, $5, $6)", 6, params,
			dead_letters_answer);
	}
	sqltext_free(&ids);
	free(reason);
	free(class);
}

/* Requeues them. */
void dead_letters_redrive(struct http_request *req)
{
	dead_letters_act(req, "redrive");
}

/* Deletes them permanently. */
void dead_letters_purge(struct http_request *req)
{
	dead_letters_act(req, "purge");
}
