/* access.c: who may ask for what: the name of this server, tokens and their roles, and what keeps other sites' pages
 * out. */
#include "config.h"

#include "http/access.h"

#include "http/route.h"

#include <string.h>
#include <strings.h>

/* Whether a Host value without port and brackets is one of the names in a list separated by commas or blanks. */
static bool http_access_lists(const char *list, const char *host, size_t len)
{
	size_t n;

	for (; list != NULL && *list != '\0'; list += n) {
		list += strspn(list, ", \t");
		n = strcspn(list, ", \t");
		if (n == len && n > 0 && strncasecmp(list, host, n) == 0)
			return true;
	}
	return false;
}

/* A page that made its own name point to 127.0.0.1 sends that name, and is refused. */
void http_access_host(const struct http_access *a, struct http_request *r)
{
	static const char local[] = "localhost 127.0.0.1 ::1";
	const char *host = http_request_header(r, "Host");
	size_t len;

	if (a->host == NULL || host == NULL)
		return; /* no browser speaks to a Unix socket, or leaves Host out */
	if (*host == '[') {
		host++;
		len = strcspn(host, "]");
	} else {
		len = strcspn(host, ":");
	}
	if (!http_access_lists(local, host, len) && !http_access_lists(a->host, host, len) &&
		!http_access_lists(a->other_names, host, len))
		http_request_refuse(r, 421, "wrong_host",
			"this server answers to localhost and to the name that it listens on only; http_hosts names "
			"more");
}

/* The person whose token came with the request, or NULL. */
static const struct person *http_access_person(const struct http_access *a, const struct http_request *r)
{
	static const char scheme[] = "Bearer ";
	const char *given = http_request_header(r, "Authorization");

	if (given == NULL || strncasecmp(given, scheme, sizeof scheme - 1) != 0)
		return NULL;
	given += sizeof scheme - 1;
	return people_find(a->people, given + strspn(given, " "));
}

/* The role that a route asks for. */
static enum people_role http_access_needed(const struct http_route *route)
{
	if (route->method != HTTP_GET)
		return PEOPLE_ACT;
	if (route->flags & (HTTP_ROUTE_OPEN | HTTP_ROUTE_PROBE))
		return PEOPLE_NOBODY;
	return route->flags & HTTP_ROUTE_TOKEN ? PEOPLE_BODIES : PEOPLE_LOOK;
}

/* Whether a page of another site is behind the request: what a browser says of it names another host than it talks to.
 */
static bool http_access_is_foreign(const struct http_request *r)
{
	const char *origin = http_request_header(r, "Origin"), *host = http_request_header(r, "Host");
	const char *site = http_request_header(r, "Sec-Fetch-Site"), *name;

	if (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
		return true;
	if (origin == NULL)
		return false;
	name = strstr(origin, "://");
	return name == NULL || host == NULL || strcasecmp(name + 3, host) != 0;
}

/* Refuses a body that the route does not take. */
static void http_access_body(struct http_request *r)
{
	static const char json[] = "application/json";
	const char *type = http_request_header(r, "Content-Type");

	if ((r->route->flags & HTTP_ROUTE_BODY) && !r->head.has_length)
		http_request_refuse(r, 411, "length_required", "send a body of %s, with its Content-Length", json);
	else if (r->head.body > 0 && (type == NULL || strncasecmp(type, json, sizeof json - 1) != 0 ||
					     strchr("; \t", type[sizeof json - 1]) == NULL))
		http_request_refuse(r, 415, "unsupported_media_type", "the body has to be of Content-Type: %s", json);
}

/* Refuses a request that lacks the right token. */
static void http_access_ask_for_token(const struct http_access *a, struct http_request *r, enum people_role needed)
{
	if (r->person != NULL) {
		http_request_refuse(r, 403, "role", "the token of %s has the role %s, and this needs %s",
			r->person->name, people_role_name(r->person->role), people_role_name(needed));
		return;
	}
	if (a->people->n == 0) {
		http_request_refuse(r, 403, "no_token",
			"this needs a token, and none is set: make one with openssl rand -hex 32, and set it as "
			"http_token, PGMQD_HTTP_TOKEN in the environment, or in http_people with a name and a role");
		return;
	}
	http_request_add_header(r, "WWW-Authenticate", "Bearer realm=\"pgmqd\"");
	http_request_refuse(r, 401, "unauthorized", "send the token: Authorization: Bearer TOKEN");
}

void http_access_route(const struct http_access *a, struct http_request *r)
{
	enum people_role needed = http_access_needed(r->route);
	bool writes = r->route->method != HTTP_GET;

	if ((r->route->flags & HTTP_ROUTE_ASK) && a->leaves_open && a->leaves_open(r))
		needed = PEOPLE_NOBODY;
	if (r->route->flags & HTTP_ROUTE_PUBLIC)
		return;
	if (writes && http_access_is_foreign(r)) {
		http_request_refuse(r, 403, "foreign_origin", "a page of another site may not do this");
		return;
	}
	r->person = http_access_person(a, r);
	r->role = r->person != NULL ? r->person->role : a->guests ? PEOPLE_LOOK : PEOPLE_NOBODY;
	if (r->role < needed)
		http_access_ask_for_token(a, r, needed);
	else if (writes)
		http_access_body(r);
}
