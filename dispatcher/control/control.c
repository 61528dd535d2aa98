/* control.c: the control process: its loop, its connection to the database, and the HTTP server, whose requests go to
 * route.c. */
#include "config.h"

#include "base/log.h"
#include "control/db.h"
#include "control/history.h"
#include "control/jobs.h"
#include "control/jobs_watch.h"
#include "http/conn.h"
#include "http/route.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONTROL_TIMEOUT_S 5
#define CONTROL_BEAT_LIMIT_MS 30000 /* where there is no watchdog */

struct control_server {
	struct control control; /* what the handlers see; first */
	struct evhttp *http;
	struct evconnlistener *listener;
	unsigned beats;
	struct httpconns *conns;
};

/* Answers every request. */
static void control_request(struct evhttp_request *req, void *arg)
{
	struct control_server *s = arg;

	httpconn_request(s->conns, req);
	httproute_request(&s->control, req);
}

/* Called for each connection that was accepted. */
static struct bufferevent *control_connection(struct event_base *base, void *arg)
{
	(void)base;
	return httpconn_new(((struct control_server *)arg)->conns);
}

/* As many connections are open as may be: others wait in the kernel. */
static void control_full(void *arg)
{
	evconnlistener_disable(((struct control_server *)arg)->listener);
}

/* One of them has gone. */
static void control_room(void *arg)
{
	struct control_server *c = arg;

	if (c->listener != NULL)
		evconnlistener_enable(c->listener);
}

/* SIGTERM, or the end of the pipe that the supervisor holds: leave. */
static void control_leave(evutil_socket_t fd, short what, void *arg)
{
	struct control_server *c = arg;

	(void)fd, (void)what;
	stats_state(c->control.env->slot, STATE_DRAINING);
	event_base_loopexit(c->control.base, NULL);
}

/* Once a second. */
static void control_beat(evutil_socket_t fd, short what, void *arg)
{
	struct control_server *c = arg;

	(void)fd, (void)what;
	proc_beat(c->control.env);
	if (++c->beats % HISTORY_STEP_S == 0)
		history_take(c->control.history, c->control.env->stats);
}

/* libevent's own messages go where ours go. */
static void control_libevent_log(int severity, const char *text)
{
	log_write(severity >= EVENT_LOG_WARN ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, NULL, "libevent: %s", text);
}

/* Sets the HTTP server up on the open socket. */
static int control_serve(struct control_server *c)
{
	struct evhttp_bound_socket *bound;

	if ((c->http = evhttp_new(c->control.base)) == NULL)
		return -1;
	evhttp_set_timeout(c->http, CONTROL_TIMEOUT_S);
	/* All methods, so that the refusal has our shape. */
	evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
						    EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
						    EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	evhttp_set_gencb(c->http, control_request, c);
	evhttp_set_bevcb(c->http, control_connection, c);
	if ((bound = evhttp_accept_socket_with_handle(c->http, c->control.listen.fd)) == NULL)
		return -1;
	c->listener = evhttp_bound_socket_get_listener(bound);
	return 0;
}

/* The control process. */
int control_main(const struct proc_env *env)
{
	static const struct timeval second = { .tv_sec = 1 };
	struct control_server c = { .control = { .env = env, .listen = { .fd = -1 } } };
	struct event *term = NULL, *parent = NULL, *beat = NULL;
	char *error;
	int status = PROC_EXIT_RESTART;

	log_context_set((struct log_context){ .process = "control" });
	event_set_log_callback(control_libevent_log);
	c.control.beat_limit_ms = env->settings->watchdog > 0 ? env->settings->watchdog : CONTROL_BEAT_LIMIT_MS;
	if (c.control.beat_limit_ms < 5000)
		c.control.beat_limit_ms = 5000;
	proc_beat(env);
	if ((error = httplisten_open(
		     &c.control.listen, env->settings->http_listen, *env->settings->http_token != '\0')) != NULL) {
		log_error("%s", error);
		stats_error(env->slot, error);
		free(error);
		return PROC_EXIT_CONFIG;
	}
	c.control.base = event_base_new();
	if (c.control.base != NULL) {
		term = evsignal_new(c.control.base, SIGTERM, control_leave, &c);
		parent = event_new(c.control.base, env->parent_fd, EV_READ, control_leave, &c);
		beat = event_new(c.control.base, -1, EV_PERSIST, control_beat, &c);
		c.conns = httpconns_new(c.control.base, control_full, control_room, &c);
	}
	if (term == NULL || parent == NULL || beat == NULL || evsignal_add(term, NULL) == -1 ||
		event_add(parent, NULL) == -1 || event_add(beat, &second) == -1 || control_serve(&c) == -1)
		log_error("cannot set up the event loop: %s", strerror(errno));
	else {
		c.control.history = history_new();
		c.control.starts = httpstart_new(&c.control);
		c.control.watches = httpwatch_list_new(&c.control);
		c.control.db = httpdb_new(&c.control, httpjobs_attach);
		stats_state(env->slot, STATE_READY);
		log_info("listening on %s", env->settings->http_listen);
		event_base_dispatch(c.control.base);
		status = PROC_EXIT_OK;
	}
	c.listener = NULL;
	if (c.http != NULL)
		evhttp_free(c.http);
	httpwatch_list_free(c.control.watches);
	httpdb_free(c.control.db);
	history_free(c.control.history);
	httpstart_free(c.control.starts);
	httplisten_unlink(&c.control.listen);
	if (term != NULL)
		event_free(term);
	if (parent != NULL)
		event_free(parent);
	if (beat != NULL)
		event_free(beat);
	if (c.control.base != NULL)
		event_base_free(c.control.base);
	httpconns_free(c.conns);
	return status;
}
