/* head.h: the head of a request: its first line and its headers, by the grammar of RFC 9112 and nothing beside it. */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_HEAD_MAX 16384      /* bytes, the blank line with them */
#define HTTP_HEAD_FIELDS_MAX 100 /* headers */
#define HTTP_HEAD_BODY_MAX (1024 * 1024)

enum http_method {
	HTTP_GET,
	HTTP_HEAD, /* is answered like GET, without the body */
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_TRACE,
	HTTP_CONNECT,
	HTTP_PATCH,
	HTTP_NMETHODS
};

struct http_head_field {
	const char *name, *value;
};

/* A head. Its strings are pieces of `text`. */
struct http_head {
	char *text; /* owned */
	enum http_method method;
	const char *path, *query; /* as they came: encoded; query NULL: there is none */
	struct http_head_field field[HTTP_HEAD_FIELDS_MAX];
	size_t nfields;
	size_t body;     /* bytes that follow */
	bool has_length; /* the request says so */
	bool keep_alive; /* the client wants to send more requests */
	bool expects;    /* it waits for "100 Continue" before it sends the body */
	bool old;        /* HTTP/1.0: no chunks */
	/* why it is refused; status 0: it is not */
	int status;
	const char *code, *message;
};

/* The length of the head that begins at `text`, with its blank line; 0 when not all of it is there yet. */
size_t http_head_length(const char *text, size_t len);

/* Parses a whole head. Anything that the grammar does not have, and anything ambiguous, is refused: see h->status. */
void http_head_parse(struct http_head *h, const char *text, size_t len);
void http_head_free(struct http_head *h);

/* The value of a header; NULL when it is missing, or comes twice. */
const char *http_head_find(const struct http_head *h, const char *name);

/* "GET" */
const char *http_head_method_name(enum http_method method);

#endif
