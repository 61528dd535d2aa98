/* control.c: the control process: answers HTTP on health, readiness and metrics out of the shared counters. */
#include "config.h"

#include "httplisten.h"
#include "log.h"
#include "metrics.h"
#include "proc.h"
#include "xalloc.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONTROL_MAX_HEADERS 8192
#define CONTROL_MAX_BODY (1024 * 1024)
#define CONTROL_TIMEOUT_S 5
#define CONTROL_MAX_CONNECTIONS 64
#define CONTROL_BEAT_LIMIT_MS 30000 /* where there is no watchdog */

struct control {
	const struct proc_env *env;
	struct event_base *base;
	struct evhttp *http;
	struct httplisten listen;
	struct evconnlistener *listener;
	struct event *reopen; /* pending while the listener is switched off */
	int base_fd;          /* connections get descriptors from here on */
	int64_t beat_limit_ms;
};

/* One path and what answers it. */
struct control_route {
	const char *path;
	void (*answer)(struct control *c, struct evhttp_request *req);
};

/* Sends an answer; HEAD gets the same header without the body. */
static void control_send(struct evhttp_request *req, int code, const char *type, struct evbuffer *body)
{
	struct evkeyvalq *h = evhttp_request_get_output_headers(req);
	char length[32];

	evhttp_add_header(h, "Content-Type", type);
	evhttp_add_header(h, "Cache-Control", "no-store");
	evhttp_add_header(h, "X-Content-Type-Options", "nosniff");
	if (evhttp_request_get_command(req) == EVHTTP_REQ_HEAD) {
		snprintf(length, sizeof length, "%zu", evbuffer_get_length(body));
		evhttp_add_header(h, "Content-Length", length);
		evbuffer_drain(body, evbuffer_get_length(body));
	}
	evhttp_send_reply(req, code, NULL, body);
	evbuffer_free(body);
}

/* An empty body to be filled. */
static struct evbuffer *control_body(void)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL) {
		log_error("out of memory");
		exit(PROC_EXIT_RESTART);
	}
	return body;
}

/* Sends a JSON object, and frees it. */
static void control_send_json(struct evhttp_request *req, int code, cJSON *json)
{
	struct evbuffer *body = control_body();
	char *text = cJSON_PrintUnformatted(json);

	evbuffer_add_printf(body, "%s\n", text != NULL ? text : "{}");
	cJSON_free(text);
	cJSON_Delete(json);
	control_send(req, code, "application/json", body);
}

/* Sends the one shape that errors have. */
static void control_send_error(struct evhttp_request *req, int http, const char *code, const char *message)
{
	cJSON *json = cJSON_CreateObject(), *error = cJSON_AddObjectToObject(json, "error");

	cJSON_AddStringToObject(error, "code", code);
	cJSON_AddStringToObject(error, "message", message);
	control_send_json(req, http, json);
}

/* "worker email_queue" for people. */
static const char *control_name(const struct stats_slot *s, char *buf, size_t size)
{
	if (atomic_load(&s->role) == ROLE_WORKER)
		snprintf(buf, size, "worker %s", s->process);
	else
		snprintf(buf, size, "%s", s->process);
	return buf;
}

/* Appends "NAME: WHAT", with the newest error of the process behind it where that may explain it. */
static void control_note(cJSON *list, const struct stats_slot *s, const char *what, bool with_error)
{
	char name[128], error[256] = "", *text;

	if (with_error)
		stats_error_read(s, error, sizeof error);
	text = xasprintf("%s: %s%s%s", control_name(s, name, sizeof name), what, *error != '\0' ? ": " : "", error);
	cJSON_AddItemToArray(list, cJSON_CreateString(text));
	free(text);
}

/* Lists what is wrong with the processes in service, and which queues are paused. */
static void control_examine(struct control *c, cJSON *problems, cJSON *paused)
{
	const struct stats *st = c->env->stats;
	const struct stats_slot *s;
	char text[128];
	int role, state;
	size_t i;

	for (i = 0; i < st->nslots; i++) {
		s = &st->slot[i];
		role = atomic_load(&s->role);
		state = atomic_load(&s->state);
		if (role == ROLE_FREE || atomic_load(&s->retired))
			continue;
		if (state == STATE_PAUSED)
			control_note(paused, s, s->queue, true);
		if (!s->lead)
			continue;
		if (atomic_load(&s->pid) == 0) {
			snprintf(text, sizeof text, "not running (%s)", stats_state_name(state));
			control_note(problems, s, text, true);
		} else if (!metrics_process_up(s, c->beat_limit_ms)) {
			snprintf(text, sizeof text, "no sign of life for %lld ms",
				(long long)(stats_now_ms() - atomic_load(&s->beat_ms)));
			control_note(problems, s, text, false);
		} else if ((role == ROLE_WORKER || role == ROLE_LISTENER) &&
			   atomic_load(&s->gauges[GAUGE_CONNECTED]) == 0)
			control_note(problems, s, "not connected to the database", true);
	}
}

/* GET /health: are all processes alive, and connected. A paused queue is told, but is no reason to be restarted for. */
static void control_health(struct control *c, struct evhttp_request *req)
{
	cJSON *json = cJSON_CreateObject(), *problems = cJSON_CreateArray(), *paused = cJSON_CreateArray();
	bool good;

	control_examine(c, problems, paused);
	good = cJSON_GetArraySize(problems) == 0;
	cJSON_AddStringToObject(json, "status", good ? "ok" : "failing");
	if (good)
		cJSON_Delete(problems);
	else
		cJSON_AddItemToObject(json, "problems", problems);
	if (cJSON_GetArraySize(paused) == 0)
		cJSON_Delete(paused);
	else
		cJSON_AddItemToObject(json, "paused", paused);
	control_send_json(req, good ? HTTP_OK : HTTP_SERVUNAVAIL, json);
}

/* GET /ready: has the start come to its end, is every queue served, and is pgmqd not about to leave. */
static void control_ready(struct control *c, struct evhttp_request *req)
{
	const struct stats *st = c->env->stats;
	cJSON *json = cJSON_CreateObject(), *waiting = cJSON_CreateArray();
	const struct stats_slot *s;
	bool ready = true;
	int role, state;
	size_t i;

	for (i = 0; i < st->nslots; i++) {
		s = &st->slot[i];
		state = atomic_load(&s->state);
		role = atomic_load(&s->role);
		if (role == ROLE_FREE || atomic_load(&s->retired) || state == STATE_READY ||
			(state == STATE_PAUSED && role == ROLE_WORKER))
			continue;
		if (role == ROLE_LISTENER && atomic_load(&s->gauges[GAUGE_CONNECTED]) != 0)
			continue; /* connected but deaf (a pooler in between): the workers poll */
		control_note(waiting, s, stats_state_name(state), false);
		ready = false;
	}
	cJSON_AddStringToObject(json, "status", ready ? "ready" : "not ready");
	if (ready)
		cJSON_Delete(waiting);
	else
		cJSON_AddItemToObject(json, "waiting_for", waiting);
	control_send_json(req, ready ? HTTP_OK : HTTP_SERVUNAVAIL, json);
}

/* GET /metrics. */
static void control_metrics(struct control *c, struct evhttp_request *req)
{
	struct evbuffer *body = control_body();

	metrics_write(c->env->stats, c->beat_limit_ms, body);
	control_send(req, HTTP_OK, METRICS_CONTENT_TYPE, body);
}

static const struct control_route control_routes[] = {
	{ "/health", control_health },
	{ "/ready", control_ready },
	{ "/metrics", control_metrics },
};

/* Whether a request is meant for us. A page that made its own name point to 127.0.0.1 sends that name, and is
 * refused. */
static bool control_host_is_ours(const struct control *c, struct evhttp_request *req)
{
	static const char *const names[] = { "localhost", "127.0.0.1", "::1" };
	const char *host = evhttp_request_get_host(req);
	char bare[256];
	size_t len, i;

	if (c->listen.path[0] != '\0' || host == NULL)
		return true; /* no browser speaks to a Unix socket, or leaves Host out */
	len = strlen(host);
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (len >= sizeof bare)
		return false;
	memcpy(bare, host, len);
	bare[len] = '\0';
	for (i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcasecmp(bare, names[i]) == 0)
			return true;
	return strcasecmp(bare, c->listen.host) == 0;
}

/* Answers every request. */
static void control_request(struct evhttp_request *req, void *arg)
{
	struct control *c = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	enum evhttp_cmd_type method = evhttp_request_get_command(req);
	size_t i;

	if (!control_host_is_ours(c, req)) {
		control_send_error(req, 421, "wrong_host",
			"this server answers to localhost and to the name that it listens on only");
		return;
	}
	for (i = 0; i < sizeof control_routes / sizeof control_routes[0]; i++) {
		if (path == NULL || strcmp(path, control_routes[i].path) != 0)
			continue;
		if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
			evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "GET, HEAD");
			control_send_error(
				req, HTTP_BADMETHOD, "method_not_allowed", "only GET and HEAD are answered here");
			return;
		}
		control_routes[i].answer(c, req);
		return;
	}
	control_send_error(req, HTTP_NOTFOUND, "not_found", "there is /health, /ready and /metrics");
}

/* Whether as many connections are open as may be: the kernel hands out the lowest free descriptor, so asking for one
 * tells. */
static bool control_is_full(const struct control *c)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, c->base_fd);

	if (fd == -1)
		return true;
	close(fd);
	return fd - c->base_fd >= CONTROL_MAX_CONNECTIONS;
}

/* Called for each connection that was accepted: the last one that fits switches the listener off for a moment. */
static struct bufferevent *control_connection(struct event_base *base, void *arg)
{
	static const struct timeval pause = { .tv_usec = 50000 };
	struct control *c = arg;

	if (control_is_full(c) && !event_pending(c->reopen, EV_TIMEOUT, NULL)) {
		evconnlistener_disable(c->listener);
		event_add(c->reopen, &pause);
	}
	return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
}

/* Looks whether there is room again. */
static void control_reopen(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval pause = { .tv_usec = 50000 };
	struct control *c = arg;

	(void)fd, (void)what;
	if (control_is_full(c))
		event_add(c->reopen, &pause);
	else
		evconnlistener_enable(c->listener);
}

/* SIGTERM, or the end of the pipe that the supervisor holds: leave. */
static void control_leave(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd, (void)what;
	stats_state(c->env->slot, STATE_DRAINING);
	event_base_loopexit(c->base, NULL);
}

/* Once a second. */
static void control_beat(evutil_socket_t fd, short what, void *arg)
{
	struct control *c = arg;

	(void)fd, (void)what;
	proc_beat(c->env);
}

/* libevent's own messages go where ours go. */
static void control_libevent_log(int severity, const char *text)
{
	log_write(severity >= EVENT_LOG_WARN ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, NULL, "libevent: %s", text);
}

/* Sets the HTTP server up on the open socket. */
static int control_serve(struct control *c)
{
	struct evhttp_bound_socket *bound;

	if ((c->http = evhttp_new(c->base)) == NULL)
		return -1;
	evhttp_set_max_headers_size(c->http, CONTROL_MAX_HEADERS);
	evhttp_set_max_body_size(c->http, CONTROL_MAX_BODY);
	evhttp_set_timeout(c->http, CONTROL_TIMEOUT_S);
	/* All methods, so that the refusal has our shape. */
	evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
						    EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
						    EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(c->http, control_request, c);
	evhttp_set_bevcb(c->http, control_connection, c);
	if ((bound = evhttp_accept_socket_with_handle(c->http, c->listen.fd)) == NULL)
		return -1;
	c->listener = evhttp_bound_socket_get_listener(bound);
	c->base_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	if (c->base_fd == -1)
		return -1;
	close(c->base_fd);
	return 0;
}

/* The control process. */
int control_main(const struct proc_env *env)
{
	static const struct timeval second = { .tv_sec = 1 };
	struct control c = { .env = env, .listen = { .fd = -1 } };
	struct event *term = NULL, *parent = NULL, *beat = NULL;
	char *error;
	int status = PROC_EXIT_RESTART;

	log_context_set((struct log_context){ .process = "control" });
	event_set_log_callback(control_libevent_log);
	c.beat_limit_ms = env->settings->watchdog > 0 ? env->settings->watchdog : CONTROL_BEAT_LIMIT_MS;
	if (c.beat_limit_ms < 5000)
		c.beat_limit_ms = 5000;
	proc_beat(env);
	if ((error = httplisten_open(&c.listen, env->settings->http_listen)) != NULL) {
		log_error("%s", error);
		stats_error(env->slot, error);
		free(error);
		return PROC_EXIT_CONFIG;
	}
	c.base = event_base_new();
	if (c.base != NULL) {
		term = evsignal_new(c.base, SIGTERM, control_leave, &c);
		parent = event_new(c.base, env->parent_fd, EV_READ, control_leave, &c);
		beat = event_new(c.base, -1, EV_PERSIST, control_beat, &c);
		c.reopen = evtimer_new(c.base, control_reopen, &c);
	}
	if (term == NULL || parent == NULL || beat == NULL || c.reopen == NULL || evsignal_add(term, NULL) == -1 ||
		event_add(parent, NULL) == -1 || event_add(beat, &second) == -1 || control_serve(&c) == -1)
		log_error("cannot set up the event loop: %s", strerror(errno));
	else {
		stats_state(env->slot, STATE_READY);
		log_info("listening on %s", env->settings->http_listen);
		event_base_dispatch(c.base);
		status = PROC_EXIT_OK;
	}
	if (c.http != NULL)
		evhttp_free(c.http);
	httplisten_unlink(&c.listen);
	if (term != NULL)
		event_free(term);
	if (parent != NULL)
		event_free(parent);
	if (beat != NULL)
		event_free(beat);
	if (c.reopen != NULL)
		event_free(c.reopen);
	if (c.base != NULL)
		event_base_free(c.base);
	return status;
}
