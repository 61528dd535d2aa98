/* conn.c: what keeps one client's connection within bounds, before evhttp sees anything of it.
 *
 * A filter between the socket and evhttp: it hands a request's header on when all of it is there and is what a header
 * should be, then as much of a body as was announced. What is too long, too slow or ambiguous is refused here, in the
 * shape that all errors have, without reading it; evhttp 2.1 would answer with pages of its own, keep a client that
 * sends a byte now and then for ever, and believe both of two contradictory lengths.
 */
#include "config.h"

#include "http/conn.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "process/proc.h"

#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define HTTPCONN_HEAD_MAX 16384
#define HTTPCONN_BODY_MAX (1024 * 1024)
#define HTTPCONN_REQUEST_S 10   /* from a request's first byte to its last */
#define HTTPCONN_READ_MAX 65536 /* held, and not handed on yet */
#define HTTPCONN_LINGER_S 1     /* for the client to read why it was refused */
#define HTTPCONN_DRAIN_MAX                                                                                             \
	(1024 * 1024) /* of what a refused client goes on sending; a close with more unread may lose the answer */

enum httpconn_phase { HTTPCONN_HEAD, HTTPCONN_BODY, HTTPCONN_ANSWERING, HTTPCONN_REFUSED };

struct httpconn {
	LIST_ENTRY(httpconn) link;
	struct httpconns *all;
	struct bufferevent *raw, *bev; /* the socket's, and the filter that evhttp has */
	struct event *timer, *resume, *writable;
	bool broken; /* the socket takes no more for good */
	enum httpconn_phase phase;
	bool begun;  /* something of a request is there */
	size_t left; /* of the body */
	size_t drained;
};

struct httpconns {
	struct event_base *base;
	LIST_HEAD(, httpconn) list;
	size_t n;
	void (*full)(void *arg), (*room)(void *arg);
	void *arg;
};

/* What the header of a request says that matters here. */
struct httpconn_head {
	const char *text;
	size_t body;
	size_t expect, expect_len; /* where the line Expect is; 0: there is none */
	int status;                /* 0, or with which it is refused */
	const char *code, *message;
};

struct httpconns *httpconns_new(struct event_base *base, void (*full)(void *arg), void (*room)(void *arg), void *arg)
{
	struct httpconns *all = xcalloc(1, sizeof(*all));

	all->base = base;
	LIST_INIT(&all->list);
	all->full = full;
	all->room = room;
	all->arg = arg;
	return all;
}

void httpconns_free(struct httpconns *all)
{
	free(all);
}

/* Arms the timer. */
static void httpconn_timer(struct httpconn *c, int seconds)
{
	struct timeval tv = { .tv_sec = seconds };

	evtimer_add(c->timer, &tv);
}

/* Answers without evhttp; the connection is closed a moment later. */
static void httpconn_refuse(struct httpconn *c, int status, const char *code, const char *message)
{
	evutil_socket_t fd = bufferevent_getfd(c->raw);
	char *body = xasprintf("{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n", code, message), *text;

	text = xasprintf("HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nCache-Control: "
			 "no-store\r\nX-Content-Type-Options: nosniff\r\n"
			 "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
		status, strlen(body), body);
	(void)send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT); /* nothing is before it, so there is room */
	(void)shutdown(fd, SHUT_WR);
	free(body);
	free(text);
	c->phase = HTTPCONN_REFUSED;
	httpconn_timer(c, HTTPCONN_LINGER_S);
}

/* The time is over: for a request to come, or for its refusal to be read. */
static void httpconn_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct httpconn *c = arg;

	(void)fd, (void)what;
	if (c->phase != HTTPCONN_REFUSED)
		httpconn_refuse(c, 408, "too_slow", "the request did not arrive in time");
	else
		bufferevent_trigger_event(c->bev, BEV_EVENT_READING | BEV_EVENT_EOF, 0); /* evhttp closes it */
}

/* An answer was sent: there may be another request behind the one that it was for. */
static void httpconn_resume(evutil_socket_t fd, short what, void *arg)
{
	struct httpconn *c = arg;

	(void)fd, (void)what;
	if (evbuffer_get_length(bufferevent_get_input(c->raw)) > 0)
		bufferevent_trigger(c->raw, EV_READ, BEV_TRIG_IGNORE_WATERMARKS);
}

/* Sets a refusal, unless there is one. */
static void head_refuse(struct httpconn_head *h, int status, const char *code, const char *message)
{
	if (h->status == 0) {
		h->status = status;
		h->code = code;
		h->message = message;
	}
}

/* Looks at METHOD TARGET HTTP/1.x. */
static void head_first_line(struct httpconn_head *h, const char *line, size_t len)
{
	static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT",
		"PATCH" };
	const char *target = memchr(line, ' ', len),
		   *version = target != NULL ? memchr(target + 1, ' ', len - (size_t)(target + 1 - line)) : NULL;
	struct evhttp_uri *uri;
	char *text;
	bool known = false;

	if (version == NULL || len - (size_t)(version - line) != 9 || strncmp(version, " HTTP/1.", 8) != 0 ||
		(version[8] != '0' && version[8] != '1')) {
		head_refuse(h, 400, "bad_request", "this is no request of HTTP/1.1");
		return;
	}
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		known = known || (strlen(methods[i]) == (size_t)(target - line) &&
					 memcmp(methods[i], line, strlen(methods[i])) == 0);
	if (!known)
		head_refuse(h, 501, "unknown_method", "there is no such method");
	text = xasprintf("%.*s", (int)(version - target - 1), target + 1);
	uri = *text == '/' ? evhttp_uri_parse_with_flags(text, EVHTTP_URI_NONCONFORMANT) : NULL;
	if (uri == NULL)
		head_refuse(h, 400, "bad_request", "the target of the request is no path");
	else
		evhttp_uri_free(uri);
	free(text);
}

/* Looks at NAME: VALUE. */
static void head_line(struct httpconn_head *h, const char *line, size_t len, bool *has_length)
{
	const char *colon = memchr(line, ':', len), *value, *end = line + len;
	size_t name = colon != NULL ? (size_t)(colon - line) : 0, n = 0;

	if (name == 0 || memchr(line, ' ', name) != NULL ||
		memchr(line, '\t', name) != NULL) { /* also one that goes on from the line above */
		head_refuse(h, 400, "bad_header", "a line of the header is no name and value");
		return;
	}
	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t');)
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (name == 17 && strncasecmp(line, "Transfer-Encoding", name) == 0)
		head_refuse(h, 411, "length_required", "say how long the body is, by Content-Length");
	if (name == 6 && strncasecmp(line, "Expect", name) == 0 && h->expect == 0) {
		h->expect = (size_t)(line - h->text);
		h->expect_len = len + (line[len] == '\r') + 1;
	}
	if (name != 14 || strncasecmp(line, "Content-Length", name) != 0)
		return;
	if (*has_length || value == end || end - value > 18)
		head_refuse(h, 400, "bad_length", "Content-Length is no number, or stands there twice");
	for (; value < end; value++) {
		if (!isdigit((unsigned char)*value)) {
			head_refuse(h, 400, "bad_length", "Content-Length is no number, or stands there twice");
			break;
		}
		n = n * 10 + (size_t)(*value - '0');
	}
	*has_length = true;
	h->body = n;
	if (n > HTTPCONN_BODY_MAX)
		head_refuse(h, 413, "too_large", "a body may be 1 MiB at most");
}

/* Looks at a whole header. */
static void head_parse(struct httpconn_head *h, const char *text, size_t len)
{
	const char *end = text + len, *eol;
	bool first = true, has_length = false;

	memset(h, 0, sizeof *h);
	h->text = text;
	if (memchr(text, '\0', len) != NULL)
		head_refuse(h, 400, "bad_header", "there is a NUL in the header");
	for (; h->status == 0 && text < end && (eol = memchr(text, '\n', (size_t)(end - text))) != NULL;
		text = eol + 1) {
		size_t n = (size_t)(eol - text) - (eol > text && eol[-1] == '\r');

		if (n == 0)
			break;
		if (first)
			head_first_line(h, text, n);
		else
			head_line(h, text, n, &has_length);
		first = false;
	}
}

/* The length of the header, its blank line with it; 0 when not all of it is there. */
static size_t httpconn_head_length(struct evbuffer *in)
{
	struct evbuffer_ptr at, eol;
	size_t len;

	evbuffer_ptr_set(in, &at, 0, EVBUFFER_PTR_SET);
	while ((eol = evbuffer_search_eol(in, &at, &len, EVBUFFER_EOL_CRLF)).pos != -1) {
		if (eol.pos == at.pos)
			return (size_t)eol.pos + len;
		if (evbuffer_ptr_set(in, &eol, len, EVBUFFER_PTR_ADD) == -1)
			return 0;
		at = eol;
		if ((size_t)at.pos > HTTPCONN_HEAD_MAX)
			return 0;
	}
	return 0;
}

/* Takes a header on its way, if it is complete. False: nothing to do for now. */
static bool httpconn_head(struct httpconn *c, struct evbuffer *in, struct evbuffer *out)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct httpconn_head h;
	size_t n;

	while (evbuffer_get_length(in) >= 2 && memcmp(evbuffer_pullup(in, 2), "\r\n", 2) == 0)
		evbuffer_drain(in, 2); /* blank lines between requests do not count */
	if (evbuffer_get_length(in) == 0)
		return false;
	if (!c->begun)
		httpconn_timer(c, HTTPCONN_REQUEST_S);
	c->begun = true;
	n = httpconn_head_length(in);
	if (n > HTTPCONN_HEAD_MAX || (n == 0 && evbuffer_get_length(in) > HTTPCONN_HEAD_MAX)) {
		httpconn_refuse(c, 431, "header_too_large", "a header may be 16 KiB at most");
		return false;
	}
	if (n == 0)
		return false;
	head_parse(&h, (const char *)evbuffer_pullup(in, (ev_ssize_t)n), n);
	if (h.status != 0) {
		httpconn_refuse(c, h.status, h.code, h.message);
		return false;
	}
	if (h.expect != 0) { /* answered here: evhttp's own answer would wait in the filter */
		if (evbuffer_get_length(in) < n + h.body)
			(void)send(bufferevent_getfd(c->raw), go_on, sizeof go_on - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		evbuffer_remove_buffer(in, out, h.expect);
		evbuffer_drain(in, h.expect_len);
		n -= h.expect + h.expect_len;
	}
	evbuffer_remove_buffer(in, out, n);
	c->left = h.body;
	c->phase = HTTPCONN_BODY;
	return true;
}

/* The filter of what comes from the client. */
static enum bufferevent_filter_result httpconn_input(
	struct evbuffer *in, struct evbuffer *out, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg)
{
	struct httpconn *c = arg;
	bool moved = false;
	size_t n;

	(void)limit, (void)mode;
	if (c->phase == HTTPCONN_HEAD && httpconn_head(c, in, out))
		moved = true;
	if (c->phase == HTTPCONN_BODY) {
		n = evbuffer_get_length(in) < c->left ? evbuffer_get_length(in) : c->left;
		evbuffer_remove_buffer(in, out, n);
		moved = moved || n > 0;
		c->left -= n;
		if (c->left == 0) { /* one request at a time, so that no refusal comes before an answer */
			c->phase = HTTPCONN_ANSWERING;
			c->begun = false;
			evtimer_del(c->timer);
		}
	}
	if (c->phase == HTTPCONN_REFUSED) {
		c->drained += evbuffer_get_length(in);
		evbuffer_drain(in, evbuffer_get_length(in));
		if (c->drained > HTTPCONN_DRAIN_MAX)
			bufferevent_disable(c->raw, EV_READ);
	}
	return moved ? BEV_OK : BEV_NEED_MORE;
}

/* The socket takes more. */
static void httpconn_writable(evutil_socket_t fd, short what, void *arg)
{
	struct httpconn *c = arg;

	(void)fd, (void)what;
	if (c->broken)
		bufferevent_trigger_event(c->bev, BEV_EVENT_WRITING | BEV_EVENT_ERROR, 0);
	else
		bufferevent_flush(c->bev, EV_WRITE, BEV_NORMAL);
}

/* The filter of what goes to the client: straight into the socket. As soon as nothing is left here evhttp may close the
 * connection, and what waited in the socket's bufferevent would be lost. */
static enum bufferevent_filter_result httpconn_output(
	struct evbuffer *in, struct evbuffer *out, ev_ssize_t limit, enum bufferevent_flush_mode mode, void *arg)
{
	struct httpconn *c = arg;
	evutil_socket_t fd = bufferevent_getfd(c->raw);

	(void)out, (void)limit, (void)mode;
	while (!c->broken && evbuffer_get_length(in) > 0 && evbuffer_write(in, fd) > 0)
		continue;
	if (evbuffer_get_length(in) == 0)
		return BEV_OK;
	if (c->writable == NULL)
		c->writable = event_new(c->all->base, fd, EV_WRITE, httpconn_writable, c);
	if (c->writable == NULL)
		return BEV_ERROR;
	if (!c->broken && errno != EAGAIN && errno != EINTR) {
		c->broken = true; /* told from the loop: whoever is writing now does not expect his connection to go */
		event_active(c->writable, EV_WRITE, 0);
	} else if (!c->broken) {
		event_add(c->writable, NULL);
	}
	return BEV_NEED_MORE;
}

void httpconn_flush(struct evhttp_connection *conn)
{
	bufferevent_flush(evhttp_connection_get_bufferevent(conn), EV_WRITE, BEV_NORMAL);
}

/* The connection is gone. */
static void httpconn_free(void *arg)
{
	struct httpconn *c = arg;
	struct httpconns *all = c->all;

	LIST_REMOVE(c, link);
	event_free(c->timer);
	event_free(c->resume);
	if (c->writable != NULL)
		event_free(c->writable);
	free(c);
	if (all->n-- == HTTPCONN_MAX)
		all->room(all->arg);
}

struct bufferevent *httpconn_new(struct httpconns *all)
{
	struct httpconn *c = xcalloc(1, sizeof(*c));

	c->all = all;
	c->timer = evtimer_new(all->base, httpconn_timeout, c);
	c->resume = event_new(all->base, -1, 0, httpconn_resume, c);
	c->raw = bufferevent_socket_new(all->base, -1, BEV_OPT_CLOSE_ON_FREE);
	c->bev = c->raw != NULL ? bufferevent_filter_new(c->raw, httpconn_input, httpconn_output, BEV_OPT_CLOSE_ON_FREE,
					  httpconn_free, c)
	                        : NULL;
	if (c->timer == NULL || c->resume == NULL || c->bev == NULL) {
		log_error("out of memory");
		exit(PROC_EXIT_RESTART);
	}
	bufferevent_setwatermark(
		c->raw, EV_READ, 0, HTTPCONN_READ_MAX); /* what comes during an answer waits in the kernel */
	LIST_INSERT_HEAD(&all->list, c, link);
	if (++all->n == HTTPCONN_MAX)
		all->full(all->arg);
	return c->bev;
}

/* A request was answered, and its connection stays. */
static void httpconn_answered(struct evhttp_request *req, void *arg)
{
	struct httpconns *all = arg;
	struct evhttp_connection *conn = evhttp_request_get_connection(req);
	struct bufferevent *bev = conn != NULL ? evhttp_connection_get_bufferevent(conn) : NULL;
	struct httpconn *c;

	LIST_FOREACH(c, &all->list, link)
	if (c->bev == bev && c->phase == HTTPCONN_ANSWERING) {
		c->phase = HTTPCONN_HEAD;
		event_active(c->resume, 0, 0);
	}
}

void httpconn_request(struct httpconns *all, struct evhttp_request *req)
{
	evhttp_request_set_on_complete_cb(req, httpconn_answered, all);
}
