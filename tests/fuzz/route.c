/* route.c: fuzz target: the path and query of an HTTP request, as it stands in its first line. Where a route fits, what
 * stands in its places are names: whole, not empty, without NUL; and nothing that is no route's own path fits by a dot
 * or a doubled slash. */
#include "config.h"

#include "base/utf8.h"
#include "base/xalloc.h"
#include "control/routes.h"
#include "http/text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Checks one route against a path. */
static void check_route(const struct http_route *r, const char *path)
{
	char params[HTTP_REQUEST_PARAMS][HTTP_REQUEST_PARAM_SIZE];
	size_t slashes[2] = { 0 }, n = 0;

	memset(params, 0x7f, sizeof(params));
	if (!http_route_match(r->pattern, path, params))
		return;
	for (const char *p = r->pattern; *p; p++) {
		slashes[0] += *p == '/';
		n += *p == '{';
	}
	for (const char *p = path; *p; p++)
		slashes[1] += *p == '/';
	if (slashes[0] != slashes[1])
		abort();
	for (size_t i = 0; i < n; i++)
		if (!memchr(params[i], '\0', HTTP_REQUEST_PARAM_SIZE) || !*params[i] ||
			!utf8_is_valid(params[i], strlen(params[i])))
			abort();
	if (n == 0 && strcmp(r->pattern, path) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xstrndup((const char *)data, size), *query = strchr(text, '?'), *plain;

	if (query)
		*query++ = '\0';
	for (const struct http_route *r = control_routes; r->pattern; r++)
		check_route(r, text);
	plain = query ? http_text_decode(query, strlen(query), true) : NULL;
	if (plain && !utf8_is_valid(plain, strlen(plain)))
		abort();
	free(plain);
	free(text);
	return 0;
}
