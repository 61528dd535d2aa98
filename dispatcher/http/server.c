/* server.c: the HTTP server: accepts clients, and leads each request to its route. */
#include "config.h"

#include "http/server.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "http/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HTTP_SERVER_PAUSE_MS 200 /* before it accepts again when the machine has no descriptor left */

struct http_server {
	struct http_server_config config;
	struct http_access access;
	struct evconnlistener *listener;
	struct event *again;
	struct http_conns *conns;
};

/* Finds the route of a request, and refuses it when there is none or it may not be used. */
static void http_server_examine(struct http_server *s, struct http_request *r)
{
	const struct http_route *first = http_route_find(s->config.routes, r);
	char allow[64];

	if (first == NULL || !(first->flags & (HTTP_ROUTE_PROBE | HTTP_ROUTE_PUBLIC)))
		http_access_host(&s->access, r);
	if (first == NULL) {
		http_request_refuse(r, 404, "not_found", "there is nothing here; /api/openapi.json says what there is");
		return;
	}
	r->route = http_route_method(s->config.routes, first->pattern, r->head.method, allow, sizeof allow);
	if (r->route != NULL) {
		http_access_route(&s->access, r);
		return;
	}
	if (r->refusal == 0)
		http_request_add_header(r, "Allow", allow);
	http_request_refuse(r, 405, "method_not_allowed", "only %s is answered here", allow);
}

/* A head has come. The body of a refused request is read and dropped, so that the connection can stay open. */
static void http_server_head(void *arg, struct http_conn *c, struct http_head *head)
{
	struct http_server *s = arg;
	struct http_request *r = http_request_new(c, head, s->config.context);
	size_t max;

	http_server_examine(s, r);
	max = r->route != NULL && r->route->body_max > 0 ? r->route->body_max : HTTP_HEAD_BODY_MAX;
	if (r->refusal == 0 && r->head.body > max) {
		http_request_error(r, 413, "too_large", "a body may be %zu bytes at most here", max);
		return;
	}
	http_conn_begin(c, r, r->refusal == 0 ? max : 0);
}

/* All of a request has come. */
static void http_server_body(void *request, char *body, size_t len)
{
	struct http_request *r = request;

	http_request_take_body(r, body, len);
	r->handled = true;
	if (r->refusal != 0)
		http_request_error(r, r->refusal, r->refusal_code, "%s", r->refusal_message);
	else
		r->route->answer(r);
}

/* Names a client: what is the same for two connections is one client. */
static void http_server_peer(evutil_socket_t fd, const struct sockaddr *sa, char peer[HTTP_CONN_PEER_SIZE])
{
	char address[INET6_ADDRSTRLEN] = "";
	struct ucred user;
	socklen_t len = sizeof user;

	if (sa->sa_family == AF_INET) {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, address, sizeof address);
	} else if (sa->sa_family == AF_INET6) {
		struct in6_addr net = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;

		if (!IN6_IS_ADDR_V4MAPPED(&net))
			memset(net.s6_addr + 8, 0, 8); /* one client may have a whole /64 */
		inet_ntop(AF_INET6, &net, address, sizeof address);
	} else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &len) == 0) {
		snprintf(address, sizeof address, "user %lu", (unsigned long)user.uid);
	}
	snprintf(peer, HTTP_CONN_PEER_SIZE, "%s", address);
}

/* A client has come. */
static void http_server_accept(
	struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *sa, int len, void *arg)
{
	struct http_server *s = arg;
	char peer[HTTP_CONN_PEER_SIZE];

	(void)listener, (void)len;
	http_server_peer(fd, sa, peer);
	http_conn_accept(s->conns, fd, peer);
}

/* A client could not be accepted: the next try is later, so that the loop does not spin. */
static void http_server_accept_failed(struct evconnlistener *listener, void *arg)
{
	struct http_server *s = arg;

	log_warn("cannot accept an HTTP client: %s", strerror(errno));
	evconnlistener_disable(listener);
	loop_timer(s->again, HTTP_SERVER_PAUSE_MS);
}

/* Accepts again. */
static void http_server_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct http_server *s = arg;

	(void)fd, (void)what;
	evconnlistener_enable(s->listener);
}

struct http_server *http_server_new(struct event_base *base, const struct http_server_config *config)
{
	static const struct http_conn_events events = { http_server_head, http_server_body, http_request_half_closed,
		http_request_gone };
	struct http_server *s = xcalloc(1, sizeof *s);

	s->config = *config;
	s->access.people = config->people;
	s->access.other_names = config->other_names;
	s->access.leaves_open = config->leaves_open;
	s->access.host = config->listen->path[0] == '\0' ? config->listen->host : NULL;
	s->access.guests = config->guests;
	s->conns = http_conns_new(base, &events, s);
	s->again = loop_timer_new(base, http_server_accept_again, s);
	s->listener = evconnlistener_new(
		base, http_server_accept, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, config->listen->fd);
	if (s->listener == NULL) {
		http_server_free(s);
		return NULL;
	}
	evconnlistener_set_error_cb(s->listener, http_server_accept_failed);
	return s;
}

void http_server_free(struct http_server *s)
{
	if (s == NULL)
		return;
	if (s->listener != NULL)
		evconnlistener_free(s->listener);
	if (s->again != NULL)
		event_free(s->again);
	http_conns_free(s->conns);
	free(s);
}
