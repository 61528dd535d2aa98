/* request.c: one HTTP request from its arrival to its answer, which may come later, and whose client may be gone by
 * then. */
#include "config.h"

#include "http/request.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "http/conn.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* The connection is closed before the answer. The request goes with it, unless it was lost rather than closed: then
 * evhttp leaves it to us. */
static void httpcall_closed(struct evhttp_connection *conn, void *arg)
{
	struct httpcall *call = arg;

	(void)conn;
	if (evhttp_request_get_connection(call->req) == NULL)
		call->orphan = call->req;
	call->req = NULL;
	call->conn = NULL;
	if (call->gone != NULL)
		call->gone(call);
}

struct httpcall *httpcall_new(struct control *c, struct evhttp_request *req)
{
	struct httpcall *call = xcalloc(1, sizeof(*call));
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;

	call->control = c;
	call->req = req;
	call->conn = evhttp_request_get_connection(req);
	TAILQ_INIT(&call->query);
	if (query != NULL && evhttp_parse_query_str(query, &call->query) == -1)
		evhttp_clear_headers(&call->query);
	evhttp_connection_set_closecb(call->conn, httpcall_closed, call);
	return call;
}

/* Frees it; whatever was to be sent was handed to evhttp. */
static void httpcall_free(struct httpcall *call)
{
	if (call->free_data != NULL)
		call->free_data(call->data);
	if (call->orphan != NULL)
		evhttp_request_free(call->orphan);
	evhttp_clear_headers(&call->query);
	free(call);
}

/* The request is evhttp's again: from here on nobody wants to hear of its connection's end. */
static struct evhttp_request *httpcall_release(struct httpcall *call, struct evhttp_connection **conn)
{
	struct evhttp_request *req = call->req;

	*conn = call->conn;
	if (req != NULL)
		evhttp_connection_set_closecb(call->conn, NULL, NULL);
	httpcall_free(call);
	return req;
}

const char *httpcall_body(struct httpcall *call, size_t *len)
{
	struct evbuffer *in = call->req != NULL ? evhttp_request_get_input_buffer(call->req) : NULL;

	if (call->body != NULL) {
		*len = call->body_len;
		return call->body;
	}
	*len = in != NULL ? evbuffer_get_length(in) : 0;
	if (in == NULL)
		return "";
	if (evbuffer_add(in, "", 1) == -1 || (call->body = (const char *)evbuffer_pullup(in, -1)) == NULL) {
		*len = 0;
		return "";
	}
	call->body_len = *len;
	return call->body;
}

cJSON *httpcall_body_object(struct httpcall *call)
{
	size_t len;
	const char *text = httpcall_body(call, &len);
	cJSON *json = memchr(text, '\0', len) == NULL ? cJSON_ParseWithOpts(text, NULL, 1)
	                                              : NULL; /* a NUL would count as a blank */

	if (cJSON_IsObject(json))
		return json;
	cJSON_Delete(json);
	httpcall_error(call, HTTP_BADREQUEST, "bad_json", "the body has to be a JSON object");
	return NULL;
}

const char *httpcall_query(const struct httpcall *call, const char *name)
{
	return evhttp_find_header(&call->query, name);
}

const char *httpcall_header(const struct httpcall *call, const char *name)
{
	return call->req != NULL ? evhttp_find_header(evhttp_request_get_input_headers(call->req), name) : NULL;
}

void httpcall_add_header(struct httpcall *call, const char *name, const char *value)
{
	if (call->req != NULL)
		evhttp_add_header(evhttp_request_get_output_headers(call->req), name, value);
}

struct evbuffer *httpcall_buffer(void)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL) {
		log_error("out of memory");
		exit(PROC_EXIT_RESTART);
	}
	return body;
}

/* Headers that every answer has; a handler's own wins. */
static void httpcall_common_headers(struct httpcall *call, const char *type)
{
	httpcall_add_header(call, "Content-Type", type);
	if (evhttp_find_header(evhttp_request_get_output_headers(call->req), "Cache-Control") == NULL)
		httpcall_add_header(call, "Cache-Control", "no-store");
	httpcall_add_header(call, "X-Content-Type-Options", "nosniff");
}

void httpcall_send(struct httpcall *call, int code, const char *type, struct evbuffer *body)
{
	struct evhttp_connection *conn;
	struct evhttp_request *req;
	char length[32];

	if (call->req != NULL) {
		httpcall_common_headers(call, type);
		if (evhttp_request_get_command(call->req) == EVHTTP_REQ_HEAD) {
			snprintf(length, sizeof length, "%zu", evbuffer_get_length(body));
			httpcall_add_header(call, "Content-Length", length);
			evbuffer_drain(body, evbuffer_get_length(body));
		}
	}
	if ((req = httpcall_release(call, &conn)) != NULL) {
		evhttp_send_reply(req, code, NULL, body);
		httpconn_flush(conn);
	}
	evbuffer_free(body);
}

void httpcall_text(struct httpcall *call, int code, const char *type, const char *text)
{
	struct evbuffer *body = httpcall_buffer();

	evbuffer_add(body, text, strlen(text));
	httpcall_send(call, code, type, body);
}

void httpcall_json(struct httpcall *call, int code, cJSON *json)
{
	struct evbuffer *body = httpcall_buffer();
	char *text = cJSON_PrintUnformatted(json);

	evbuffer_add_printf(body, "%s\n", text != NULL ? text : "{}");
	cJSON_free(text);
	cJSON_Delete(json);
	httpcall_send(call, code, "application/json", body);
}

void httpcall_error(struct httpcall *call, int http, const char *code, const char *fmt, ...)
{
	cJSON *json = cJSON_CreateObject(), *error = cJSON_AddObjectToObject(json, "error");
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	cJSON_AddStringToObject(error, "code", code);
	cJSON_AddStringToObject(error, "message", text);
	free(text);
	httpcall_json(call, http, json);
}

void httpcall_stream_begin(struct httpcall *call, const char *type)
{
	if (call->req == NULL)
		return;
	httpcall_common_headers(call, type);
	httpcall_add_header(call, "Connection", "close");
	evhttp_connection_set_timeout(call->conn, 0); /* it is meant to be silent for long */
	evhttp_send_reply_start(call->req, HTTP_OK, NULL);
	httpconn_flush(call->conn);
}

void httpcall_stream_write(struct httpcall *call, const char *text, size_t len)
{
	struct evbuffer *piece;

	if (call->req == NULL || len == 0)
		return;
	piece = httpcall_buffer();
	evbuffer_add(piece, text, len);
	evhttp_send_reply_chunk(call->req, piece);
	httpconn_flush(call->conn);
	evbuffer_free(piece);
}

void httpcall_stream_end(struct httpcall *call)
{
	struct evhttp_connection *conn;
	struct evhttp_request *req = httpcall_release(call, &conn);

	if (req == NULL)
		return;
	evhttp_send_reply_end(req);
	httpconn_flush(conn);
}
