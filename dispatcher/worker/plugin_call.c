/* plugin_call.c: the doors through which the host calls a plugin: context and stopwatch round every call, reports of
 * misuse, the templates of the process. */
#include "config.h"

#include "worker/plugin_call.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "process/stats.h"
#include "settings/settings.h"
#include "worker/plugin.h"

#include <stdlib.h>

#define STALL_MS 50          /* a callback that takes so long delays all other messages and is reported */
#define STALL_EVERY_MS 10000 /* at most this often */

struct pgmqd_worker *plugin_call_current;
uint64_t plugin_call_serial;
unsigned plugin_call_misuses;
void (*plugin_call_reap)(struct pgmqd_worker *w);

struct log_context plugin_call_enter(const struct pgmqd_worker *w, int64_t msg_id)
{
	struct log_context c = *w->log;

	c.msg_id = msg_id;
	return log_context_set(c);
}

struct log_context plugin_call_enter_msg(const struct pgmqd_msg *m)
{
	struct log_context c = m->worker ? *m->worker->log : (struct log_context){ 0 };

	c.msg_id = m->id;
	c.trace_id = m->trace.id;
	return log_context_set(c);
}

void plugin_call_leave(struct log_context former)
{
	log_context_set(former);
}

struct plugin_call plugin_call_begin(struct pgmqd_worker *w, int64_t msg_id)
{
	struct plugin_call c = { .former = plugin_call_enter(w, msg_id), .outer = plugin_call_current };

	if (!c.outer) { /* calls inside calls are part of the outer one */
		plugin_call_serial++;
		c.began_us = clock_monotonic_us();
	}
	plugin_call_current = w;
	return c;
}

struct plugin_call plugin_call_begin_msg(const struct pgmqd_msg *m)
{
	struct plugin_call c = plugin_call_begin(m->worker, m->id);

	plugin_call_enter_msg(m); /* what the former context was is in c already */
	return c;
}

/* Keeps how long the loop stood still in a plugin. */
static void plugin_call_measure(struct pgmqd_worker *w, int64_t us)
{
	int64_t now = clock_monotonic_ms();

	if (!w->slot)
		return;
	stats_observe(w->slot, HIST_CALLBACK, us);
	if (us > w->worst_us) {
		w->worst_us = us;
		stats_gauge(w->slot, GAUGE_STALL, us);
	}
	if (us >= STALL_MS * 1000 && (!w->warned_ms || now - w->warned_ms >= STALL_EVERY_MS)) {
		w->warned_ms = now;
		log_warn("plugin \"%s\" kept the loop waiting for %lld ms in one callback; it must not block",
			w->log->plugin, (long long)us / 1000);
	}
}

void plugin_call_end(struct plugin_call c)
{
	struct pgmqd_worker *w = plugin_call_current;

	plugin_call_current = c.outer;
	if (!c.outer)
		plugin_call_measure(w, clock_monotonic_us() - c.began_us);
	log_context_set(c.former);
}

bool plugin_call_start(struct pgmqd_worker *w)
{
	struct plugin_call call = plugin_call_begin(w, 0);
	int rc = w->plugin->d.start ? w->plugin->d.start(w->plugin->handle, w) : 0;

	plugin_call_end(call);
	return rc == 0;
}

void plugin_call_deliver(struct pgmqd_msg *m)
{
	struct plugin *p = m->worker->plugin;
	struct plugin_call call = plugin_call_begin_msg(m);

	p->d.deliver(p->handle, m);
	plugin_call_end(call);
}

void plugin_call_deliver_batch(struct pgmqd_worker *w, struct pgmqd_msg *const *msgs, size_t n)
{
	struct plugin_call call = plugin_call_begin(w, 0);

	w->plugin->d.deliver_batch(w->plugin->handle, msgs, n);
	plugin_call_end(call);
}

void plugin_call_cancel(struct pgmqd_msg *m)
{
	struct plugin *p = m->worker->plugin;

	m->cancelling = true;
	message_end_resources(m);
	if (p->d.cancel) {
		struct plugin_call call = plugin_call_begin_msg(m);

		p->d.cancel(p->handle, m);
		plugin_call_end(call);
	}
	m->cancelling = false;
	m->cancelled = true;
}

void plugin_call_reload(struct pgmqd_worker *w)
{
	if (w->plugin->d.reload) {
		struct plugin_call call = plugin_call_begin(w, 0);

		w->plugin->d.reload(w->plugin->handle);
		plugin_call_end(call);
	}
}

void plugin_call_stop(struct pgmqd_worker *w)
{
	if (w->plugin->d.stop) {
		struct plugin_call call = plugin_call_begin(w, 0);

		w->plugin->d.stop(w->plugin->handle);
		plugin_call_end(call);
	}
}

void plugin_call_misuse(struct pgmqd_worker *w, int64_t msg_id, const char *fmt, ...)
{
	struct log_context former;
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	if (!w)
		w = plugin_call_current;
	plugin_call_misuses++;
	if (w) {
		if (w->slot)
			stats_add(w->slot, STAT_MISUSE, 1);
		former = plugin_call_enter(w, msg_id);
		log_error("misuse by plugin \"%s\": %s", w->log->plugin ? w->log->plugin : "?", text);
		plugin_call_leave(former);
	} else {
		log_error("misuse by a plugin: %s", text);
	}
	free(text);
}

void plugin_call_check_left(struct pgmqd_worker *w)
{
	if (w->timers)
		plugin_call_misuse(w, 0, "%u timers are left after stop(); pgmqd_timer_cancel() ends one", w->timers);
	if (w->handles)
		plugin_call_misuse(w, 0,
			"%u easy handles are left after stop(); pgmqd_curl_remove() takes one out, and "
			"pgmqd_http_discard() ends a request",
			w->handles);
	if (w->children)
		plugin_call_misuse(
			w, 0, "%u programs are left running after stop(); pgmqd_child_end() ends one", w->children);
	if (plugin_call_reap)
		plugin_call_reap(w);
}

struct template_set *plugin_call_templates(struct pgmqd_worker *w, char **error)
{
	cJSON *brand;

	*error = NULL;
	if (*w->templates)
		return *w->templates;
	brand = settings_brand(w->settings);
	*w->templates = template_load(&(struct template_source){ .dir = w->settings->template_dir,
					      .below = template_shipped(),
					      .default_lang = w->settings->default_lang,
					      .brand = brand },
		error);
	cJSON_Delete(brand);
	return *w->templates;
}
