/* route.c: finds what answers a request; refuses what no route is there for. */
#include "config.h"

#include "http/route.h"

#include "base/xalloc.h"
#include "http/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In this order; the first pattern that fits counts. */
static const struct httproute *const httproute_tables[] = { httphealth_routes, httpmetrics_routes, httpqueues_routes,
	httpmail_routes, httpstatus_routes, httpdead_routes, httptemplates_routes, httpjobs_routes, httpstart_routes,
	httpevents_routes, httppage_routes };

#define HTTPROUTE_NTABLES (sizeof(httproute_tables) / sizeof(*httproute_tables))

static const struct {
	enum evhttp_cmd_type method;
	const char *name;
} httproute_methods[] = { { EVHTTP_REQ_GET, "GET, HEAD" }, { EVHTTP_REQ_POST, "POST" }, { EVHTTP_REQ_PUT, "PUT" },
	{ EVHTTP_REQ_DELETE, "DELETE" }, { EVHTTP_REQ_PATCH, "PATCH" } };

/* Copies one segment of a path, decoded. False when it is empty, too long, or holds what no name holds. */
static bool httproute_segment(const char *from, size_t len, char *to)
{
	char *raw, *text;
	size_t size;
	bool good;

	if (len == 0 || len >= 3 * HTTPCALL_PARAM_SIZE)
		return false;
	raw = xasprintf("%.*s", (int)len, from);
	text = evhttp_uridecode(raw, 0, &size);
	free(raw);
	good = text != NULL && size < HTTPCALL_PARAM_SIZE && strlen(text) == size;
	if (good)
		memcpy(to, text, size + 1);
	free(text);
	return good;
}

bool httproute_match(const char *pattern, const char *path, char params[][HTTPCALL_PARAM_SIZE])
{
	size_t n = 0, a, b;

	while (*pattern == '/' && *path == '/') {
		a = strcspn(++pattern, "/");
		b = strcspn(++path, "/");
		if (*pattern == '{') {
			if (n == HTTPCALL_PARAMS || !httproute_segment(path, b, params[n++]))
				return false;
		} else if (a != b || memcmp(pattern, path, a) != 0) {
			return false;
		}
		pattern += a;
		path += b;
	}
	return *pattern == '\0' && *path == '\0';
}

/* The first route whose pattern fits, of whatever method. */
static const struct httproute *httproute_find(struct httpcall *call, const char *path)
{
	for (size_t t = 0; t < HTTPROUTE_NTABLES; t++)
		for (const struct httproute *r = httproute_tables[t]; r->pattern != NULL; r++)
			if (httproute_match(r->pattern, path, call->param))
				return r;
	return NULL;
}

/* The route of the same pattern and that method; `allow` is filled with the methods that there are. */
static const struct httproute *httproute_method(
	const char *pattern, enum evhttp_cmd_type method, char *allow, size_t size)
{
	const struct httproute *found = NULL;
	size_t len = 0;

	*allow = '\0';
	if (method == EVHTTP_REQ_HEAD)
		method = EVHTTP_REQ_GET;
	for (size_t t = 0; t < HTTPROUTE_NTABLES; t++)
		for (const struct httproute *r = httproute_tables[t]; r->pattern != NULL; r++) {
			if (strcmp(r->pattern, pattern) != 0)
				continue;
			if (r->method == method)
				found = r;
			for (size_t m = 0; m < sizeof(httproute_methods) / sizeof(*httproute_methods); m++)
				if (r->method == httproute_methods[m].method && len < size)
					len += (size_t)snprintf(allow + len, size - len, "%s%s", len ? ", " : "",
						httproute_methods[m].name);
		}
	return found;
}

void httproute_request(struct control *c, struct evhttp_request *req)
{
	struct httpcall *call = httpcall_new(c, req);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	const struct httproute *route;
	char allow[64];

	if (!httpguard_host(call))
		return;
	route = path != NULL ? httproute_find(call, path) : NULL;
	if (route == NULL) {
		httpcall_error(call, HTTP_NOTFOUND, "not_found",
			"there is nothing here; /api/openapi.json says what there is");
		return;
	}
	call->route = httproute_method(route->pattern, evhttp_request_get_command(req), allow, sizeof allow);
	if (call->route == NULL) {
		httpcall_add_header(call, "Allow", allow);
		httpcall_error(call, HTTP_BADMETHOD, "method_not_allowed", "only %s is answered here", allow);
		return;
	}
	if (httpguard_route(call))
		call->route->answer(call);
}
