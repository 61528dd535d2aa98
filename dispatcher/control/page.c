/* page.c: the status page at /: files that are part of the program (page/), made into page_files.c by the build. */
#include "config.h"

#include "control/page.h"

#include "control/page_files.h"
#include "http/route.h"

#include <stdio.h>
#include <string.h>

/* Answers with one of the files. They hold no data, so they are served before the token is known. */
void page_get(struct http_request *req)
{
	const char *wanted = req->route->pattern, *known = http_request_header(req, "If-None-Match");
	const struct page_file *f = page_files;
	struct evbuffer *body;
	char tag[32];

	while (f->path != NULL && strcmp(f->path, wanted) != 0)
		f++;
	if (f->path == NULL) {
		http_request_error(req, 404, "not_found", "this pgmqd was built without that file");
		return;
	}
	snprintf(tag, sizeof tag, "\"%s\"", f->tag);
	http_request_add_header(req, "ETag", tag);
	http_request_add_header(req, "Cache-Control", "no-cache");
	http_request_add_header(req, "Referrer-Policy", "no-referrer");
	http_request_add_header(req, "Content-Security-Policy",
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
		"frame-src 'self';"
		" base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
	body = http_request_buffer();
	if (known != NULL && strcmp(known, tag) == 0) {
		http_request_send(req, 304, f->type, body);
		return;
	}
	evbuffer_add(body, f->data, f->size);
	http_request_send(req, 200, f->type, body);
}
