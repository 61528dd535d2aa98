/* page.c: the status page at /: files that are part of the program (page/), made into page_files.c by the build. */
#include "config.h"

#include "http/route.h"

#include "control/page_files.h"

#include <stdio.h>
#include <string.h>

/* Answers with one of the files. They hold no data, so they are served before the token is known. */
static void httppage_get(struct httpcall *call)
{
	const char *wanted = call->route->pattern, *known = httpcall_header(call, "If-None-Match");
	const struct page_file *f = page_files;
	struct evbuffer *body;
	char tag[32];

	while (f->path != NULL && strcmp(f->path, wanted) != 0)
		f++;
	if (f->path == NULL) {
		httpcall_error(call, HTTP_NOTFOUND, "not_found", "this pgmqd was built without that file");
		return;
	}
	snprintf(tag, sizeof tag, "\"%s\"", f->tag);
	httpcall_add_header(call, "ETag", tag);
	httpcall_add_header(call, "Cache-Control", "no-cache");
	httpcall_add_header(call, "Referrer-Policy", "no-referrer");
	httpcall_add_header(call, "Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
		"frame-src 'self';"
		" base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
	body = httpcall_buffer();
	if (known != NULL && strcmp(known, tag) == 0) {
		httpcall_send(call, HTTP_NOTMODIFIED, f->type, body);
		return;
	}
	evbuffer_add(body, f->data, f->size);
	httpcall_send(call, HTTP_OK, f->type, body);
}

const struct httproute httppage_routes[] = {
	{ EVHTTP_REQ_GET, "/", HTTPROUTE_OPEN, httppage_get },
	{ EVHTTP_REQ_GET, "/page.css", HTTPROUTE_OPEN, httppage_get },
	{ EVHTTP_REQ_GET, "/page.js", HTTPROUTE_OPEN, httppage_get },
	{ EVHTTP_REQ_GET, "/charts.js", HTTPROUTE_OPEN, httppage_get },
	{ EVHTTP_REQ_GET, "/words.js", HTTPROUTE_OPEN, httppage_get },
	{ EVHTTP_REQ_GET, "/icon.svg", HTTPROUTE_OPEN, httppage_get },
	{ 0 },
};
