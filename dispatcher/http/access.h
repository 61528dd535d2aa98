/* access.h: who may ask for what: the name of this server, tokens and their roles, and what keeps other sites' pages
 * out. */
#ifndef HTTP_ACCESS_H
#define HTTP_ACCESS_H

#include "base/people.h"
#include "http/request.h"

#include <stdbool.h>

/* The settings that decide about access. */
struct http_access {
	const struct people *people; /* that have a token; without any, what needs one is refused */
	const char *host;            /* that the server listens on; NULL: a Unix socket, to which no browser speaks */
	const char *other_names;     /* of this server, separated by commas or blanks */
	bool guests;                 /* who brings no token may look */
	/* Whether a request of a HTTP_ROUTE_ASK route needs no token; NULL: never. */
	bool (*leaves_open)(const struct http_request *r);
};

/* Refuses the request (http_request_refuse) when it is not meant for this server, by its Host: 421. */
void http_access_host(const struct http_access *a, struct http_request *r);

/* Refuses the request when its route may not be used by this client, with the body that is announced: 401, 403, 411,
 * 413 or 415. Sets r->person and r->role. */
void http_access_route(const struct http_access *a, struct http_request *r);

#endif
