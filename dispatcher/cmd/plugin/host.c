/* host.c: runs a plugin on messages that do not come from a queue. The message path, the plugin interface and the loop
 * are the daemon's own; only the queue is not (queue_file.c).
 */
#include "config.h"

#include "cmd/plugin/host.h"

#include "base/clock.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "worker/flow.h"
#include "worker/transfer.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

/* A message that is retried can be claimed once more. */
static void host_claim(evutil_socket_t fd, short what, void *arg)
{
	struct host *h = arg;

	(void)fd, (void)what;
	flow_told(h->flow, 0);
}

void host_open(struct host *h, struct settings *s, struct queue_settings *q, struct plugin *p,
	const struct queue_file_source *source, void *arg)
{
	struct stats_slot *slot;
	struct proc_env env = { .settings = s };

	h->stats = env.stats = stats_create(1);
	slot = env.slot = stats_take(h->stats, ROLE_WORKER, "test", q->name, q->plugin);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(h->base = event_base_new()))
		abort();
	h->transfers = transfer_new(h->base);
	h->again = loop_event(h->base, -1, 0, host_claim, h);
	h->flow = flow_new(
		&env, q, slot, p, h->base, queue_file_new(h->base, source, arg), h->transfers, &h->templates);
}

bool host_start(struct host *h)
{
	if (!flow_start(h->flow))
		return false;
	flow_up(h->flow);
	return true;
}

void host_again(struct host *h)
{
	event_active(h->again, 0, 0);
}

/* Everything is settled. */
static void host_is_idle(void *arg)
{
	struct host *h = arg;

	h->idle = true;
	event_base_loopbreak(h->base);
}

void host_finish(struct host *h)
{
	flow_drain(h->flow, host_is_idle, h);
}

void host_close(struct host *h)
{
	flow_free(h->flow);
	transfer_free(h->transfers);
	template_free(h->templates);
	event_free(h->again);
	event_base_free(h->base);
	curl_global_cleanup();
	libevent_global_shutdown();
}

/* ---- time ---- */

/* The timers and descriptors that the host waits for. */
struct waits {
	struct event **timers;
	struct pollfd *fds;
	size_t n, nfds;
};

/* Collects one event of the loop. */
static int host_collect(const struct event_base *base, const struct event *ev, void *arg)
{
	struct waits *w = arg;
	short what = event_get_events(ev);

	(void)base;
	if (event_get_fd(ev) >= 0 && !(what & EV_SIGNAL)) {
		w->fds = xrealloc(w->fds, w->nfds + 1, sizeof(*w->fds));
		w->fds[w->nfds++] = (struct pollfd){ .fd = event_get_fd(ev),
			.events = (short)((what & EV_READ ? POLLIN : 0) | (what & EV_WRITE ? POLLOUT : 0)) };
	}
	if (event_pending(ev, EV_TIMEOUT, NULL)) {
		w->timers = xrealloc(w->timers, w->n + 1, sizeof(*w->timers));
		w->timers[w->n++] = (struct event *)(uintptr_t)ev;
	}
	return 0;
}

/* Brings all timers so much nearer that the first one is due, and puts the clocks forward by as much. */
static void host_skip(struct waits *w)
{
	struct timeval now, at, least = { 0, 0 };

	evutil_gettimeofday(&now, NULL);
	for (size_t i = 0; i < w->n; i++) {
		event_pending(w->timers[i], EV_TIMEOUT, &at);
		if (i == 0 || evutil_timercmp(&at, &least, <))
			least = at;
	}
	if (evutil_timercmp(&least, &now, <))
		return;
	for (size_t i = 0; i < w->n; i++) {
		event_pending(w->timers[i], EV_TIMEOUT, &at);
		evutil_timersub(&at, &least, &at);
		evtimer_add(w->timers[i], &at);
	}
	evutil_timersub(&least, &now, &least);
	clock_skip_ms((int64_t)least.tv_sec * 1000 + (least.tv_usec + 999) / 1000);
}

/* One look at what there is to do. What a program or a server does takes its time; what only a timer waits for need
 * not. */
static void host_look(struct host *h)
{
	struct waits w = { 0 };

	if (event_base_get_num_events(h->base, EVENT_BASE_COUNT_ACTIVE) > 0)
		return;
	event_base_foreach_event(h->base, host_collect, &w);
	if (flow_children(h->flow) || (w.nfds && !h->own_sockets))
		event_base_loop(h->base, EVLOOP_ONCE);
	else if (w.n && (!w.nfds || poll(w.fds, (nfds_t)w.nfds, 0) == 0))
		host_skip(&w);
	free(w.timers);
	free(w.fds);
}

void host_run(struct host *h)
{
	if (!h->skip_time)
		event_base_dispatch(h->base);
	while (h->skip_time && !h->idle && event_base_loop(h->base, EVLOOP_NONBLOCK) == 0 && !h->idle)
		host_look(h);
}

/* ---- outcomes ---- */

const char *host_outcome_name(const struct pgmqd_msg *m)
{
	return m->outcome == OUT_DONE_WITH                  ? "done_with"
	       : m->outcome == OUT_CONFIG                   ? "config_error"
	       : m->outcome == OUT_RELEASE && !m->cancelled ? "postpone"
	                                                    : outcome_name(m->outcome);
}

/* Adds JSON of the plugin's; as a text when it is none. */
static void add_json(cJSON *o, const char *name, const char *text)
{
	cJSON *parsed = cJSON_Parse(text);

	if (parsed)
		cJSON_AddRawToObject(o, name, text);
	else
		cJSON_AddStringToObject(o, name, text);
	cJSON_Delete(parsed);
}

cJSON *host_outcome(const struct pgmqd_msg *m)
{
	cJSON *o = cJSON_CreateObject(), *params;
	char *list;

	cJSON_AddNumberToObject(o, "id", (double)m->id);
	cJSON_AddNumberToObject(o, "attempt", m->attempt);
	cJSON_AddStringToObject(o, "outcome", host_outcome_name(m));
	if ((m->outcome == OUT_RETRY || m->outcome == OUT_REPLACE || m->outcome == OUT_RELEASE) && m->delay_ms > 1)
		cJSON_AddNumberToObject(o, "delay_ms", (double)m->delay_ms);
	if (m->reason)
		cJSON_AddStringToObject(o, "reason", m->reason);
	if (m->outcome == OUT_REPLACE)
		cJSON_AddStringToObject(o, "message", m->sql);
	if (m->outcome == OUT_DONE_WITH) {
		cJSON_AddStringToObject(o, "sql", m->sql);
		params = cJSON_AddArrayToObject(o, "params");
		for (int i = 0; i < m->nparams; i++)
			cJSON_AddItemToArray(
				params, m->params[i] ? cJSON_CreateString(m->params[i]) : cJSON_CreateNull());
	}
	if (m->result)
		add_json(o, "result", m->result);
	if (m->sends) {
		list = xasprintf("[%s]", m->sends);
		add_json(o, "sends", list);
		free(list);
	}
	return o;
}
