/* request.h: one HTTP request from its arrival to its answer, which may come later, and whose client may be gone by
 * then. */
#ifndef HTTPCALL_H
#define HTTPCALL_H

#include "control/control.h"

#include <cjson/cJSON.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdbool.h>

#define HTTPCALL_PARAMS 3
#define HTTPCALL_PARAM_SIZE 128

struct httproute;

/* A call is answered exactly once, by httpcall_json(), httpcall_send() or httpcall_error(), at once or from a later
 * callback; that frees it. When the client has gone meanwhile, the answer goes nowhere, and that is all. */
struct httpcall {
	struct control *control;
	struct evhttp_request *req;    /* NULL: the client is gone */
	struct evhttp_request *orphan; /* a request whose client is gone, and which is ours to free */
	struct evhttp_connection *conn;
	const struct httproute *route;
	char param[HTTPCALL_PARAMS][HTTPCALL_PARAM_SIZE]; /* what stands in the place of the pattern's {...}, decoded */
	struct evkeyvalq query;                           /* decoded; see httpcall_query() */
	const char *body;                                 /* see httpcall_body() */
	size_t body_len;
	bool authorized; /* came with the token */
	void *data;      /* the handler's own; freed with the call by free_data */
	void (*free_data)(void *data);
	void (*gone)(struct httpcall *call); /* told when the client leaves before the answer; may be NULL */
};

/* Takes a request over, without a route yet. */
struct httpcall *httpcall_new(struct control *c, struct evhttp_request *req);

/* The body as it came, and its length; a NUL follows it. Never NULL. */
const char *httpcall_body(struct httpcall *call, size_t *len);
/* The body as a JSON object: NULL after the call was answered with 400. The caller deletes it. */
cJSON *httpcall_body_object(struct httpcall *call);
/* A parameter behind the ?, or NULL. */
const char *httpcall_query(const struct httpcall *call, const char *name);
/* A header of the request, or NULL. */
const char *httpcall_header(const struct httpcall *call, const char *name);
/* Adds a header to the answer to come. */
void httpcall_add_header(struct httpcall *call, const char *name, const char *value);

/* Answers, and frees the call; `body` and `json` are freed, too. HEAD gets the same header without the body. */
void httpcall_send(struct httpcall *call, int code, const char *type, struct evbuffer *body);
void httpcall_json(struct httpcall *call, int code, cJSON *json);
void httpcall_text(struct httpcall *call, int code, const char *type, const char *text);
/* The one shape that errors have: {"error": {"code": ..., "message": ...}}. */
void httpcall_error(struct httpcall *call, int http, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Answers with a stream: the header now, pieces by httpcall_stream_write(), the end by httpcall_stream_end(), which
 * frees the call. When the client leaves, `gone` is called, and then it is to be ended all the same. */
void httpcall_stream_begin(struct httpcall *call, const char *type);
void httpcall_stream_write(struct httpcall *call, const char *text, size_t len);
void httpcall_stream_end(struct httpcall *call);

/* An empty buffer; running out of memory ends the process. */
struct evbuffer *httpcall_buffer(void);

#endif
