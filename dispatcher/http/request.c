/* request.c: one HTTP request, from its head to its answer, which may come later, and whose client may be gone by then.
 */
#include "config.h"

#include "http/request.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "http/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct evbuffer *http_request_buffer(void)
{
	struct evbuffer *b = evbuffer_new();

	if (b == NULL) {
		log_error("out of memory");
		exit(1);
	}
	return b;
}

/* Takes the parameters behind the ? apart. */
static void http_request_parse_query(struct http_request *r)
{
	const char *pair = r->head.query, *end, *equals, *value;

	for (; pair != NULL && *pair != '\0' && r->nquery < HTTP_REQUEST_QUERY_MAX; pair = end + (*end != '\0')) {
		struct http_request_pair *p = &r->query[r->nquery];

		end = pair + strcspn(pair, "&");
		equals = memchr(pair, '=', (size_t)(end - pair));
		value = equals != NULL ? equals + 1 : end;
		p->name = http_text_decode(pair, (size_t)((equals != NULL ? equals : end) - pair), true);
		p->value = http_text_decode(value, (size_t)(end - value), true);
		if (p->name != NULL && p->value != NULL) {
			r->nquery++;
			continue;
		}
		free(p->name);
		free(p->value);
	}
}

struct http_request *http_request_new(struct http_conn *c, struct http_head *head, void *context)
{
	struct http_request *r = xcalloc(1, sizeof *r);

	r->context = context;
	r->head = *head;
	r->conn = c;
	r->body = "";
	r->headers = http_request_buffer();
	http_request_parse_query(r);
	return r;
}

/* Frees it. */
static void http_request_free(struct http_request *r)
{
	if (r->free_data != NULL)
		r->free_data(r->data);
	if (r->body_len > 0)
		free((void *)r->body);
	for (size_t i = 0; i < r->nquery; i++) {
		free(r->query[i].name);
		free(r->query[i].value);
	}
	free(r->refusal_message);
	evbuffer_free(r->headers);
	http_head_free(&r->head);
	free(r);
}

/* Its answer is complete. */
static void http_request_end(struct http_request *r)
{
	if (r->conn != NULL)
		http_conn_end(r->conn);
	http_request_free(r);
}

void http_request_take_body(struct http_request *r, char *body, size_t len)
{
	if (body == NULL)
		return;
	r->body = body;
	r->body_len = len;
}

/* A client that has sent its last request may still read the answer; only requests that wait for long end here. */
void http_request_half_closed(void *request)
{
	struct http_request *r = request;

	if (r->gone != NULL)
		r->gone(r);
}

void http_request_gone(void *request)
{
	struct http_request *r = request;

	r->conn = NULL;
	if (!r->handled)
		http_request_free(r); /* its body was still on the way */
	else if (r->gone != NULL)
		r->gone(r);
}

cJSON *http_request_object(struct http_request *r)
{
	cJSON *json = memchr(r->body, '\0', r->body_len) == NULL ? cJSON_ParseWithOpts(r->body, NULL, 1)
	                                                         : NULL; /* a NUL would count as a blank */

	if (cJSON_IsObject(json))
		return json;
	cJSON_Delete(json);
	http_request_error(r, 400, "bad_json", "the body has to be a JSON object");
	return NULL;
}

const char *http_request_query(const struct http_request *r, const char *name)
{
	for (size_t i = 0; i < r->nquery; i++)
		if (strcmp(r->query[i].name, name) == 0)
			return r->query[i].value;
	return NULL;
}

const char *http_request_header(const struct http_request *r, const char *name)
{
	return http_head_find(&r->head, name);
}

void http_request_add_header(struct http_request *r, const char *name, const char *value)
{
	if (strpbrk(value, "\r\n") == NULL)
		evbuffer_add_printf(r->headers, "%s: %s\r\n", name, value);
}

/* The words beside a status. */
static const char *http_request_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = { { 200, "OK" }, { 202, "Accepted" }, { 204, "No Content" }, { 304, "Not Modified" },
		{ 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 409, "Conflict" }, { 411, "Length Required" },
		{ 413, "Content Too Large" }, { 415, "Unsupported Media Type" }, { 421, "Misdirected Request" },
		{ 422, "Unprocessable Content" }, { 429, "Too Many Requests" }, { 500, "Internal Server Error" },
		{ 503, "Service Unavailable" } };

	for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Status";
}

/* Whether a header was added to the answer. */
static bool http_request_has_header(const struct http_request *r, const char *name)
{
	return evbuffer_search(r->headers, name, strlen(name), NULL).pos != -1;
}

/* Writes the status line and the headers; a handler's own win. `length` -1: it is a stream. */
static void http_request_write_head(struct http_request *r, int status, const char *type, long length)
{
	struct evbuffer *head = http_request_buffer();
	time_t now = time(NULL);
	struct tm tm;
	char date[64];

	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
	evbuffer_add_printf(head,
		"HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nX-Content-Type-Options: nosniff\r\n", status,
		http_request_phrase(status), date, type);
	if (!http_request_has_header(r, "Cache-Control: "))
		evbuffer_add_printf(head, "Cache-Control: no-store\r\n");
	evbuffer_add_buffer(head, r->headers);
	if (length == -1 && !r->head.old)
		evbuffer_add_printf(head, "Transfer-Encoding: chunked\r\n");
	else if (length != -1 && status != 204 && status != 304)
		evbuffer_add_printf(head, "Content-Length: %ld\r\n", length);
	if (!http_conn_keeps(r->conn))
		evbuffer_add_printf(head, "Connection: close\r\n");
	else if (r->head.old)
		evbuffer_add_printf(head, "Connection: keep-alive\r\n");
	evbuffer_add_printf(head, "\r\n");
	http_conn_write_buffer(r->conn, head);
	evbuffer_free(head);
}

void http_request_send(struct http_request *r, int status, const char *type, struct evbuffer *body)
{
	if (r->conn != NULL) {
		http_request_write_head(r, status, type, (long)evbuffer_get_length(body));
		if (r->head.method != HTTP_HEAD && status != 204 && status != 304)
			http_conn_write_buffer(r->conn, body);
	}
	evbuffer_free(body);
	http_request_end(r);
}

void http_request_text(struct http_request *r, int status, const char *type, const char *text)
{
	struct evbuffer *body = http_request_buffer();

	evbuffer_add(body, text, strlen(text));
	http_request_send(r, status, type, body);
}

void http_request_json(struct http_request *r, int status, cJSON *json)
{
	struct evbuffer *body = http_request_buffer();
	char *text = cJSON_PrintUnformatted(json);

	evbuffer_add_printf(body, "%s\n", text != NULL ? text : "{}");
	cJSON_free(text);
	cJSON_Delete(json);
	http_request_send(r, status, "application/json", body);
}

/* Answers with an error. */
static void http_request_fail(struct http_request *r, int status, const char *code, const char *message)
{
	cJSON *json = cJSON_CreateObject(), *error = cJSON_AddObjectToObject(json, "error");

	cJSON_AddStringToObject(error, "code", code);
	cJSON_AddStringToObject(error, "message", message);
	http_request_json(r, status, json);
}

void http_request_error(struct http_request *r, int status, const char *code, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	http_request_fail(r, status, code, text);
	free(text);
}

void http_request_refuse(struct http_request *r, int status, const char *code, const char *fmt, ...)
{
	va_list ap;

	if (r->refusal != 0)
		return;
	va_start(ap, fmt);
	r->refusal_message = xvasprintf(fmt, ap);
	va_end(ap);
	r->refusal = status;
	r->refusal_code = code;
}

void http_request_stream_begin(struct http_request *r, const char *type)
{
	r->streaming = true;
	if (r->conn == NULL)
		return;
	http_conn_close_after(r->conn);
	http_request_write_head(r, 200, type, -1);
}

void http_request_stream_write(struct http_request *r, const char *text, size_t len)
{
	char size[32];

	if (r->conn == NULL || len == 0)
		return;
	snprintf(size, sizeof size, "%zx\r\n", len);
	if (!r->head.old)
		http_conn_write(r->conn, size, strlen(size));
	http_conn_write(r->conn, text, len);
	if (!r->head.old)
		http_conn_write(r->conn, "\r\n", 2);
}

void http_request_stream_end(struct http_request *r)
{
	if (r->conn != NULL && r->streaming && !r->head.old)
		http_conn_write(r->conn, "0\r\n\r\n", 5);
	http_request_end(r);
}

size_t http_request_unread(const struct http_request *r)
{
	return r->conn != NULL ? http_conn_unsent(r->conn) : 0;
}

const char *http_request_who(const struct http_request *r)
{
	return r->person != NULL ? r->person->name : "HTTP";
}

const char *http_request_peer(const struct http_request *r)
{
	return r->conn != NULL ? http_conn_peer(r->conn) : "";
}
