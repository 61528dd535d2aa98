/* server.h: the HTTP server: accepts clients, and leads each request to its route. */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "http/access.h"
#include "http/listen.h"
#include "http/route.h"

#include <event2/event.h>

/* The parts of a server; all of them outlive it. */
struct http_server_config {
	const struct http_listen *listen;
	const struct http_route *routes; /* with an empty row at the end */
	const struct people *people;     /* this one and the next three: see struct http_access */
	const char *other_names;
	bool guests;
	bool (*leaves_open)(const struct http_request *r);
	void *context; /* becomes http_request.context */
};

struct http_server;

/* Serves from now on; the server closes the socket of `config->listen` at its end. NULL with errno on failure. */
struct http_server *http_server_new(struct event_base *base, const struct http_server_config *config);
void http_server_free(struct http_server *s);

#endif
