/* listener.c: the process that holds the dispatcher's one LISTEN connection and wakes the workers that are meant.
 *
 * A notification only says which queue may have a message. After every (re)connect the process listens first and then
 * makes every worker look, so that a message from before is found. It never opens a transaction, because a listener
 * inside one keeps the server from emptying its notification queue. A canary shows whether notifications arrive.
 */
#include "config.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "listener/canary.h"
#include "listener/listener.h"
#include "listener/prepared.h"
#include "listener/scheduler.h"
#include "listener/watch.h"
#include "pg/notify.h"
#include "pg/pgconn.h"
#include "pg/timeline.h"
#include "process/proc.h"
#include "process/wakepipe.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CANARY_EVERY_MS 60000
#define CANARY_LOST_MS 5000 /* while notifications do not arrive */
#define CANARY_WAIT_MS 2000
#define WATCH_EVERY_MS 3000 /* who has our locks */
#define WATCH_WAIT_MS 1000  /* while something else must not meet that question */
#define OPERATED "!pause "  /* in front of a queue's name: see pgmqd.tell_pause() */
#define CANCEL "!cancel "   /* the same: see pgmqd.tell_cancel() */

/* A queue's name and whom it wakes; sorted by name. */
struct route {
	const char *queue;
	int fd;
	wake_word index;
	bool woken; /* in this round: many notifications lead to one wake-up */
};

struct listener {
	const struct proc_env *env;
	struct event_base *base;
	struct pgconn *pg;
	struct scheduler *scheduler;
	struct canary *canary;
	struct watch *watch;
	struct prepared *prepared;
	struct route *routes;
	size_t nroutes;
	struct event *term, *parent, *beat, *watch_timer, *canary_timer, *round;
	bool hearing, told, said_deaf, watch_out, canary_out, was_up;
	unsigned canary_seq;
	char canary_payload[48];
	char *down_reason;
};

/* Order of routes. Queues whose names differ in case are one queue, as in pgmq. */
static int route_compare(const void *a, const void *b)
{
	return strcasecmp(((const struct route *)a)->queue, ((const struct route *)b)->queue);
}

/* Writes one word. When the pipe is full the worker has many words to read, and looks at every queue. */
static void listener_tell(int fd, wake_word word)
{
	ssize_t n = write(fd, &word, sizeof(word));

	(void)n;
}

/* One word to every worker. */
static void listener_tell_all(struct listener *l, wake_word word)
{
	for (size_t i = 0; i < l->env->nunits; i++)
		listener_tell(l->env->units[i].wake[1], word);
}

/* Tells the workers whether notifications arrive, when that has changed. */
static void listener_hearing(struct listener *l, bool hearing, const char *why)
{
	if (l->told && l->hearing == hearing)
		return;
	if (!hearing && !l->said_deaf) {
		log_warn("notifications do not arrive (%s): queues are polled every %lld ms until they do", why,
			(long long)l->env->settings->poll_when_deaf);
		l->said_deaf = true;
	} else if (hearing && l->said_deaf) {
		log_info("notifications arrive again");
		l->said_deaf = false;
	}
	l->told = true;
	l->hearing = hearing;
	stats_gauge(l->env->slot, GAUGE_HEARING, hearing);
	atomic_store(&l->env->stats->deaf, !hearing && pgconn_is_up(l->pg));
	stats_state(l->env->slot, hearing ? STATE_READY : STATE_CONNECTING);
	listener_tell_all(l, hearing ? WAKE_HEARING : WAKE_DEAF);
}

/* Whether a canary is out. While it is, nothing else goes over the connection: see canary.c. */
static void listener_canary_out(struct listener *l, bool out)
{
	l->canary_out = out;
	pgconn_keep_quiet(l->pg, out);
}

/* Has a notification sent to us from another session. */
static void listener_canary(struct listener *l)
{
	snprintf(l->canary_payload, sizeof(l->canary_payload), "!canary %d %u", (int)getpid(), ++l->canary_seq);
	listener_canary_out(l, true);
	canary_send(l->canary, l->canary_payload);
}

/* It is sent, or could not be: a full server says nothing about notifications. */
static void listener_canary_sent(void *arg, const char *error)
{
	struct listener *l = arg;

	if (!l->canary_out)
		return; /* it has arrived already */
	if (!error) {
		loop_timer(l->canary_timer, CANARY_WAIT_MS);
		return;
	}
	listener_canary_out(l, false);
	log_debug("cannot test whether notifications arrive: %s", error);
	if (!l->told)
		listener_hearing(l, false, error);
	loop_timer(l->canary_timer, CANARY_LOST_MS);
}

/* LISTEN has answered, on a connection that was not receiving notifications. */
static void listener_listening_again(void *arg, const struct pgresult *r)
{
	struct listener *l = arg;

	if (!r->error)
		listener_canary(l);
	else if (*r->sqlstate)
		loop_timer(l->canary_timer, CANARY_LOST_MS);
}

/* The canary is due, or it did not come back. */
static void listener_canary_due(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd, (void)what;
	if (!pgconn_is_up(l->pg))
		return;
	if (l->canary_out) {
		listener_canary_out(l, false);
		listener_hearing(l, false,
			"a notification to ourselves did not come back; is there a transaction pooler in between? "
			"Use a direct or session-mode connection");
		if (pgconn_is_pooled(l->pg)) /* other clients of the pool would get what we listen for */
			pgconn_query(l->pg, NULL, "UNLISTEN *", 0, NULL, NULL, NULL);
		loop_timer(l->canary_timer, CANARY_LOST_MS);
	} else if (l->watch_out) { /* it has to be the only one */
		loop_timer(l->canary_timer, WATCH_WAIT_MS);
	} else if (!l->hearing) {
		notify_listen(l->pg, l->env->settings->channel, listener_listening_again, l);
	} else {
		listener_canary(l);
	}
}

/* The end of a round of notifications: every queue can be woken again. */
static void listener_round(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd, (void)what;
	for (size_t i = 0; i < l->nroutes; i++)
		l->routes[i].woken = false;
}

/* Whether others must not use the connection now. */
static bool listener_is_busy(void *arg)
{
	return ((struct listener *)arg)->canary_out;
}

/* Tells the workers of a queue something of it. */
static void listener_tell_queue(struct listener *l, const char *queue, wake_word what)
{
	for (size_t i = 0; i < l->nroutes; i++)
		if (strcasecmp(l->routes[i].queue, queue) == 0)
			listener_tell(l->routes[i].fd, wake_word_for(l->routes[i].index, what));
}

/* Somebody else has an advisory lock of a queue, or has it no more. */
static void listener_taken(void *arg, const char *queue, bool taken)
{
	listener_tell_queue(arg, queue, taken ? WAKE_TAKEN : WAKE_FREE);
}

/* A notification names a queue. Another payload is ignored: any role may notify on this channel. */
static void listener_notify(void *arg, const char *channel, const char *payload, int pid)
{
	struct listener *l = arg;
	struct route key = { .queue = payload }, *r;

	(void)channel, (void)pid;
	if (strncmp(payload, OPERATED, strlen(OPERATED)) == 0) {
		listener_tell_queue(l, payload + strlen(OPERATED), WAKE_OPERATED);
		return;
	}
	if (strncmp(payload, CANCEL, strlen(CANCEL)) == 0) {
		listener_tell_queue(l, payload + strlen(CANCEL), WAKE_CANCEL);
		return;
	}
	if (payload[0] == '!') {
		if (strcmp(payload, l->canary_payload) == 0) {
			listener_canary_out(l, false);
			listener_hearing(l, true, "");
			loop_timer(l->canary_timer, CANARY_EVERY_MS);
		}
		return;
	}
	stats_add(l->env->slot, STAT_NOTIFICATIONS, 1);
	r = l->nroutes ? bsearch(&key, l->routes, l->nroutes, sizeof(*r), route_compare) : NULL;
	if (!r)
		return;
	while (r > l->routes && strcasecmp(r[-1].queue, payload) == 0)
		r--;
	for (; r < l->routes + l->nroutes && strcasecmp(r->queue, payload) == 0; r++)
		if (!r->woken) {
			r->woken = true;
			listener_tell(r->fd, r->index);
		}
	event_active(l->round, 0, 0);
}

/* LISTEN has answered. */
static void listener_listening(void *arg, const struct pgresult *r)
{
	struct listener *l = arg;

	if (r->error) {
		if (*r->sqlstate) {
			log_error("cannot listen: %s", r->error);
			listener_hearing(l, false, r->error);
			loop_timer(l->canary_timer, CANARY_LOST_MS);
		}
		return;
	}
	stats_gauge(l->env->slot, GAUGE_CONNECTED, 1);
	atomic_store(&l->env->stats->deaf, false);
	l->told = false; /* workers may have been restarted or may have missed something: tell them whatever it is */
	listener_tell_all(l, WAKE_ALL);
	prepared_up(l->prepared);
	listener_canary(l);
	loop_timer(l->watch_timer, WATCH_WAIT_MS); /* somebody may have our locks already */
}

/* Connected: LISTEN comes before everything else. */
static void listener_up(void *arg)
{
	struct listener *l = arg;

	if (l->was_up)
		stats_add(l->env->slot, STAT_RECONNECTS, 1);
	log_info(l->was_up ? "connected to the database again" : "connected to the database");
	l->was_up = true;
	free(l->down_reason);
	l->down_reason = NULL;
	notify_listen(l->pg, l->env->settings->channel, listener_listening, l);
}

/* The connection is lost: nothing is heard until it is back. */
static void listener_down(void *arg, const char *reason)
{
	struct listener *l = arg;

	evtimer_del(l->canary_timer);
	evtimer_del(l->watch_timer);
	canary_cancel(l->canary);
	prepared_down(l->prepared);
	l->watch_out = false;
	listener_canary_out(l, false);
	stats_gauge(l->env->slot, GAUGE_CONNECTED, 0);
	stats_error(l->env->slot, reason);
	listener_hearing(l, false, reason);
}

/* A connect failed; each reason is said once. */
static void listener_failed(void *arg, const char *reason)
{
	struct listener *l = arg;

	stats_error(l->env->slot, reason);
	if (!l->told)
		listener_hearing(l, false, reason);
	if (l->down_reason && strcmp(l->down_reason, reason) == 0)
		return;
	log_error("cannot connect to the database: %s; trying again", reason);
	free(l->down_reason);
	l->down_reason = xstrdup(reason);
}

static const struct pgconn_events listener_events = {
	.up = listener_up, .down = listener_down, .failed = listener_failed, .notify = listener_notify
};

/* Who has our locks, if the database has the function that knows. */
static void listener_watched(void *arg, const struct pgresult *r)
{
	struct listener *l = arg;

	if (r->error && !*r->sqlstate)
		return; /* the connection is on its way down */
	l->watch_out = false;
	if (!r->error)
		watch_seen(l->watch, r->res);
	loop_timer(l->watch_timer, WATCH_EVERY_MS);
}

/* Asks for that. */
static void listener_watch(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd, (void)what;
	if (!pgconn_is_up(l->pg))
		return;
	if (l->canary_out) {
		loop_timer(l->watch_timer, WATCH_WAIT_MS);
		return;
	}
	l->watch_out = true;
	pgconn_query(l->pg, NULL, watch_sql, 0, NULL, listener_watched, l);
}

/* A sign of life, once a second. */
static void listener_beat(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	proc_beat(((struct listener *)arg)->env);
}

/* SIGTERM, or the supervisor is gone: the process holds no work, so it ends at once. */
static void listener_stop(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	event_base_loopbreak(((struct listener *)arg)->base);
}

/* Makes the table of routes. */
static void listener_routes(struct listener *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->env->nunits; i++)
		n += l->env->units[i].nqueues;
	l->routes = xcalloc(n ? n : 1, sizeof(*l->routes));
	for (size_t i = 0; i < l->env->nunits; i++)
		for (size_t k = 0; k < l->env->units[i].nqueues; k++)
			l->routes[l->nroutes++] = (struct route){ .queue = l->env->units[i].queues[k]->name,
				.fd = l->env->units[i].wake[1],
				.index = wake_word_for(k, 0) };
	qsort(l->routes, l->nroutes, sizeof(*l->routes), route_compare);
}

int listener_main(const struct proc_env *env)
{
	struct listener l = { .env = env };
	struct timeval second = { .tv_sec = 1 };

	log_context_set((struct log_context){ .process = "listener" });
	l.base = event_base_new();
	if (!l.base)
		return PROC_EXIT_RESTART;
	_Static_assert(sizeof(env->stats->primary) / sizeof(*env->stats->primary) == TIMELINE_WORDS, "one size");
	timeline_share(env->stats->primary);
	listener_routes(&l);
	l.pg = pgconn_new(l.base, env->settings->database, "pgmqd listener", false, &listener_events, &l);
	l.term = loop_event(l.base, SIGTERM, EV_SIGNAL | EV_PERSIST, listener_stop, &l);
	l.parent = loop_event(l.base, env->parent_fd, EV_READ, listener_stop, &l);
	l.beat = loop_event(l.base, -1, EV_PERSIST, listener_beat, &l);
	l.watch_timer = loop_event(l.base, -1, 0, listener_watch, &l);
	l.canary_timer = loop_event(l.base, -1, 0, listener_canary_due, &l);
	l.canary = canary_new(l.base, env->settings->database, env->settings->channel, listener_canary_sent, &l);
	l.watch = watch_new(listener_taken, &l);
	l.prepared = prepared_new(l.base, l.pg, listener_is_busy, &l);
	l.round = loop_event(l.base, -1, 0, listener_round, &l);
	loop_add(l.term, NULL);
	loop_add(l.parent, NULL);
	loop_add(l.beat, &second);
	proc_beat(env);
	stats_state(env->slot, STATE_CONNECTING);
	pgconn_start(l.pg);
	if (env->settings->schedules)
		l.scheduler = scheduler_new(l.base, env);
	event_base_dispatch(l.base);
	if (l.scheduler)
		scheduler_free(l.scheduler);
	pgconn_free(l.pg);
	event_free(l.term);
	event_free(l.parent);
	event_free(l.beat);
	event_free(l.watch_timer);
	event_free(l.canary_timer);
	canary_free(l.canary);
	watch_free(l.watch);
	prepared_free(l.prepared);
	event_free(l.round);
	event_base_free(l.base);
	free(l.routes);
	free(l.down_reason);
	libevent_global_shutdown();
	return PROC_EXIT_OK;
}
