/* jobs_watch.c: jobs that clients follow: asks for their state after each notification, and every few seconds. */
#include "config.h"

#include "control/jobs_watch.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "control/db.h"
#include "pg/notify.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#define JOBS_WATCH_MAX 64        /* at once; each holds a connection */
#define JOBS_WATCH_CLIENT_MAX 32 /* of one client */
#define JOBS_WATCH_TICK_S 10     /* the database notifies for a minute after each question */

struct jobs_watch {
	LIST_ENTRY(jobs_watch) link;
	struct jobs_watch_list *list;
	char *type, *id, *client;
	jobs_watch_cb cb;
	void *arg;
	bool asking, again; /* a statement is running; another one is to follow */
	bool removed;       /* freed when the statement is answered */
};

struct jobs_watch_list {
	struct control *control;
	struct pgconn *pg; /* it LISTENs, so it has no pipeline */
	char *channel;
	struct event *tick;
	LIST_HEAD(, jobs_watch) watches;
	size_t n;
};

static void jobs_watch_ask(struct jobs_watch *w);

/* Frees a watch that has no statement running. */
static void jobs_watch_free(struct jobs_watch *w)
{
	free(w->type);
	free(w->id);
	free(w->client);
	free(w);
}

/* The database has answered, or cannot. */
static void jobs_watch_answered(void *arg, const struct pgresult *r)
{
	struct jobs_watch *w = arg;
	struct jobs_watch_state s;

	w->asking = false;
	if (w->removed) {
		jobs_watch_free(w);
		return;
	}
	if (r->error != NULL) {
		w->asking = true; /* the callback may remove the watch */
		w->cb(w->arg, NULL, r);
	} else {
		s.version = strtoll(PQgetvalue(r->res, 0, 0), NULL, 10);
		s.finished = *PQgetvalue(r->res, 0, 1) == 't';
		s.waiting = *PQgetvalue(r->res, 0, 2) == 't';
		s.completed = *PQgetvalue(r->res, 0, 3) == 't';
		s.attempts = atoi(PQgetvalue(r->res, 0, 4));
		s.missing = atoi(PQgetvalue(r->res, 0, 5));
		s.info = PQgetvalue(r->res, 0, 6);
		w->asking = true;
		w->cb(w->arg, &s, NULL);
	}
	w->asking = false;
	if (w->removed)
		jobs_watch_free(w);
	else if (w->again && r->error == NULL)
		jobs_watch_ask(w);
}

/* Asks for the state; one statement at a time for each watch. */
static void jobs_watch_ask(struct jobs_watch *w)
{
	const char *params[2] = { w->type, w->id };

	w->again = w->asking;
	if (w->asking)
		return;
	w->asking = true;
	control_db_send(w->list->control->db,
		"SELECT version, finished, waiting, completed, attempts, missing, info::text FROM pgmqd.watch_job($1, "
		"$2::uuid)",
		2, params, jobs_watch_answered, w);
}

/* Asks for all of them. */
static void jobs_watch_ask_all(struct jobs_watch_list *l)
{
	struct jobs_watch *w, *next;

	for (w = LIST_FIRST(&l->watches); w != NULL; w = next) {
		next = LIST_NEXT(w, link);
		jobs_watch_ask(w);
	}
}

/* Listening: asks for all jobs, as notifications from before were lost. */
static void jobs_watch_listening(void *arg, const struct pgresult *r)
{
	if (r->error == NULL)
		jobs_watch_ask_all(arg);
}

/* Connected. */
static void jobs_watch_up(void *arg)
{
	struct jobs_watch_list *l = arg;

	notify_listen(l->pg, l->channel, jobs_watch_listening, l);
}

/* A job has changed. */
static void jobs_watch_notify(void *arg, const char *channel, const char *payload, int pid)
{
	struct jobs_watch_list *l = arg;
	struct jobs_watch *w, *next;

	(void)channel, (void)pid;
	for (w = LIST_FIRST(&l->watches); w != NULL; w = next) {
		next = LIST_NEXT(w, link);
		if (strcasecmp(w->id, payload) == 0)
			jobs_watch_ask(w);
	}
}

static const struct pgconn_events jobs_watch_events = { .up = jobs_watch_up, .notify = jobs_watch_notify };

/* Every few seconds. */
static void jobs_watch_ticked(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	jobs_watch_ask_all(arg);
}

struct jobs_watch_list *jobs_watch_list_new(struct control *c)
{
	static const struct timeval every = { .tv_sec = JOBS_WATCH_TICK_S };
	struct jobs_watch_list *l = xcalloc(1, sizeof(*l));

	l->control = c;
	LIST_INIT(&l->watches);
	l->channel = xasprintf("%s_jobs", c->env->settings->channel);
	l->pg = pgconn_new(c->base, c->env->settings->database, "pgmqd control jobs", false, &jobs_watch_events, l);
	l->tick = loop_event(c->base, -1, EV_PERSIST, jobs_watch_ticked, l);
	loop_add(l->tick, &every);
	return l;
}

void jobs_watch_list_free(struct jobs_watch_list *l)
{
	struct jobs_watch *w;

	if (l == NULL)
		return;
	while ((w = LIST_FIRST(&l->watches)) != NULL) {
		LIST_REMOVE(w, link);
		jobs_watch_free(w);
	}
	event_free(l->tick);
	pgconn_free(l->pg);
	free(l->channel);
	free(l);
}

/* The watches of a client. */
static size_t jobs_watch_count(const struct jobs_watch_list *l, const char *client)
{
	const struct jobs_watch *w;
	size_t n = 0;

	LIST_FOREACH(w, &l->watches, link)
	n += strcmp(w->client, client) == 0;
	return n;
}

struct jobs_watch *jobs_watch_add(
	struct control *c, const char *client, const char *type, const char *id, jobs_watch_cb cb, void *arg)
{
	struct jobs_watch_list *l = c->watches;
	struct jobs_watch *w;

	if (l->n >= JOBS_WATCH_MAX || jobs_watch_count(l, client) >= JOBS_WATCH_CLIENT_MAX)
		return NULL;
	l->n++;
	w = xcalloc(1, sizeof(*w));
	w->list = l;
	w->type = xstrdup(type);
	w->id = xstrdup(id);
	w->client = xstrdup(client);
	w->cb = cb;
	w->arg = arg;
	LIST_INSERT_HEAD(&l->watches, w, link);
	pgconn_start(l->pg);
	jobs_watch_ask(w);
	return w;
}

void jobs_watch_remove(struct jobs_watch *w)
{
	if (w == NULL)
		return;
	LIST_REMOVE(w, link);
	w->list->n--;
	if (w->asking)
		w->removed = true;
	else
		jobs_watch_free(w);
}
