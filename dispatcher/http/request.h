/* request.h: one HTTP request, from its head to its answer, which may come later, and whose client may be gone by then.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "base/people.h"
#include "http/conn.h"
#include "http/head.h"

#include <cjson/cJSON.h>
#include <event2/buffer.h>
#include <stdbool.h>

#define HTTP_REQUEST_PARAMS 3
#define HTTP_REQUEST_PARAM_SIZE 128

#define HTTP_REQUEST_QUERY_MAX 16

struct http_route;

/* A parameter behind the ?, decoded. */
struct http_request_pair {
	char *name, *value;
};

/* A request is answered exactly once, by http_request_json(), _text(), _send() or _error(), or by a stream, at once or
 * from a later callback; that frees it. When the client has gone meanwhile, the answer goes nowhere, and that is all.
 */
struct http_request {
	void *context; /* the handlers' own, of the server */
	struct http_head head;
	struct http_conn *conn; /* NULL: the client is gone */
	const struct http_route *route;
	char param[HTTP_REQUEST_PARAMS][HTTP_REQUEST_PARAM_SIZE]; /* the path's parts at the pattern's {...}, decoded */
	const char *body;                                         /* never NULL in a handler; a NUL follows it */
	size_t body_len;
	const struct person *person; /* whose token it came with, or NULL */
	enum people_role role;       /* what it may do */
	bool handled;                /* all of it is there, and its handler was called */
	struct evbuffer *headers;    /* of the answer to come */
	bool streaming;
	struct http_request_pair query[HTTP_REQUEST_QUERY_MAX];
	size_t nquery;
	/* set by http_request_refuse(); status 0: it is not refused */
	int refusal;
	const char *refusal_code;
	char *refusal_message;
	void *data; /* the handler's own; freed with the request by free_data */
	void (*free_data)(void *data);
	/* Called when the client leaves before the answer; may be NULL. The request is still to be answered, or ended.
	 */
	void (*gone)(struct http_request *r);
};

/* Makes the request whose head has come on a connection; takes the head over. */
struct http_request *http_request_new(struct http_conn *c, struct http_head *head, void *context);
/* Events of the connection, see http_conn_events. */
void http_request_take_body(struct http_request *r, char *body, size_t len);
void http_request_half_closed(void *request);
void http_request_gone(void *request);

/* The body as a JSON object: NULL after the request was answered with 400. The caller deletes it. */
cJSON *http_request_object(struct http_request *r);
/* A parameter behind the ?, decoded, or NULL. */
const char *http_request_query(const struct http_request *r, const char *name);
/* A header of the request; NULL when it is missing, or comes twice. */
const char *http_request_header(const struct http_request *r, const char *name);
/* Adds a header to the answer to come. */
void http_request_add_header(struct http_request *r, const char *name, const char *value);

/* Answers, and frees the request; `body` and `json` are freed, too. HEAD gets the same headers without the body. */
void http_request_send(struct http_request *r, int status, const char *type, struct evbuffer *body);
void http_request_json(struct http_request *r, int status, cJSON *json);
void http_request_text(struct http_request *r, int status, const char *type, const char *text);
/* The one shape that errors have: {"error": {"code": ..., "message": ...}}. */
void http_request_error(struct http_request *r, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Has the request refused so as soon as its body was read, instead of handled. */
void http_request_refuse(struct http_request *r, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Answers with a stream: the headers now, pieces by http_request_stream_write(), the end by http_request_stream_end(),
 * which frees the request. When the client leaves, `gone` is called, and then it is to be ended all the same. */
void http_request_stream_begin(struct http_request *r, const char *type);
void http_request_stream_write(struct http_request *r, const char *text, size_t len);
void http_request_stream_end(struct http_request *r);
size_t http_request_unread(const struct http_request *r); /* bytes of the answer that the client has not read yet */

/* The operator for the records: the name of the token. */
const char *http_request_who(const struct http_request *r);
/* Names the client: its address, or its user on a Unix socket. "" when it is gone. */
const char *http_request_peer(const struct http_request *r);

/* An empty buffer; running out of memory ends the process. */
struct evbuffer *http_request_buffer(void);

#endif
