/* route.h: which path is answered by what: tables of routes, and the way of a request through them. */
#ifndef HTTPROUTE_H
#define HTTPROUTE_H

#include "http/request.h"

/* What a route asks for. Whatever is not GET asks for the token by itself, as does all of a server that others than
 * this machine reach. */
enum httproute_flags {
	HTTPROUTE_TOKEN = 1, /* only with the token: bodies of messages, for instance */
	HTTPROUTE_BODY = 2,  /* has a body, of application/json */
	HTTPROUTE_OPEN = 4,  /* tells nothing about anybody: never asks for the token */
	HTTPROUTE_PUBLIC = 8 /* for anybody from anywhere, with a body of any type: what is asked for proves itself */
};

/* One method and path. A segment {name} of the pattern takes any one segment of a path; where several patterns fit,
 * the first one counts. GET answers HEAD, too. */
struct httproute {
	enum evhttp_cmd_type method;
	const char *pattern;
	unsigned flags;
	void (*answer)(struct httpcall *call);
};

/* Finds what answers the request, checks what is to be checked before (access.h), and calls it. */
void httproute_request(struct control *c, struct evhttp_request *req);

/* Whether the path fits the pattern; fills `params` with the decoded segments. For tests, too. */
bool httproute_match(const char *pattern, const char *path, char params[][HTTPCALL_PARAM_SIZE]);

/* The tables, each with an empty row at its end. */
extern const struct httproute httphealth_routes[];
extern const struct httproute httpmetrics_routes[];
extern const struct httproute httpqueues_routes[];
extern const struct httproute httpjobs_routes[];
extern const struct httproute httpstart_routes[];
extern const struct httproute httpevents_routes[];
extern const struct httproute httpmail_routes[];
extern const struct httproute httpstatus_routes[];
extern const struct httproute httpdead_routes[];
extern const struct httproute httptemplates_routes[];
extern const struct httproute httppage_routes[];

#endif
