/* payment.c: notifications of payment providers: the payment that one names is verified at once, by asking the
 * provider. */
#include "config.h"

#include "control/payment.h"

#include "base/network.h"
#include "control/context.h"
#include "control/db.h"

#include <stdio.h>
#include <string.h>

#define PAYMENT_ID_MAX 64

/* The queue whose plugin verifies payments; NULL when there is none. */
static const char *payment_queue(const struct control *c)
{
	const struct settings *s = c->env->settings;

	for (size_t i = 0; i < s->nqueues; i++)
		if (strcmp(s->queues[i].plugin, "payment") == 0)
			return s->queues[i].name;
	return NULL;
}

/* An id of the provider's, or ours: letters, digits, - and _. NULL when the member is something else. */
static const char *payment_id(const cJSON *object, const char *name)
{
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
	size_t len = id ? strlen(id) : 0;

	return len > 0 && len <= PAYMENT_ID_MAX &&
	                       strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_") == len
	               ? id
	               : NULL;
}

/* The payment is in the queue, or is none of ours: the provider need not know which. */
static void payment_queued(struct http_request *req, const struct pgresult *r)
{
	cJSON *json = cJSON_CreateObject();

	(void)r;
	cJSON_AddBoolToObject(json, "accepted", 1);
	http_request_json(req, 200, json);
}

/* Whether the settings let this client send notifications. A proxy on this machine says at the end of a header for whom
 * it asks. */
static bool payment_may_notify(const struct http_request *req)
{
	static const char here[] = "127.0.0.0/8 ::/127"; /* the server shortens ::1 */
	const char *networks = control_of(req)->env->settings->payment_networks;
	const char *peer = http_request_peer(req), *forwarded = http_request_header(req, "X-Forwarded-For");
	char last[HTTP_CONN_PEER_SIZE];
	const char *comma;

	if (*networks == '\0')
		return true;
	if (forwarded != NULL && (network_list_has(here, peer) || strncmp(peer, "user ", 5) == 0)) {
		comma = strrchr(forwarded, ',');
		forwarded = comma != NULL ? comma + 1 : forwarded;
		forwarded += strspn(forwarded, " \t");
		snprintf(last, sizeof last, "%.*s", (int)strcspn(forwarded, " \t"), forwarded);
		peer = last;
	}
	return network_list_has(networks, peer);
}

/* POST /api/payment/events/{provider}: only the ids are read. YooKassa signs nothing, so the plugin asks its API. */
void payment_event(struct http_request *req)
{
	const char *queue = payment_queue(control_of(req)), *id;
	const cJSON *object;
	cJSON *event;

	if (queue == NULL || strcmp(req->param[0], "yookassa") != 0) {
		http_request_error(
			req, 404, "not_found", "no queue with plugin = payment takes notifications of such a provider");
		return;
	}
	if (!payment_may_notify(req)) {
		http_request_error(req, 403, "address", "payment_networks does not name the address of this client");
		return;
	}
	event = cJSON_ParseWithLength(req->body, req->body_len);
	object = cJSON_GetObjectItemCaseSensitive(event, "object");
	/* a refund names its payment */
	id = payment_id(object, "payment_id");
	if (id == NULL)
		id = payment_id(object, "id");
	if (id == NULL) {
		http_request_error(req, 400, "bad_event", "this is not a notification of that provider");
	} else {
		const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
		const char *const params[3] = { queue, payment_id(metadata, "payment_id"), id };

		control_db_query(req, "SELECT pgmqd.payment_notified($1, $2, $3)", 3, params, payment_queued);
	}
	cJSON_Delete(event);
}
