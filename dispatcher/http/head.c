/* head.c: the head of a request: its first line and its headers, by the grammar of RFC 9112 and nothing beside it.
 *
 * A bare LF counts as a line end, as the RFC allows, if the head has no other; a bare CR and every other control
 * character are refused. So are a folded line, a blank before a colon, a repeated header that may come once only, two
 * lengths, and a path or query that is not UTF-8: where two programs could read two requests, neither is served.
 */
#include "config.h"

#include "http/head.h"

#include "base/xalloc.h"
#include "http/text.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Headers that have one value: two of them would contradict each other. */
static const char *const http_head_singles[] = { "Access-Control-Request-Method", "Authorization", "Content-Length",
	"Content-Location", "Content-Range", "Content-Type", "Cookie", "Date", "Expect", "From", "Host",
	"HTTP2-Settings", "Idempotency-Key", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since",
	"Last-Event-ID", "Max-Forwards", "MIME-Version", "Origin", "Proxy-Authorization", "Range", "Referer",
	"Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Sec-WebSocket-Key",
	"Sec-WebSocket-Version", "Transfer-Encoding", "Upgrade-Insecure-Requests", "User-Agent" };

static const char *const http_head_methods[HTTP_NMETHODS] = { [HTTP_GET] = "GET",
	[HTTP_HEAD] = "HEAD",
	[HTTP_POST] = "POST",
	[HTTP_PUT] = "PUT",
	[HTTP_DELETE] = "DELETE",
	[HTTP_OPTIONS] = "OPTIONS",
	[HTTP_TRACE] = "TRACE",
	[HTTP_CONNECT] = "CONNECT",
	[HTTP_PATCH] = "PATCH" };

/* Sets a refusal, unless there is one. */
static void http_head_refuse(struct http_head *h, int status, const char *code, const char *message)
{
	if (h->status != 0)
		return;
	h->status = status;
	h->code = code;
	h->message = message;
}

size_t http_head_length(const char *text, size_t len)
{
	const char *line = text, *end = text + len, *eol;

	while ((eol = memchr(line, '\n', (size_t)(end - line))) != NULL) {
		if (eol == line || (eol == line + 1 && *line == '\r'))
			return (size_t)(eol + 1 - text);
		line = eol + 1;
	}
	return 0;
}

/* Whether a character may be in a token: a method, or a header's name. */
static bool http_head_is_token(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Whether the text is a token. */
static bool http_head_all_token(const char *text)
{
	const char *p = text;

	while (http_head_is_token(*p))
		p++;
	return p > text && *p == '\0';
}

/* Whether the text is a host with a port or without: a name, or an address, of IPv6 in brackets. */
static bool http_head_is_host(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%!$&'()*+;=");

	if (*text == '[') {
		n = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.");
		if (n == 1 || text[n++] != ']')
			return false;
	}
	if (n > 0 && text[n] == ':')
		n += 1 + strspn(text + n + 1, "0123456789");
	return n > 0 && text[n] == '\0';
}

/* Takes METHOD TARGET HTTP/1.x apart. */
static void http_head_first_line(struct http_head *h, char *line)
{
	char *target = strchr(line, ' '), *version = target != NULL ? strchr(target + 1, ' ') : NULL, *query;
	int method = 0;

	if (version == NULL || (strcmp(version, " HTTP/1.1") != 0 && strcmp(version, " HTTP/1.0") != 0)) {
		http_head_refuse(h, 400, "bad_request", "this is not a request of HTTP/1.1");
		return;
	}
	*target++ = *version++ = '\0';
	h->old = h->keep_alive = false;
	if (strcmp(version, "HTTP/1.0") == 0)
		h->old = true;
	else
		h->keep_alive = true;
	for (const char *p = target; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~' || strchr("#\\\"<>", *p) != NULL)
			http_head_refuse(h, 400, "bad_request", "the target of the request is not a path");
	if (!http_head_all_token(line))
		http_head_refuse(h, 400, "bad_request", "this is not a request of HTTP/1.1");
	while (method < HTTP_NMETHODS && strcmp(http_head_methods[method], line) != 0)
		method++;
	if (method == HTTP_NMETHODS)
		http_head_refuse(h, 501, "unknown_method", "there is no such method");
	else
		h->method = (enum http_method)method;
	if (*target != '/')
		http_head_refuse(h, 400, "bad_request", "the target of the request is not a path");
	if ((query = strchr(target, '?')) != NULL)
		*query++ = '\0';
	h->path = target;
	h->query = query;
	if (!http_text_is_encoded(h->path, strlen(h->path)) ||
		(query != NULL && !http_text_is_encoded(query, strlen(query))))
		http_head_refuse(h, 400, "bad_request", "the target of the request is not UTF-8, percent-encoded");
}

/* Reads Content-Length. */
static void http_head_take_length(struct http_head *h, const char *value)
{
	size_t digits = strspn(value, "0123456789");

	h->has_length = true;
	if (digits == 0 || digits > 18 || value[digits] != '\0' || (digits > 1 && *value == '0'))
		http_head_refuse(h, 400, "bad_length", "Content-Length is not a number, or is given twice");
	else if ((h->body = (size_t)strtoull(value, NULL, 10)) > HTTP_HEAD_BODY_MAX)
		http_head_refuse(h, 413, "too_large", "a body may be 1 MiB at most");
}

/* Whether a word is in a list separated by commas. */
static bool http_head_lists(const char *list, const char *word)
{
	size_t n, len = strlen(word);

	for (; *list != '\0'; list += n) {
		list += strspn(list, ", \t");
		n = strcspn(list, ", \t");
		if (n == len && strncasecmp(list, word, len) == 0)
			return true;
	}
	return false;
}

/* Acts on a header that says how the request is to be read. */
static void http_head_take_field(struct http_head *h, const char *name, const char *value)
{
	if (strcasecmp(name, "Content-Length") == 0) {
		http_head_take_length(h, value);
	} else if (strcasecmp(name, "Host") == 0) {
		if (!http_head_is_host(value))
			http_head_refuse(h, 400, "bad_header", "Host is not the name of a host");
	} else if (strcasecmp(name, "Expect") == 0) {
		if (strcasecmp(value, "100-continue") != 0)
			http_head_refuse(h, 417, "bad_expectation", "only 100-continue can be expected");
		h->expects = true;
	} else if (strcasecmp(name, "Connection") == 0) {
		if (http_head_lists(value, "close"))
			h->keep_alive = false;
		else if (h->old && http_head_lists(value, "keep-alive"))
			h->keep_alive = true;
	}
}

/* Whether the header is there already, and may not be. */
static bool http_head_is_repeated(const struct http_head *h, const char *name)
{
	bool single = false;

	for (size_t i = 0; i < sizeof http_head_singles / sizeof *http_head_singles; i++)
		single = single || strcasecmp(http_head_singles[i], name) == 0;
	for (size_t i = 0; single && i < h->nfields; i++)
		if (strcasecmp(h->field[i].name, name) == 0)
			return true;
	return false;
}

/* Takes NAME: VALUE apart; a line that goes on from the one above has no name. */
static void http_head_line(struct http_head *h, char *line, size_t len)
{
	char *colon = strchr(line, ':'), *value, *end = line + len;

	if (colon != NULL)
		*colon = '\0';
	if (colon == NULL || !http_head_all_token(line)) {
		http_head_refuse(h, 400, "bad_header", "a line of the head is not a name and a value");
		return;
	}
	value = colon + 1 + strspn(colon + 1, " \t");
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	if (http_head_is_repeated(h, line)) {
		if (strcasecmp(line, "Content-Length") == 0)
			http_head_refuse(h, 400, "bad_length", "Content-Length is not a number, or is given twice");
		http_head_refuse(h, 400, "bad_header", "a header is given twice");
	}
	if (h->nfields == HTTP_HEAD_FIELDS_MAX) {
		http_head_refuse(h, 431, "header_too_large", "a head may have 100 headers at most");
		return;
	}
	h->field[h->nfields].name = line;
	h->field[h->nfields++].value = value;
	http_head_take_field(h, line, value);
}

/* Whether a head has control characters only where a line ends, and ends all its lines alike; a tab may be in a value.
 */
static bool http_head_is_clean(const char *text, size_t len)
{
	const char *first = memchr(text, '\n', len);
	bool crlf = first != NULL && first > text && first[-1] == '\r';

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '\r' ? i + 1 == len || text[i + 1] != '\n' : (c < ' ' && c != '\n' && c != '\t') || c == 0x7f)
			return false;
		if (c == '\n' && (i > 0 && text[i - 1] == '\r') != crlf)
			return false;
	}
	return true;
}

/* Refuses a whole head that lacks a Host, or that does not say by its length alone where the body ends. */
static void http_head_check(struct http_head *h)
{
	const char *coding = http_head_find(h, "Transfer-Encoding");

	if (!h->old && http_head_find(h, "Host") == NULL)
		http_head_refuse(h, 400, "bad_header", "a request of HTTP/1.1 names its Host");
	if (coding != NULL && (h->old || h->has_length || strcasecmp(coding, "chunked") != 0))
		http_head_refuse(h, 400, "bad_header", "Transfer-Encoding leaves open where the body ends");
	else if (coding != NULL)
		http_head_refuse(h, 411, "length_required", "give the length of the body by Content-Length");
}

void http_head_parse(struct http_head *h, const char *text, size_t len)
{
	char *line, *eol, *rest;
	bool first = true;
	size_t n;

	memset(h, 0, sizeof *h);
	h->text = xstrndup(text, len);
	if (!http_head_is_clean(text, len)) {
		http_head_refuse(
			h, 400, "bad_header", "there is a control character in the head, or line ends of two kinds");
		return;
	}
	for (line = h->text; h->status == 0 && (eol = strchr(line, '\n')) != NULL; line = rest, first = false) {
		rest = eol + 1;
		n = (size_t)(eol - line) - (eol > line && eol[-1] == '\r');
		line[n] = '\0';
		if (n == 0)
			break;
		if (first)
			http_head_first_line(h, line);
		else
			http_head_line(h, line, n);
	}
	http_head_check(h);
}

void http_head_free(struct http_head *h)
{
	free(h->text);
	h->text = NULL;
	h->nfields = 0;
}

const char *http_head_find(const struct http_head *h, const char *name)
{
	const char *found = NULL;

	for (size_t i = 0; i < h->nfields; i++)
		if (strcasecmp(h->field[i].name, name) == 0) {
			if (found != NULL)
				return NULL;
			found = h->field[i].value;
		}
	return found;
}

const char *http_head_method_name(enum http_method method)
{
	return http_head_methods[method];
}
