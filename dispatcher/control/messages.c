/* messages.c: the messages of a queue over HTTP: GET /api/queues/QUEUE/messages (a page of them, without bodies) and
 * one with its body and its life; POST …/cancel, run-now, delay, edit and requeue; GET /api/actions. The work is done
 * by functions in sql/029_messages.sql, which also judge what the client sends. */
#include "config.h"

#include "control/messages.h"

#include "control/db.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGES_LIMIT "100" /* messages in one answer */

/* Answers with the JSON that the database made. */
static void messages_answer(struct http_request *req, const struct pgresult *r)
{
	if (PQntuples(r->res) == 0 || PQgetisnull(r->res, 0, 0))
		http_request_error(req, 404, "not_found", "there is no such message; it may have moved meanwhile");
	else
		control_db_answer(req, r);
}

/* The filter that the parameters behind the ? make, as text. NULL: the request was answered. */
static char *messages_filter(struct http_request *req)
{
	static const char known[] = " state reason class group priority attempts older newer ";
	cJSON *filter = cJSON_CreateObject(), *where = NULL;
	char *text = NULL, word[32];
	bool good = true;

	for (size_t i = 0; i < req->nquery && good; i++) {
		const struct http_request_pair *p = &req->query[i];

		snprintf(word, sizeof word, " %.20s ", p->name);
		if (strcmp(p->name, "before") == 0)
			continue;
		if (strcmp(p->name, "where") == 0) {
			where = where != NULL ? where : cJSON_AddArrayToObject(filter, "where");
			cJSON_AddItemToArray(where, cJSON_CreateString(p->value));
		} else if (strstr(known, word) != NULL && !cJSON_HasObjectItem(filter, p->name)) {
			cJSON_AddStringToObject(filter, p->name, p->value);
		} else {
			good = false;
		}
	}
	if (good)
		text = cJSON_PrintUnformatted(filter);
	else
		http_request_error(req, 400, "bad_filter",
			"messages are filtered by state, where=KEY=VALUE, reason, class, group, priority, attempts, "
			"older and newer");
	cJSON_Delete(filter);
	return text;
}

/* GET /api/queues/QUEUE/messages: without bodies, and without the token without addresses; ?before= is that of the page
 * before. */
void messages_list(struct http_request *req)
{
	char *filter = messages_filter(req);

	if (filter != NULL) { /* else the request is answered, and gone */
		const char *params[] = { req->param[0], filter, http_request_query(req, "before"), MESSAGES_LIMIT,
			req->role >= PEOPLE_BODIES ? "t" : "f" };

		control_db_query(req, "SELECT pgmqd.message_page($1, $2::jsonb, $3, $4::int, $5::boolean)", 5, params,
			messages_answer);
	}
	free(filter);
}

/* GET /api/queues/QUEUE/messages/ID?state=: all about one; the body as text, since a JSON printer on the way could
 * change its numbers. */
void messages_show(struct http_request *req)
{
	const char *params[] = { req->param[0], req->param[1], http_request_query(req, "state") };

	control_db_query(req, "SELECT pgmqd.message_life($1, $2, $3)", 3, params, messages_answer);
}

/* One of the actions. The database reads the body; a number in it never passes through a JSON printer. */
static void messages_act(struct http_request *req, const char *action)
{
	const char *params[] = { req->param[0], action, req->body, http_request_who(req) };
	cJSON *json = http_request_object(req);

	if (json == NULL)
		return;
	cJSON_Delete(json);
	control_db_query(req, "SELECT pgmqd.act_on_messages($1, $2, $3::jsonb, $4)", 4, params, messages_answer);
}

/* POST /api/queues/QUEUE/send: puts a message into a queue, with a unique key if wanted. */
void messages_send(struct http_request *req)
{
	const char *params[] = { req->param[0], req->body };
	cJSON *json = http_request_object(req);

	if (json == NULL)
		return;
	cJSON_Delete(json);
	control_db_query(req, "SELECT pgmqd.send_request($1, $2)", 2, params, messages_answer);
}

/* Cancels messages: those that wait at once, those that run by their workers. */
void messages_cancel(struct http_request *req)
{
	messages_act(req, "cancel");
}

/* Makes delayed messages due. */
void messages_run_now(struct http_request *req)
{
	messages_act(req, "run-now");
}

/* Makes messages due later. */
void messages_delay(struct http_request *req)
{
	messages_act(req, "delay");
}

/* Gives a message that waits, or a dead letter, another body. */
void messages_edit(struct http_request *req)
{
	messages_act(req, "edit");
}

/* Puts archived messages, or dead letters, back into their queue. */
void messages_requeue(struct http_request *req)
{
	messages_act(req, "requeue");
}

/* GET /api/actions?queue=: what operators did lately. */
void messages_actions(struct http_request *req)
{
	const char *params[] = { http_request_query(req, "queue") };

	control_db_query(req, "SELECT pgmqd.action_list($1)", 1, params, messages_answer);
}
