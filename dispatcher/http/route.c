/* route.c: the table of routes: which handler answers which path. */
#include "config.h"

#include "http/route.h"

#include "http/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies one segment of a path, decoded. False when it is empty, too long, or no text. */
static bool http_route_segment(const char *from, size_t len, char *to)
{
	char *text = len > 0 && len < 3 * HTTP_REQUEST_PARAM_SIZE ? http_text_decode(from, len, false) : NULL;
	bool good = text != NULL && strlen(text) < HTTP_REQUEST_PARAM_SIZE;

	if (good)
		memcpy(to, text, strlen(text) + 1);
	free(text);
	return good;
}

bool http_route_match(const char *pattern, const char *path, char params[][HTTP_REQUEST_PARAM_SIZE])
{
	size_t n = 0, a, b;

	while (*pattern == '/' && *path == '/') {
		a = strcspn(++pattern, "/");
		b = strcspn(++path, "/");
		if (*pattern == '{') {
			if (n == HTTP_REQUEST_PARAMS || !http_route_segment(path, b, params[n++]))
				return false;
		} else if (a != b || memcmp(pattern, path, a) != 0) {
			return false;
		}
		pattern += a;
		path += b;
	}
	return *pattern == '\0' && *path == '\0';
}

const struct http_route *http_route_find(const struct http_route *table, struct http_request *r)
{
	for (; table->pattern != NULL; table++)
		if (http_route_match(table->pattern, r->head.path, r->param))
			return table;
	return NULL;
}

const struct http_route *http_route_method(
	const struct http_route *table, const char *pattern, enum http_method method, char *allow, size_t size)
{
	const struct http_route *found = NULL;
	size_t len = 0;

	*allow = '\0';
	if (method == HTTP_HEAD)
		method = HTTP_GET;
	for (; table->pattern != NULL; table++) {
		if (strcmp(table->pattern, pattern) != 0)
			continue;
		if (table->method == method)
			found = table;
		if (len < size)
			len += (size_t)snprintf(allow + len, size - len, "%s%s", len > 0 ? ", " : "",
				table->method == HTTP_GET ? "GET, HEAD" : http_head_method_name(table->method));
	}
	return found;
}
