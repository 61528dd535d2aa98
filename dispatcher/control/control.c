/* control.c: the control process: its loop, its connection to the database, and the HTTP server. */
#include "config.h"

#include "control/control.h"

#include "base/log.h"
#include "base/loop.h"
#include "control/context.h"
#include "control/db.h"
#include "control/history.h"
#include "control/jobs.h"
#include "control/jobs_start.h"
#include "control/jobs_watch.h"
#include "control/mail.h"
#include "control/record.h"
#include "control/routes.h"
#include "control/schedules.h"
#include "http/server.h"
#include "pg/timeline.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL_BEAT_LIMIT_MS 30000 /* where there is no watchdog */
#define CONTROL_BEAT_LIMIT_MIN_MS 5000

/* The process. */
struct control_process {
	struct control control; /* what the handlers see */
	struct event *term, *parent, *beat;
	unsigned beats;
	bool record_due; /* what was settled is to be written down, as soon as the database is there */
	struct http_server *server;
};

/* Stops: on SIGTERM, or when the supervisor's end of the pipe is closed. */
static void control_leave(evutil_socket_t fd, short what, void *arg)
{
	struct control_process *p = arg;

	(void)fd, (void)what;
	stats_state(p->control.env->slot, STATE_DRAINING);
	event_base_loopexit(p->control.base, NULL);
}

/* Runs once a second: sends the heartbeat, and takes a point of the history now and then. */
static void control_beat(evutil_socket_t fd, short what, void *arg)
{
	struct control_process *p = arg;

	(void)fd, (void)what;
	proc_beat(p->control.env);
	if (++p->beats % HISTORY_STEP_S == 0)
		history_take(p->control.history, p->control.env->stats);
	if (p->beats % RECORD_EVERY_S == RECORD_FIRST_S)
		p->record_due = true;
	if (p->record_due && record_write(&p->control))
		p->record_due = false;
}

/* Writes libevent's messages into our log. */
static void control_libevent_log(int severity, const char *text)
{
	log_write(severity >= EVENT_LOG_WARN ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, NULL, "libevent: %s", text);
}

/* How long a process may go without a heartbeat. */
static int64_t control_beat_limit(const struct settings *s)
{
	int64_t ms = s->watchdog > 0 ? s->watchdog : CONTROL_BEAT_LIMIT_MS;

	return ms < CONTROL_BEAT_LIMIT_MIN_MS ? CONTROL_BEAT_LIMIT_MIN_MS : ms;
}

/* Opens the socket. False: the settings do not allow it, which was logged. */
static bool control_listen(struct control *c)
{
	char *error = settings_people(c->env->settings, &c->people);

	if (error == NULL)
		error = http_listen_open(&c->listen, c->env->settings->http_listen, c->people.n > 0);

	if (error == NULL)
		return true;
	log_error("%s", error);
	stats_error(c->env->slot, error);
	free(error);
	return false;
}

/* Makes the loop, its events and the server. */
static bool control_start(struct control_process *p)
{
	static const struct timeval second = { .tv_sec = 1 };
	struct control *c = &p->control;
	const struct settings *s = c->env->settings;
	const struct http_server_config config = { .listen = &c->listen,
		.routes = control_routes,
		.people = &c->people,
		.guests = s->http_guests == HTTP_GUESTS_ALL || (s->http_guests == HTTP_GUESTS_LOCAL && c->listen.local),
		.other_names = s->http_hosts,
		.leaves_open = c->listen.local ? jobs_leaves_open : NULL,
		.context = c };

	if ((c->base = event_base_new()) == NULL)
		return false;
	p->term = loop_event(c->base, SIGTERM, EV_SIGNAL | EV_PERSIST, control_leave, p);
	p->parent = loop_event(c->base, c->env->parent_fd, EV_READ, control_leave, p);
	p->beat = loop_event(c->base, -1, EV_PERSIST, control_beat, p);
	loop_add(p->term, NULL);
	loop_add(p->parent, NULL);
	loop_add(p->beat, &second);
	timeline_share(c->env->stats->primary);
	c->history = history_new();
	c->starts = jobs_start_new(c);
	c->watches = jobs_watch_list_new(c);
	c->mail = mail_new(c);
	c->schedules = schedules_new(c);
	c->db = control_db_new(c, jobs_attach);
	return (p->server = http_server_new(c->base, &config)) != NULL;
}

/* Frees all of it. */
static void control_stop(struct control_process *p)
{
	struct control *c = &p->control;

	http_server_free(p->server);
	jobs_watch_list_free(c->watches);
	control_db_free(c->db);
	history_free(c->history);
	jobs_start_free(c->starts);
	mail_free(c->mail);
	schedules_free(c->schedules);
	http_listen_unlink(&c->listen);
	people_free(&c->people);
	if (p->term != NULL)
		event_free(p->term);
	if (p->parent != NULL)
		event_free(p->parent);
	if (p->beat != NULL)
		event_free(p->beat);
	if (c->base != NULL)
		event_base_free(c->base);
}

int control_main(const struct proc_env *env)
{
	struct control_process p = { .control = { .env = env, .listen = { .fd = -1 } } };
	int status = PROC_EXIT_RESTART;

	log_context_set((struct log_context){ .process = "control" });
	event_set_log_callback(control_libevent_log);
	p.control.beat_limit_ms = control_beat_limit(env->settings);
	proc_beat(env);
	if (!control_listen(&p.control))
		return PROC_EXIT_CONFIG;
	if (control_start(&p)) {
		stats_state(env->slot, STATE_READY);
		log_info("listening on %s", env->settings->http_listen);
		event_base_dispatch(p.control.base);
		status = PROC_EXIT_OK;
	} else {
		log_error("cannot set up the event loop: %s", strerror(errno));
	}
	control_stop(&p);
	return status;
}
