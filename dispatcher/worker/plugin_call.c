/* plugin_call.c: the doors between host and plugin: context and stopwatch round every call, reports of misuse, the
 * templates of the process. */
#include "config.h"

#include "worker/plugin_call.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "worker/flow.h"

#include <stdlib.h>

#define STALL_MS 50          /* a callback that takes so long holds everybody up and is told of */
#define STALL_EVERY_MS 10000 /* at most this often */

struct pgmqd_worker *host_current;
uint64_t host_serial;
unsigned host_misuses;
void (*host_reap)(struct pgmqd_worker *w);

struct log_context host_enter(const struct pgmqd_worker *w, int64_t msg_id)
{
	struct log_context c = *w->log;

	c.msg_id = msg_id;
	return log_context_set(c);
}

struct log_context host_enter_msg(const struct pgmqd_msg *m)
{
	struct log_context c = m->flow ? *m->flow->host.log : (struct log_context){ 0 };

	c.msg_id = m->id;
	c.trace_id = m->trace.id;
	return log_context_set(c);
}

void host_leave(struct log_context former)
{
	log_context_set(former);
}

struct host_call host_call(struct pgmqd_worker *w, int64_t msg_id)
{
	struct host_call c = { .former = host_enter(w, msg_id), .outer = host_current };

	if (!c.outer) { /* calls inside calls are part of the outer one */
		host_serial++;
		c.began_us = clock_monotonic_us();
	}
	host_current = w;
	return c;
}

struct host_call host_call_msg(const struct pgmqd_msg *m)
{
	struct host_call c = host_call(&m->flow->host, m->id);

	host_enter_msg(m); /* what the former context was is in c already */
	return c;
}

/* Keeps how long the loop stood still in a plugin. */
static void host_measure(struct pgmqd_worker *w, int64_t us)
{
	int64_t now = clock_monotonic_ms();

	if (!w->flow)
		return;
	stats_observe(w->flow->slot, HIST_CALLBACK, us);
	if (us > w->worst_us) {
		w->worst_us = us;
		stats_gauge(w->flow->slot, GAUGE_STALL, us);
	}
	if (us >= STALL_MS * 1000 && (!w->warned_ms || now - w->warned_ms >= STALL_EVERY_MS)) {
		w->warned_ms = now;
		log_warn("plugin \"%s\" kept the loop waiting for %lld ms in one callback; it must not block",
			w->log->plugin, (long long)us / 1000);
	}
}

void host_return(struct host_call c)
{
	struct pgmqd_worker *w = host_current;

	host_current = c.outer;
	if (!c.outer)
		host_measure(w, clock_monotonic_us() - c.began_us);
	log_context_set(c.former);
}

void host_misuse(struct pgmqd_worker *w, int64_t msg_id, const char *fmt, ...)
{
	struct log_context former;
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	if (!w)
		w = host_current;
	host_misuses++;
	if (w) {
		if (w->flow)
			stats_add(w->flow->slot, STAT_MISUSE, 1);
		former = host_enter(w, msg_id);
		log_error("misuse by plugin \"%s\": %s", w->log->plugin ? w->log->plugin : "?", text);
		host_leave(former);
	} else {
		log_error("misuse by a plugin: %s", text);
	}
	free(text);
}

void host_check_left(struct pgmqd_worker *w)
{
	if (w->timers)
		host_misuse(w, 0, "%u timers are left after stop(); pgmqd_timer_cancel() ends one", w->timers);
	if (w->transfers)
		host_misuse(w, 0,
			"%u easy handles are left in the multi after stop(); pgmqd_curl_remove() takes one out",
			w->transfers);
	if (w->children)
		host_misuse(w, 0, "%u programs are left running after stop(); pgmqd_child_end() ends one", w->children);
	if (host_reap)
		host_reap(w);
}

struct template_set *host_templates(struct pgmqd_worker *w, char **error)
{
	*error = NULL;
	if (!*w->templates)
		*w->templates = template_load(w->template_dir, w->default_lang, error);
	return *w->templates;
}
