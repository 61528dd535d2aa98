/* stub_http.c: the stub as an HTTP/1.1 server: records each request whole, then answers it. */
#include "config.h"

#include "cmd/replay/stub_private.h"

#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DEFAULT_BODY "{\"id\":\"replay\"}"

/* The value of a header of the head, malloc'd, or NULL. */
static char *header(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':') {
			line += len + 1;
			line += strspn(line, " \t");
			return xstrndup(line, strcspn(line, "\r"));
		}
	}
	return NULL;
}

/* Takes a chunked body apart. True when it is complete; `used` is then its length on the wire. */
static bool dechunk(const char *data, size_t len, struct bytes *body, size_t *used)
{
	const char *p = data, *end = data + len, *line;

	while ((line = memmem(p, (size_t)(end - p), "\r\n", 2)) != NULL) {
		size_t size = strtoul(p, NULL, 16);

		p = line + 2;
		if (size == 0) {
			if ((line = memmem(p, (size_t)(end - p), "\r\n", 2)) == NULL)
				return false;
			*used = (size_t)(line + 2 - data);
			return true;
		}
		if ((size_t)(end - p) < size + 2)
			return false;
		bytes_add(body, p, size);
		p += size + 2;
	}
	return false;
}

/* The body of a request whose head ends at `at`. True when it is complete. */
static bool take_body(struct stub_conn *c, const char *head, size_t at, struct bytes *body, size_t *used)
{
	char *coding = header(head, "Transfer-Encoding"), *length = header(head, "Content-Length");
	size_t len = length ? strtoul(length, NULL, 10) : 0;
	bool complete;

	bytes_add(body, "", 0);
	if (coding && strcasestr(coding, "chunked")) {
		complete = dechunk(c->in.data + at, c->in.len - at, body, used);
	} else {
		complete = c->in.len - at >= len;
		*used = len;
		if (complete)
			bytes_add(body, c->in.data + at, len);
	}
	free(coding);
	free(length);
	return complete;
}

/* The headers as lines, without what is libcurl's own affair. */
static cJSON *header_lines(const char *head)
{
	static const char *const own[] = { "Host:", "Accept:", "Content-Length:", "Expect:", "Transfer-Encoding:" };
	cJSON *lines = cJSON_CreateArray();

	for (const char *line = strstr(head, "\r\n"); line && line[2]; line = strstr(line + 2, "\r\n")) {
		char *text = xstrndup(line + 2, strcspn(line + 2, "\r"));
		bool skip = !*text;

		for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
			skip = skip || strncasecmp(text, own[i], strlen(own[i])) == 0;
		if (!skip)
			cJSON_AddItemToArray(lines, cJSON_CreateString(text));
		free(text);
	}
	return lines;
}

/* Records a request. */
static void record(struct stub_conn *c, const char *method, const char *url, const char *head, const struct bytes *body)
{
	cJSON *e = cJSON_CreateObject(), *text;
	bool is_text;

	cJSON_AddStringToObject(e, "kind", "http");
	cJSON_AddStringToObject(e, "method", method);
	cJSON_AddStringToObject(e, "url", url);
	cJSON_AddItemToObject(e, "headers", header_lines(head));
	if (body->len) {
		text = stub_text(body->data, body->len, &is_text);
		cJSON_AddItemToObject(e, is_text ? "body" : "body_base64", text);
	}
	stub_effect(c, e);
}

/* Answers a request as the answers say. */
static void answer(struct stub_conn *c, const char *method, const char *url)
{
	char *request = xasprintf("%s %s", method, url), *body;
	const cJSON *a = stub_answer(c, "url", request), *status = cJSON_GetObjectItemCaseSensitive(a, "status"),
		    *given = cJSON_GetObjectItemCaseSensitive(a, "body"),
		    *headers = cJSON_GetObjectItemCaseSensitive(a, "headers"), *h;

	body = !given ? xstrdup(DEFAULT_BODY)
	              : (cJSON_IsString(given) ? xstrdup(given->valuestring) : cJSON_PrintUnformatted(given));
	free(request);
	if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(a, "hang_up"))) {
		c->closing = true;
	} else {
		stub_say(c, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n",
			cJSON_IsNumber(status) ? status->valueint : 200, "Recorded",
			strcmp(method, "HEAD") == 0 ? 0 : strlen(body));
		cJSON_ArrayForEach(h, headers) if (cJSON_IsString(h))
			stub_say(c, "%s: %s\r\n", h->string, h->valuestring);
		stub_say(c, "\r\n%s", strcmp(method, "HEAD") == 0 ? "" : body);
	}
	free(body);
}

/* Serves one request, if it is there as a whole. */
static bool serve(struct stub_conn *c)
{
	char *end = c->in.len ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL, *head, *host, *expect, *url;
	char method[16] = "", path[16384] = "";
	struct bytes body = { 0 };
	size_t at, used = 0;
	bool complete;

	if (!end)
		return false;
	at = (size_t)(end + 4 - c->in.data);
	head = xstrndup(c->in.data, at - 2);
	complete = take_body(c, head, at, &body, &used);
	expect = complete ? NULL : header(head, "Expect");
	if (expect && c->in.len == at)
		stub_say(c, "HTTP/1.1 100 Continue\r\n\r\n");
	free(expect);
	if (complete) {
		host = header(head, "Host");
		(void)sscanf(head, "%15s %16383s", method, path);
		url = path[0] == '/' ? xasprintf("%s://%s%s", c->scheme, host ? host : "", path) : xstrdup(path);
		record(c, method, url, head, &body);
		answer(c, method, url);
		bytes_drop(&c->in, at + used);
		free(url);
		free(host);
	}
	bytes_free(&body);
	free(head);
	return complete;
}

void stub_http_feed(struct stub_conn *c)
{
	while (!c->closing && serve(c))
		;
}
