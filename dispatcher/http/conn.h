/* conn.h: the connections of the clients: read a request, have it answered, read the next; each within its bounds. */
#ifndef HTTP_CONN_H
#define HTTP_CONN_H

#include "http/head.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

#define HTTP_CONN_MAX 128       /* connections at once */
#define HTTP_CONN_CLIENT_MAX 64 /* of one client */
#define HTTP_CONN_PEER_SIZE 64

struct http_conn;
struct http_conns;

/* Events for the layer that owns the requests. It may answer at once, from head() or body(), or later. */
struct http_conn_events {
	/* A head has come, and is the callee's to free. The callee calls http_conn_begin(), or answers at once. */
	void (*head)(void *arg, struct http_conn *c, struct http_head *head);
	/* The body of that request is there, with a NUL behind it; NULL when it was not wanted. The callee frees it. */
	void (*body)(void *request, char *body, size_t len);
	/* The client sends no more, but may still read. */
	void (*half_closed)(void *request);
	/* The client is gone: `c` must not be used any more. */
	void (*gone)(void *request);
};

struct http_conns *http_conns_new(struct event_base *base, const struct http_conn_events *events, void *arg);
/* Closes all connections; the requests that are not answered yet are told so. */
void http_conns_free(struct http_conns *all);
size_t http_conns_count(const struct http_conns *all);

/* Takes a new connection over. `peer` names its client: when the client has too many connections, or all are taken,
 * the one that can best be spared is closed: the newest always gets in. */
void http_conn_accept(struct http_conns *all, evutil_socket_t fd, const char *peer);
const char *http_conn_peer(const struct http_conn *c);

/* Ties a request to the connection on which its head has come. `body_max`: of the body, how much is kept; the
 * rest is read and dropped. */
void http_conn_begin(struct http_conn *c, void *request, size_t body_max);

/* Sends a piece of the answer; http_conn_end() follows the last one, and unties the request. */
void http_conn_write(struct http_conn *c, const void *data, size_t len);
void http_conn_write_buffer(struct http_conn *c, struct evbuffer *data); /* empties it */
void http_conn_end(struct http_conn *c);

/* Whether the connection stays open behind the answer; http_conn_close_after() makes it close. */
bool http_conn_keeps(const struct http_conn *c);
void http_conn_close_after(struct http_conn *c);

/* How many bytes the client has not read yet. */
size_t http_conn_unsent(const struct http_conn *c);

#endif
