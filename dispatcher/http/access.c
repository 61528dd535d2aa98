/* access.c: who may ask for what: the name of this server, the token, and what keeps other sites' pages out. */
#include "config.h"

#include "http/access.h"

#include "http/route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Whether a Host value without port and brackets is one of the names in a list separated by commas or blanks. */
static bool httpguard_listed(const char *list, const char *host, size_t len)
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
bool httpguard_host(struct httpcall *call)
{
	static const char local[] = "localhost 127.0.0.1 ::1";
	const struct control *c = call->control;
	const char *host = evhttp_request_get_host(call->req);
	size_t len;

	if (c->listen.path[0] != '\0' || host == NULL)
		return true; /* no browser speaks to a Unix socket, or leaves Host out */
	len = strlen(host);
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (httpguard_listed(local, host, len) || httpguard_listed(c->listen.host, host, len) ||
		httpguard_listed(c->env->settings->http_hosts, host, len))
		return true;
	httpcall_error(call, 421, "wrong_host",
		"this server answers to localhost and to the name that it listens on only; http_hosts names more");
	return false;
}

bool httpguard_token_is(const char *token, const char *given)
{
	size_t n = strlen(token), len = strlen(given);
	unsigned char diff = n != len;

	for (size_t i = 0; i < len; i++)
		diff |= (unsigned char)(given[i] ^ token[n > 0 ? i % n : 0]);
	return n > 0 && diff == 0;
}

/* Whether the call came with the token. */
static bool httpguard_authorized(const struct httpcall *call)
{
	static const char scheme[] = "Bearer ";
	const char *token = call->control->env->settings->http_token, *given = httpcall_header(call, "Authorization");

	if (token == NULL || *token == '\0' || given == NULL || strncasecmp(given, scheme, sizeof scheme - 1) != 0)
		return false;
	given += sizeof scheme - 1;
	return httpguard_token_is(token, given + strspn(given, " "));
}

/* Whether a page of another site is behind the call: what a browser says of it names another host than it talks to. */
static bool httpguard_foreign(const struct httpcall *call)
{
	const char *origin = httpcall_header(call, "Origin"), *host = httpcall_header(call, "Host");
	const char *site = httpcall_header(call, "Sec-Fetch-Site"), *name;

	if (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
		return true;
	if (origin == NULL)
		return false;
	name = strstr(origin, "://");
	return name == NULL || host == NULL || strcasecmp(name + 3, host) != 0;
}

/* Whether the body is one that the route takes. */
static bool httpguard_body(struct httpcall *call)
{
	static const char json[] = "application/json";
	const char *type = httpcall_header(call, "Content-Type");
	size_t len = evbuffer_get_length(evhttp_request_get_input_buffer(call->req));

	if ((call->route->flags & HTTPROUTE_BODY) && len == 0 && httpcall_header(call, "Content-Length") == NULL) {
		httpcall_error(call, 411, "length_required", "send a body of %s, with its Content-Length", json);
		return false;
	}
	if (len == 0)
		return true;
	if (type == NULL || strncasecmp(type, json, sizeof json - 1) != 0 ||
		strchr("; \t", type[sizeof json - 1]) == NULL) {
		httpcall_error(call, 415, "unsupported_media_type", "the body has to be of Content-Type: %s", json);
		return false;
	}
	return true;
}

bool httpguard_route(struct httpcall *call)
{
	const struct control *c = call->control;
	const char *token = c->env->settings->http_token;
	bool writes = call->route->method != EVHTTP_REQ_GET;
	bool open = !writes && (call->route->flags & HTTPROUTE_OPEN);

	if (call->route->flags & HTTPROUTE_PUBLIC)
		return true;
	if (writes && httpguard_foreign(call)) {
		httpcall_error(call, 403, "foreign_origin", "a page of another site may not do this");
		return false;
	}
	call->authorized = httpguard_authorized(call);
	if (!call->authorized && !open && (writes || !c->listen.local || (call->route->flags & HTTPROUTE_TOKEN))) {
		if (token == NULL || *token == '\0') {
			httpcall_error(call, 403, "no_token",
				"this needs a token, and none is set: set http_token, or PGMQD_HTTP_TOKEN in the "
				"environment");
		} else {
			httpcall_add_header(call, "WWW-Authenticate", "Bearer realm=\"pgmqd\"");
			httpcall_error(call, 401, "unauthorized", "send the token: Authorization: Bearer TOKEN");
		}
		return false;
	}
	return !writes || httpguard_body(call);
}
