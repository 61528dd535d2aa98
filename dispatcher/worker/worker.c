/* worker.c: the process that runs one queue, or the queues of one group: an event loop, the connections to the
 * database, one curl multi, and the plugins, which are loaded here, after fork.
 */
#include "config.h"

#include "base/clock.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "pg/pgconn.h"
#include "pg/timeline.h"
#include "process/proc.h"
#include "process/wakepipe.h"
#include "template/template.h"
#include "worker/flow.h"
#include "worker/plugin.h"
#include "worker/plugin_db.h"
#include "worker/queue.h"
#include "worker/second.h"
#include "worker/spans.h"
#include "worker/transfer.h"
#include "worker/worker.h"

#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BEAT_US 1000000 /* between two signs of life */
#define WAKE_MANY 1000  /* words at once; the smallest pipe that the kernel makes holds 2048 */
#define GIVE_UP_MS 1000 /* after the drain's time: for the database to take back what is left */

struct worker {
	const struct proc_env *env;
	struct event_base *base;
	struct pgconn *pg;
	struct second *second;
	struct plugin_db *plugin_db;
	struct transfers *transfers;
	struct template_set *templates;
	struct flow **flows;
	size_t nflows;
	struct event *wake, *parent, *term, *now, *hup, *beat, *drain;
	bool draining, gave_up, was_up;
	bool doubts;       /* connected, and it is not known yet whether the settings allow this connection */
	int64_t beat_us;   /* when the last sign of life was given */
	int status;        /* to leave with */
	char *down_reason; /* the last one that was logged */
};

/* A sign of life, once a second, and how late it came. */
static void worker_beat(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	int64_t now = clock_monotonic_us();

	(void)fd, (void)what;
	if (w->beat_us)
		for (size_t i = 0; i < w->nflows; i++)
			stats_observe(w->env->unit->slots[i], HIST_LAG, now - w->beat_us - BEAT_US);
	w->beat_us = now;
	proc_beat(w->env);
}

/* All queues are settled: leave. */
static void worker_idle(void *arg)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->nflows; i++)
		if (!flow_is_idle(w->flows[i]))
			return;
	event_base_loopbreak(w->base);
}

/* Messages that were begun and are not off our hands yet. */
static unsigned worker_in_hand(const struct worker *w)
{
	unsigned n = 0;

	for (size_t i = 0; i < w->nflows; i++)
		n += flow_begun(w->flows[i]);
	return n;
}

/* The drain's time is over: once to cancel what runs, a second time to leave whatever is left to its lease. */
static void worker_drain_over(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	unsigned left = worker_in_hand(w);

	(void)fd, (void)what;
	if (w->gave_up) {
		log_warn("left with %u messages that the database did not take back; they are seen again when their "
			 "leases end",
			left);
		event_base_loopbreak(w->base);
		return;
	}
	w->gave_up = true;
	if (left)
		log_warn("the drain's time is over with %u messages under way: given back", left);
	for (size_t i = 0; i < w->nflows; i++)
		flow_give_up(w->flows[i]);
	loop_timer(w->drain, GIVE_UP_MS);
}

/* Claims nothing more, finishes what runs, leaves. */
static void worker_drain(struct worker *w)
{
	if (w->draining)
		return;
	w->draining = true;
	if (worker_in_hand(w))
		log_info("draining: messages in hand: %u", worker_in_hand(w));
	loop_timer(w->drain, w->env->settings->drain_timeout);
	for (size_t i = 0; i < w->nflows; i++)
		flow_drain(w->flows[i], worker_idle, w);
}

/* SIGTERM. SIGINT is the supervisor's: a terminal sends it to the whole group. */
static void worker_term(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	worker_drain(arg);
}

/* PROC_STOP_NOW: gives back what runs, and leaves. */
static void worker_stop_now(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd, (void)what;
	worker_drain(w);
	w->gave_up = false;
	worker_drain_over(-1, 0, w);
}

/* SIGHUP: a cause outside may be gone: templates are read anew, and paused queues try at once. */
static void worker_reload(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd, (void)what;
	template_free(w->templates);
	w->templates = NULL;
	for (size_t i = 0; i < w->nflows; i++)
		flow_resume(w->flows[i]);
}

/* The supervisor is gone. */
static void worker_orphan(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd, (void)what;
	event_del(w->parent);
	log_warn("the supervisor is gone: stopping");
	worker_drain(w);
}

static void worker_up(void *arg);

/* The listener has something to say. */
static void worker_wake(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	wake_word words[64];
	size_t total = 0;
	ssize_t n;

	(void)what;
	while ((n = read(fd, words, sizeof(words))) > 0)
		for (size_t i = 0; i < (size_t)n / sizeof(words[0]); i++)
			for (size_t k = 0; k < w->nflows; k++) {
				if (words[i] >= WAKE_DEAF)
					flow_hearing(w->flows[k], words[i] == WAKE_HEARING);
				else if (wake_word_means(words[i], k))
					flow_told(w->flows[k], wake_word_news(words[i]));
				total++;
			}
	if (total >= WAKE_MANY) /* so many that the pipe may have been full, and words for other queues lost */
		for (size_t k = 0; k < w->nflows; k++)
			flow_hearing(w->flows[k], stats_listener_hears(w->env->stats));
	if (w->doubts && pgconn_is_up(w->pg))
		worker_up(w);
}

/* Whether a pooler is in between, and the settings want to know first whether notifications come through it. When they
 * do not, the process ends, and comes back later. */
static bool worker_doubts(struct worker *w)
{
	static const char text[] =
		"require_notify: notifications do not come through the connection pooler in between; "
		"use a direct connection or a pool in session mode, or require_notify = no";

	if (!w->env->settings->require_notify || !pgconn_is_pooled(w->pg) || stats_listener_hears(w->env->stats))
		return false;
	if (atomic_load(&w->env->stats->deaf)) {
		log_error("%s", text);
		stats_error(w->env->slot, text);
		w->status = PROC_EXIT_CONFIG;
		event_base_loopbreak(w->base);
	}
	return true;
}

/* Connected: every queue looks at the catalogue and then at its messages. */
static void worker_up(void *arg)
{
	struct worker *w = arg;

	w->doubts = worker_doubts(w);
	if (w->doubts)
		return;
	if (w->was_up)
		for (size_t i = 0; i < w->nflows; i++)
			stats_add(w->env->unit->slots[i], STAT_RECONNECTS, 1);
	log_info(w->was_up ? "connected to the database again" : "connected to the database");
	w->was_up = true;
	free(w->down_reason);
	w->down_reason = NULL;
	for (size_t i = 0; i < w->nflows; i++)
		flow_up(w->flows[i]);
}

/* The connection is lost. */
static void worker_down(void *arg, const char *reason)
{
	struct worker *w = arg;

	log_warn("database connection lost: %s", reason);
	for (size_t i = 0; i < w->nflows; i++) {
		stats_error(w->env->unit->slots[i], reason);
		if (!w->doubts)
			flow_down(w->flows[i]);
	}
	w->doubts = false;
	second_end(w->second);
}

/* A connect failed; each reason is said once. */
static void worker_failed(void *arg, const char *reason)
{
	struct worker *w = arg;

	for (size_t i = 0; i < w->nflows; i++)
		stats_error(w->env->unit->slots[i], reason);
	if (w->down_reason && strcmp(w->down_reason, reason) == 0)
		return;
	log_error("cannot connect to the database: %s; trying again", reason);
	free(w->down_reason);
	w->down_reason = xstrdup(reason);
}

static const struct pgconn_events worker_events = { .up = worker_up, .down = worker_down, .failed = worker_failed };

/* A queue as its settings want it. */
static struct queue *worker_queue(const struct worker *w, const struct queue_settings *qs, const struct plugin *plugin)
{
	struct queue_rules rules = { .lease_ms = qs->visibility_timeout,
		.max_attempts = (unsigned)qs->max_attempts,
		.archive = qs->on_done == ON_DONE_ARCHIVE,
		.grouped = qs->ordered == ORDERED_GROUP,
		.allow_unlogged = qs->allow_unlogged,
		.records = plugin->d.records,
		.then = qs->then };

	free(limits_read(qs, &rules.limits)); /* the settings were checked */
	if (plugin->d.max_in_flight && plugin->d.max_in_flight < LIMITS_LEAVE_FROM)
		rules.limits.leaves_one = false;
	return queue_new(&(struct queue_conns){ .first = w->pg, .second = w->second, .plugin_db = w->plugin_db },
		qs->name, &rules, plugin->d.name, plugin->d.version);
}

/* Loads and starts the plugins. Returns the exit status, 0 to go on. */
static int worker_load(struct worker *w)
{
	const struct proc_unit *unit = w->env->unit;

	w->flows = xcalloc(unit->nqueues, sizeof(*w->flows));
	for (size_t i = 0; i < unit->nqueues; i++) {
		char *errors, *rest, *line;
		struct plugin *p = plugin_load(w->env->settings, unit->queues[i], &errors);
		struct flow *f;

		if (!p) {
			stats_error(unit->slots[i], errors);
			log_error("%s", errors);
			free(errors);
			return PROC_EXIT_CONFIG;
		}
		rest = errors = plugin_void_options(p, unit->queues[i]);
		while ((line = lines_next(&rest)) != NULL)
			log_warn("queue \"%s\": %s", unit->queues[i]->name, line);
		free(errors);
		f = flow_new(w->env, unit->queues[i], unit->slots[i], p, w->base, worker_queue(w, unit->queues[i], p),
			w->transfers, &w->templates);
		w->flows[w->nflows++] = f;
		if (!flow_start(f)) {
			stats_error(unit->slots[i], "the plugin did not start");
			log_error("plugin \"%s\" did not start (see the line before)", p->d.name);
			return PROC_EXIT_RESTART;
		}
	}
	return 0;
}

/* Steps back as far as the settings say; of a group, as far as the least of its queues. */
static void worker_step_back(const struct proc_unit *unit)
{
	int by = 19;

	for (size_t i = 0; i < unit->nqueues; i++)
		if ((int)unit->queues[i]->nice < by)
			by = (int)unit->queues[i]->nice;
	errno = 0;
	if (by > 0 && nice(by) == -1 && errno != 0)
		log_warn("nice: the process goes on at its priority: %s", strerror(errno));
}

/* A persistent event of the loop. */
static struct event *worker_event(struct worker *w, evutil_socket_t fd, short what, event_callback_fn cb)
{
	struct event *e = loop_event(w->base, fd, what | EV_PERSIST, cb, w);

	loop_add(e, NULL);
	return e;
}

/* Frees everything, so that leak checkers see only leaks. */
static void worker_free(struct worker *w)
{
	struct event *events[] = { w->wake, w->parent, w->term, w->now, w->hup, w->beat, w->drain };

	for (size_t i = 0; i < w->nflows; i++)
		flow_down(w->flows[i]); /* nothing is sent any more */
	plugin_db_hang_up(w->plugin_db);
	second_hang_up(w->second);
	pgconn_hang_up(w->pg); /* every answer that is waited for owns memory */
	for (size_t i = 0; i < w->nflows; i++)
		flow_free(w->flows[i]);
	free(w->flows);
	plugin_db_free(w->plugin_db);
	second_free(w->second);
	pgconn_free(w->pg);
	spans_close();
	transfer_free(w->transfers);
	template_free(w->templates);
	for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
		if (events[i])
			event_free(events[i]);
	event_base_free(w->base);
	free(w->down_reason);
	curl_global_cleanup();
	libevent_global_shutdown();
}

int worker_main(const struct proc_env *env)
{
	struct worker w = { .env = env };
	struct timeval second = { .tv_sec = 1 };
	char *name = xasprintf("pgmqd worker %s", env->unit->name);
	int status;

	log_context_set((struct log_context){
		.process = "worker", .queue = env->unit->nqueues == 1 ? env->unit->queues[0]->name : env->unit->name });
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return PROC_EXIT_RESTART;
	w.base = event_base_new();
	if (!w.base)
		return PROC_EXIT_RESTART;
	timeline_share(env->stats->primary);
	event_base_priority_init(w.base, 2); /* 0: leases; 1, the default: all else */
	w.pg = pgconn_new(w.base, env->settings->database, name, true, &worker_events, &w);
	free(name);
	name = xasprintf("pgmqd plugin %s", env->unit->name);
	w.plugin_db = plugin_db_new(w.base, env->settings->database, name, w.pg);
	free(name);
	name = xasprintf("pgmqd settle %s", env->unit->name);
	w.second = second_new(w.base, env->settings->database, name, w.pg);
	free(name);
	w.transfers = transfer_new(w.base);
	spans_open(w.base, w.transfers, env->settings, env->slot);
	w.wake = worker_event(&w, env->unit->wake[0], EV_READ, worker_wake);
	w.parent = worker_event(&w, env->parent_fd, EV_READ, worker_orphan);
	w.term = worker_event(&w, SIGTERM, EV_SIGNAL, worker_term);
	w.now = worker_event(&w, PROC_STOP_NOW, EV_SIGNAL, worker_stop_now);
	w.hup = worker_event(&w, SIGHUP, EV_SIGNAL, worker_reload);
	w.drain = loop_timer_new(w.base, worker_drain_over, &w);
	w.beat = loop_event(w.base, -1, EV_PERSIST, worker_beat, &w);
	loop_add(w.beat, &second);
	worker_step_back(env->unit);
	status = worker_load(&w);
	if (status == 0) {
		worker_beat(-1, 0, &w);
		pgconn_start(w.pg);
		event_base_dispatch(w.base);
		spans_flush();
		log_info("stopped");
		status = w.status;
	}
	worker_free(&w);
	return status;
}
