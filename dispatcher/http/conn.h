/* conn.h: what keeps one client's connection within bounds, before evhttp sees anything of it. */
#ifndef HTTPCONN_H
#define HTTPCONN_H

#include <event2/bufferevent.h>
#include <event2/http.h>
#include <stdbool.h>

#define HTTPCONN_MAX 64 /* connections at once */

struct httpconns;

/* `full` is called when the last connection that may be open is there, and `room` when one of them has gone. */
struct httpconns *httpconns_new(struct event_base *base, void (*full)(void *arg), void (*room)(void *arg), void *arg);
void httpconns_free(struct httpconns *all); /* when the connections are gone */

/* The bufferevent of a new connection, for evhttp_set_bevcb(). */
struct bufferevent *httpconn_new(struct httpconns *all);

/* To be called when something was given to evhttp to be sent: a filter does not notice by itself. */
void httpconn_flush(struct evhttp_connection *conn);

/* To be called with each request: when it is answered, what the client has sent behind it is looked at. */
void httpconn_request(struct httpconns *all, struct evhttp_request *req);

#endif
