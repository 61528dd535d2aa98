/* route.h: the table of routes: which handler answers which path. */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include "http/request.h"

/* The conditions of a route. A method other than GET asks by itself for a token that may act, and every other route for
 * one that may look where guests may not. */
enum http_route_flags {
	HTTP_ROUTE_TOKEN = 1, /* only with a token whose role shows bodies of messages */
	HTTP_ROUTE_BODY = 2,  /* has a body, of application/json */
	HTTP_ROUTE_OPEN = 4,  /* says nothing about people or messages: never asks for the token */
	HTTP_ROUTE_PUBLIC =
		8, /* for anybody, by any name of the server, with a body of any type: what is asked proves itself */
	HTTP_ROUTE_PROBE = 16, /* as OPEN, and by whatever name the server is called: probes send an address as Host */
	HTTP_ROUTE_ASK = 32    /* http_access.leaves_open() decides for each request whether it needs the token */
};

/* One method and path. A segment {name} of the pattern takes any one segment of a path; where several patterns fit,
 * the first one counts. GET answers HEAD, too. */
struct http_route {
	enum http_method method;
	const char *pattern;
	unsigned flags;
	void (*answer)(struct http_request *r);
	size_t body_max; /* 0: HTTP_HEAD_BODY_MAX */
};

/* The first route of a table (pattern NULL at its end) whose pattern fits the path, of any method; fills r->param. */
const struct http_route *http_route_find(const struct http_route *table, struct http_request *r);

/* The route of the same pattern and that method, or NULL; `allow` is filled with the methods that there are. */
const struct http_route *http_route_method(
	const struct http_route *table, const char *pattern, enum http_method method, char *allow, size_t size);

/* Whether the path fits the pattern; fills `params` with the decoded segments. For tests, too. */
bool http_route_match(const char *pattern, const char *path, char params[][HTTP_REQUEST_PARAM_SIZE]);

#endif
