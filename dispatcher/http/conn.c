/* conn.c: the connections of the clients: read a request, have it answered, read the next; each within its bounds.
 *
 * Each connection has one owner, this file, and one request at a time: the next one is read when the answer to the one
 * before has left. This file refuses what is too long, too slow or ambiguous. Each client has a
 * limited number of connections; when they are used up, the one that can best be spared is closed for the newest.
 */
#include "config.h"

#include "http/conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"

#include <event2/bufferevent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define HTTP_CONN_REQUEST_MS 10000 /* from a request's first byte to its last; and how long a connection may idle */
#define HTTP_CONN_SEND_S 30        /* an answer that the client does not read for so long is given up */
#define HTTP_CONN_LINGER_MS 1000   /* for the client to read the last answer */
#define HTTP_CONN_READ_MAX 65536   /* held, and not looked at yet; more waits in the kernel */
#define HTTP_CONN_DRAIN_MAX (1024 * 1024) /* of what a client goes on sending behind the last answer */

/* In the order in which connections are given up for new ones. */
enum http_conn_phase {
	HTTP_CONN_CLOSING,   /* the last answer was sent */
	HTTP_CONN_IDLE,      /* nothing of a request has come */
	HTTP_CONN_HEAD,      /* some of a head */
	HTTP_CONN_BODY,      /* some of a body */
	HTTP_CONN_SENDING,   /* an answer that the client has not read yet */
	HTTP_CONN_ANSWERING, /* the request is with its handler */
};

struct http_conn {
	LIST_ENTRY(http_conn) link;
	struct http_conns *all;
	struct bufferevent *bev;
	struct event *timer;
	enum http_conn_phase phase;
	int64_t since_ms; /* when the phase began */
	char peer[HTTP_CONN_PEER_SIZE];
	void *request;         /* that is being read or answered; NULL: none */
	char *body;            /* NULL: it is not kept */
	size_t body_len, left; /* that have come, and that are still to come */
	bool keep;             /* the connection stays open behind the answer */
	bool half_closed;      /* the client sends no more */
	size_t drained;
};

struct http_conns {
	struct event_base *base;
	LIST_HEAD(, http_conn) list;
	size_t n;
	const struct http_conn_events *events;
	void *arg;
};

struct http_conns *http_conns_new(struct event_base *base, const struct http_conn_events *events, void *arg)
{
	struct http_conns *all = xcalloc(1, sizeof *all);

	all->base = base;
	LIST_INIT(&all->list);
	all->events = events;
	all->arg = arg;
	return all;
}

size_t http_conns_count(const struct http_conns *all)
{
	return all->n;
}

/* Goes over to another phase. */
static void http_conn_phase(struct http_conn *c, enum http_conn_phase phase)
{
	c->phase = phase;
	c->since_ms = clock_monotonic_ms();
}

/* Closes and frees a connection; its request learns that the client is gone. */
static void http_conn_free(struct http_conn *c)
{
	struct http_conns *all = c->all;
	void *request = c->request;

	LIST_REMOVE(c, link);
	all->n--;
	event_free(c->timer);
	bufferevent_free(c->bev);
	free(c->body);
	free(c);
	if (request != NULL)
		all->events->gone(request);
}

void http_conns_free(struct http_conns *all)
{
	struct http_conn *c;

	if (all == NULL)
		return;
	while ((c = LIST_FIRST(&all->list)) != NULL)
		http_conn_free(c);
	free(all);
}

/* Answers without a request of the layers above; the connection closes behind it. */
static void http_conn_refuse(struct http_conn *c, int status, const char *code, const char *message)
{
	char *body = xasprintf("{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n", code, message);
	char *text = xasprintf("HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
			       "X-Content-Type-Options: nosniff\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		status, strlen(body), body);

	c->keep = false;
	http_conn_write(c, text, strlen(text));
	http_conn_end(c);
	free(body);
	free(text);
}

static void http_conn_read(struct http_conn *c);

/* Sends the end of the connection, and reads on for a moment: closing with unread bytes would lose the answer. */
static void http_conn_linger(struct http_conn *c)
{
	if (c->half_closed) {
		http_conn_free(c);
		return;
	}
	(void)shutdown(bufferevent_getfd(c->bev), SHUT_WR);
	http_conn_phase(c, HTTP_CONN_CLOSING);
	loop_timer(c->timer, HTTP_CONN_LINGER_MS);
	http_conn_read(c);
}

/* Reads the head of a request, if all of it is there. False: there is nothing to do for now. */
static bool http_conn_read_head(struct http_conn *c, struct evbuffer *in)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct http_head head;
	const char *text;
	size_t len, n;

	while (evbuffer_get_length(in) >= 2 && memcmp(evbuffer_pullup(in, 2), "\r\n", 2) == 0)
		evbuffer_drain(in, 2); /* blank lines between requests do not count */
	len = evbuffer_get_length(in);
	if (len == 0)
		return false;
	if (c->phase == HTTP_CONN_IDLE) {
		http_conn_phase(c, HTTP_CONN_HEAD);
		loop_timer(c->timer, HTTP_CONN_REQUEST_MS);
	}
	if (len > HTTP_HEAD_MAX)
		len = HTTP_HEAD_MAX;
	text = (const char *)evbuffer_pullup(in, (ev_ssize_t)len);
	n = http_head_length(text, len);
	if (n == 0) {
		if (len == HTTP_HEAD_MAX)
			http_conn_refuse(c, 431, "header_too_large", "a head may be 16 KiB at most");
		return false;
	}
	http_head_parse(&head, text, n);
	evbuffer_drain(in, n);
	c->left = head.body;
	if (head.status != 0) {
		http_conn_refuse(c, head.status, head.code, head.message);
		http_head_free(&head);
		return false;
	}
	c->keep = head.keep_alive;
	http_conn_phase(c, HTTP_CONN_BODY);
	bool asks = head.expects && evbuffer_get_length(in) < c->left;

	c->all->events->head(c->all->arg, c, &head);
	if (c->phase == HTTP_CONN_BODY && asks)
		http_conn_write(c, go_on, sizeof go_on - 1);
	return c->phase == HTTP_CONN_BODY;
}

/* Takes what has come of a body, and hands the request on when all of it is there. */
static void http_conn_read_body(struct http_conn *c, struct evbuffer *in)
{
	size_t n = evbuffer_get_length(in) < c->left ? evbuffer_get_length(in) : c->left;
	char *body;

	if (c->body != NULL)
		evbuffer_remove(in, c->body + c->body_len, n);
	else
		evbuffer_drain(in, n);
	c->body_len += n;
	c->left -= n;
	if (c->left > 0)
		return;
	evtimer_del(c->timer);
	http_conn_phase(c, HTTP_CONN_ANSWERING);
	body = c->body;
	c->body = NULL;
	if (body != NULL)
		body[c->body_len] = '\0';
	c->all->events->body(c->request, body, c->body_len);
}

/* Looks at what the client has sent. */
static void http_conn_read(struct http_conn *c)
{
	struct evbuffer *in = bufferevent_get_input(c->bev);

	if (c->phase == HTTP_CONN_CLOSING) {
		c->drained += evbuffer_get_length(in);
		evbuffer_drain(in, evbuffer_get_length(in));
		if (c->drained > HTTP_CONN_DRAIN_MAX)
			http_conn_free(c);
		return;
	}
	if (c->phase == HTTP_CONN_IDLE || c->phase == HTTP_CONN_HEAD)
		http_conn_read_head(c, in);
	if (c->phase == HTTP_CONN_BODY)
		http_conn_read_body(c, in);
	else if ((c->phase == HTTP_CONN_IDLE || c->phase == HTTP_CONN_HEAD) && c->half_closed)
		http_conn_free(c); /* no whole request will come any more */
}

/* libevent: there is something to read. */
static void http_conn_readable(struct bufferevent *bev, void *arg)
{
	(void)bev;
	http_conn_read(arg);
}

/* libevent: all that was to be sent has left. */
static void http_conn_drained(struct bufferevent *bev, void *arg)
{
	struct http_conn *c = arg;

	if (c->phase != HTTP_CONN_SENDING || evbuffer_get_length(bufferevent_get_output(bev)) > 0)
		return;
	if (!c->keep) {
		http_conn_linger(c);
		return;
	}
	http_conn_phase(c, HTTP_CONN_IDLE);
	loop_timer(c->timer, HTTP_CONN_REQUEST_MS);
	http_conn_read(c); /* the next request may be there already */
}

/* libevent: the client has sent its last byte, is gone, or does not read. */
static void http_conn_event(struct bufferevent *bev, short what, void *arg)
{
	struct http_conn *c = arg;

	if (!(what & BEV_EVENT_EOF) || c->phase <= HTTP_CONN_BODY) {
		http_conn_free(c);
		return;
	}
	c->half_closed = true;
	bufferevent_disable(bev, EV_READ);
	if (c->request != NULL)
		c->all->events->half_closed(c->request);
}

/* The time for a request to come, or for the last answer to be read, is over. */
static void http_conn_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct http_conn *c = arg;

	(void)fd, (void)what;
	if (c->phase == HTTP_CONN_HEAD || c->phase == HTTP_CONN_BODY) {
		void *request = c->request;

		c->request = NULL;
		http_conn_refuse(c, 408, "too_slow", "the request did not arrive in time");
		if (request != NULL)
			c->all->events->gone(request);
	} else {
		http_conn_free(c);
	}
}

/* Of two connections, whether the first can better be spared. */
static bool http_conn_is_spare(const struct http_conn *a, const struct http_conn *b)
{
	return a->phase != b->phase ? a->phase < b->phase : a->since_ms < b->since_ms;
}

/* The connections of a client. */
static size_t http_conns_of(const struct http_conns *all, const char *peer)
{
	const struct http_conn *c;
	size_t n = 0;

	LIST_FOREACH(c, &all->list, link)
	n += strcmp(c->peer, peer) == 0;
	return n;
}

/* The client that has most connections. */
static const char *http_conns_busiest(const struct http_conns *all)
{
	const struct http_conn *c;
	const char *busiest = NULL;
	size_t most = 0, n;

	LIST_FOREACH(c, &all->list, link)
	if ((n = http_conns_of(all, c->peer)) > most) {
		most = n;
		busiest = c->peer;
	}
	return busiest;
}

/* Closes the connection of a client that can best be spared. */
static void http_conns_make_room(struct http_conns *all, const char *peer)
{
	struct http_conn *c, *spare = NULL;

	LIST_FOREACH(c, &all->list, link)
	if (strcmp(c->peer, peer) == 0 && (spare == NULL || http_conn_is_spare(c, spare)))
		spare = c;
	if (spare != NULL)
		http_conn_free(spare);
}

void http_conn_accept(struct http_conns *all, evutil_socket_t fd, const char *peer)
{
	static const struct timeval send_time = { .tv_sec = HTTP_CONN_SEND_S };
	struct http_conn *c = xcalloc(1, sizeof *c);

	if (http_conns_of(all, peer) >= HTTP_CONN_CLIENT_MAX)
		http_conns_make_room(all, peer);
	else if (all->n >= HTTP_CONN_MAX)
		http_conns_make_room(all, http_conns_busiest(all));
	c->all = all;
	snprintf(c->peer, sizeof c->peer, "%s", peer);
	c->bev = bufferevent_socket_new(all->base, fd, BEV_OPT_CLOSE_ON_FREE);
	c->timer = loop_timer_new(all->base, http_conn_timeout, c);
	if (c->bev == NULL) {
		log_error("out of memory");
		exit(1);
	}
	LIST_INSERT_HEAD(&all->list, c, link);
	all->n++;
	bufferevent_setcb(c->bev, http_conn_readable, http_conn_drained, http_conn_event, c);
	bufferevent_setwatermark(c->bev, EV_READ, 0, HTTP_CONN_READ_MAX);
	bufferevent_set_timeouts(c->bev, NULL, &send_time);
	http_conn_phase(c, HTTP_CONN_IDLE);
	loop_timer(c->timer, HTTP_CONN_REQUEST_MS);
	bufferevent_enable(c->bev, EV_READ | EV_WRITE);
}

const char *http_conn_peer(const struct http_conn *c)
{
	return c->peer;
}

void http_conn_begin(struct http_conn *c, void *request, size_t body_max)
{
	c->request = request;
	c->body_len = 0;
	if (c->left > 0 && c->left <= body_max)
		c->body = xmalloc(c->left + 1);
}

void http_conn_write(struct http_conn *c, const void *data, size_t len)
{
	bufferevent_write(c->bev, data, len);
}

void http_conn_write_buffer(struct http_conn *c, struct evbuffer *data)
{
	bufferevent_write_buffer(c->bev, data);
}

void http_conn_end(struct http_conn *c)
{
	c->request = NULL;
	if (c->left > 0)
		c->keep = false; /* what is still to come of the body cannot be told from the next request */
	free(c->body);
	c->body = NULL;
	evtimer_del(c->timer);
	http_conn_phase(c, HTTP_CONN_SENDING);
	/* http_conn_drained() goes on, from the loop: the caller may still use the connection */
	if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
		bufferevent_trigger(c->bev, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
}

bool http_conn_keeps(const struct http_conn *c)
{
	return c->keep && c->left == 0;
}

void http_conn_close_after(struct http_conn *c)
{
	c->keep = false;
}

size_t http_conn_unsent(const struct http_conn *c)
{
	return evbuffer_get_length(bufferevent_get_output(c->bev));
}
