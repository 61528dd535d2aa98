/* route.c: fuzz target: the path and query of an HTTP request, as it stands in its first line. Where a route fits, what
 * stands in its places are names: whole, not empty, without NUL; and nothing that is no route's own path fits by a dot
 * or a doubled slash. */
#include "config.h"

#include "http/route.h"
#include "base/xalloc.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Checks one table against a path. */
static void check_table(const struct httproute *table, const char *path)
{
	char params[HTTPCALL_PARAMS][HTTPCALL_PARAM_SIZE];

	for (const struct httproute *r = table; r->pattern; r++) {
		size_t slashes[2] = { 0 }, n = 0;

		memset(params, 0x7f, sizeof(params));
		if (!httproute_match(r->pattern, path, params))
			continue;
		for (const char *p = r->pattern; *p; p++) {
			slashes[0] += *p == '/';
			n += *p == '{';
		}
		for (const char *p = path; *p; p++)
			slashes[1] += *p == '/';
		if (slashes[0] != slashes[1])
			abort();
		for (size_t i = 0; i < n; i++)
			if (!memchr(params[i], '\0', HTTPCALL_PARAM_SIZE) || !*params[i])
				abort();
		if (n == 0 && strcmp(r->pattern, path) != 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct httproute *const tables[] = { httphealth_routes, httpqueues_routes, httpstatus_routes,
		httpdead_routes, httptemplates_routes, httppage_routes };
	char *text = xstrndup((const char *)data, size);
	struct evhttp_uri *uri = evhttp_uri_parse_with_flags(text, EVHTTP_URI_NONCONFORMANT);
	const char *path = uri ? evhttp_uri_get_path(uri) : text, *query = uri ? evhttp_uri_get_query(uri) : NULL;
	struct evkeyvalq pairs;

	for (size_t i = 0; path && i < sizeof(tables) / sizeof(*tables); i++)
		check_table(tables[i], path);
	if (query && evhttp_parse_query_str(query, &pairs) == 0)
		evhttp_clear_headers(&pairs);
	if (uri)
		evhttp_uri_free(uri);
	free(text);
	return 0;
}
