/* prometheus.c: writes what stands in the shared mapping as Prometheus text, one family after the other. */
#include "config.h"

#include "control/prometheus.h"

#include "base/clock.h"
#include "base/xalloc.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The taken slots, ordered so that the processes of one queue stand together: their counters are added up. */
struct prometheus_view {
	const struct stats_slot **slots;
	size_t n;
};

static const struct {
	const char *name, *help;
} prometheus_histograms[STATS_NHISTOGRAMS] = {
	[HIST_WAKE] = { "wake_seconds", "Time from when the message fell due to the notification, or other wake-up, "
					"that led to the claim; first attempts that no timer woke." },
	[HIST_CLAIM] = { "claim_seconds",
		"Time from that wake-up (or when it fell due, if later) to the claimed message." },
	[HIST_LAG] = { "loop_lag_seconds",
		"How late the worker's loop comes to a timer of one second: what keeps it busy or stalls it." },
	[HIST_WAIT] = { "wait_seconds", "Time from when the message fell due (enqueued, or at the end of its delay or "
					"of the pause before a retry) to the start of the handler." },
	[HIST_RUN] = { "run_seconds", "Time from the start of the handler to its outcome." },
	[HIST_SETTLE] = { "settle_seconds", "Time from the outcome to its commit in the database." },
	[HIST_CALLBACK] = { "callback_seconds", "Time that one callback of the plugin kept the loop waiting." },
};

/* Orders by role, queue and plugin. */
static int prometheus_compare(const void *a, const void *b)
{
	const struct stats_slot *x = *(const struct stats_slot *const *)a, *y = *(const struct stats_slot *const *)b;
	int rx = atomic_load(&x->role), ry = atomic_load(&y->role), c;

	if (rx != ry)
		return rx < ry ? -1 : 1;
	if ((c = strcmp(x->queue, y->queue)) != 0)
		return c;
	return strcmp(x->plugin, y->plugin);
}

/* Collects the taken slots. */
static void prometheus_collect(struct prometheus_view *v, const struct stats *st)
{
	size_t i, n = st->nslots; /* it may grow meanwhile */

	v->slots = xcalloc(n, sizeof *v->slots);
	v->n = 0;
	for (i = 0; i < n; i++)
		if (atomic_load(&st->slot[i].role) != ROLE_FREE)
			v->slots[v->n++] = &st->slot[i];
	qsort(v->slots, v->n, sizeof *v->slots, prometheus_compare);
}

/* Where the slots end that belong to the same queue and plugin as the i-th. */
static size_t prometheus_group_end(const struct prometheus_view *v, size_t i)
{
	size_t j = i + 1;

	/* Listener and control process have no queue, and each is a group of its own. */
	while (j < v->n && v->slots[i]->queue[0] != '\0' && prometheus_compare(&v->slots[i], &v->slots[j]) == 0)
		j++;
	return j;
}

/* Writes a label's value with what the format wants escaped. */
void prometheus_label(struct evbuffer *out, const char *name, const char *value, const char *separator)
{
	evbuffer_add_printf(out, "%s%s=\"", separator, name);
	for (; *value != '\0'; value++)
		if (*value == '\n')
			evbuffer_add(out, "\\n", 2);
		else if (*value == '"' || *value == '\\')
			evbuffer_add_printf(out, "\\%c", *value);
		else
			evbuffer_add(out, value, 1);
	evbuffer_add(out, "\"", 1);
}

/* Writes the labels that tell one group from another, without the closing brace. */
static void prometheus_labels(struct evbuffer *out, const struct stats_slot *s)
{
	evbuffer_add(out, "{", 1);
	if (s->queue[0] != '\0') {
		prometheus_label(out, "queue", s->queue, "");
		prometheus_label(out, "plugin", s->plugin, ",");
	} else
		prometheus_label(out, "process", s->process, "");
}

/* Writes HELP and TYPE. */
void prometheus_head(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP pgmqd_%s %s\n# TYPE pgmqd_%s %s\n", name, help, name, type);
}

/* Whether a counter means something for a role; a zero that can never change is left out. */
static bool prometheus_has_counter(int role, enum stats_counter c)
{
	if (role == ROLE_WORKER)
		return c < STAT_NOTIFICATIONS;
	return role == ROLE_LISTENER && (c >= STAT_NOTIFICATIONS || c == STAT_RECONNECTS);
}

/* The same for a gauge. */
static bool prometheus_has_gauge(int role, enum stats_gauge g)
{
	if (role == ROLE_WORKER)
		return g != GAUGE_HEARING && g != GAUGE_TAKEN_OVER;
	return role == ROLE_LISTENER && (g == GAUGE_CONNECTED || g == GAUGE_HEARING || g == GAUGE_TAKEN_OVER);
}

/* Writes one counter of all queues. */
static void prometheus_counter(
	struct evbuffer *out, const struct prometheus_view *v, enum stats_counter c, const char *name, const char *help)
{
	size_t i, j, end;
	uint64_t sum;

	prometheus_head(out, name, "counter", help);
	for (i = 0; i < v->n; i = end) {
		end = prometheus_group_end(v, i);
		if (!prometheus_has_counter(atomic_load(&v->slots[i]->role), c))
			continue;
		for (sum = 0, j = i; j < end; j++)
			sum += atomic_load_explicit(&v->slots[j]->counters[c], memory_order_relaxed);
		evbuffer_add_printf(out, "pgmqd_%s", name);
		prometheus_labels(out, v->slots[i]);
		evbuffer_add_printf(out, "} %" PRIu64 "\n", sum);
	}
}

/* Writes one gauge of all queues. */
static void prometheus_gauge(
	struct evbuffer *out, const struct prometheus_view *v, enum stats_gauge g, const char *name, const char *help)
{
	size_t i, j, end;
	int64_t sum;

	prometheus_head(out, name, "gauge", help);
	for (i = 0; i < v->n; i = end) {
		end = prometheus_group_end(v, i);
		if (!prometheus_has_gauge(atomic_load(&v->slots[i]->role), g))
			continue;
		for (sum = 0, j = i; j < end; j++)
			if (g != GAUGE_STALL && g != GAUGE_CLAIM_OK)
				sum += atomic_load_explicit(&v->slots[j]->gauges[g], memory_order_relaxed);
			else if (atomic_load_explicit(&v->slots[j]->gauges[g], memory_order_relaxed) > sum)
				sum = atomic_load_explicit(&v->slots[j]->gauges[g], memory_order_relaxed);
		evbuffer_add_printf(out, "pgmqd_%s", name);
		prometheus_labels(out, v->slots[i]);
		if (g == GAUGE_STALL) /* kept in microseconds, shown in the base unit */
			evbuffer_add_printf(out, "} %.6f\n", (double)sum / 1e6);
		else
			evbuffer_add_printf(out, "} %" PRId64 "\n", sum);
	}
}

/* Writes one histogram of all queues. The count is the sum of the buckets as they were read, so that the two always
 * agree. */
static void prometheus_histogram(struct evbuffer *out, const struct prometheus_view *v, enum stats_histogram h)
{
	const char *name = prometheus_histograms[h].name;
	size_t i, j, end, b;
	uint64_t count, sum;

	prometheus_head(out, name, "histogram", prometheus_histograms[h].help);
	for (i = 0; i < v->n; i = end) {
		end = prometheus_group_end(v, i);
		if (atomic_load(&v->slots[i]->role) != ROLE_WORKER)
			continue;
		for (sum = 0, j = i; j < end; j++)
			sum += atomic_load_explicit(&v->slots[j]->hist[h].sum_us, memory_order_relaxed);
		for (count = 0, b = 0; b <= STATS_NBOUNDS; b++) {
			for (j = i; j < end; j++)
				count += atomic_load_explicit(&v->slots[j]->hist[h].bucket[b], memory_order_relaxed);
			evbuffer_add_printf(out, "pgmqd_%s_bucket", name);
			prometheus_labels(out, v->slots[i]);
			if (b < STATS_NBOUNDS)
				evbuffer_add_printf(
					out, ",le=\"%g\"} %" PRIu64 "\n", (double)stats_bounds_us[b] / 1e6, count);
			else
				evbuffer_add_printf(out, ",le=\"+Inf\"} %" PRIu64 "\n", count);
		}
		evbuffer_add_printf(out, "pgmqd_%s_sum", name);
		prometheus_labels(out, v->slots[i]);
		evbuffer_add_printf(out, "} %" PRIu64 ".%06" PRIu64 "\n", sum / 1000000, sum % 1000000);
		evbuffer_add_printf(out, "pgmqd_%s_count", name);
		prometheus_labels(out, v->slots[i]);
		evbuffer_add_printf(out, "} %" PRIu64 "\n", count);
	}
}

/* Only the first slot of a process beats; the other queues of a group have its word. */
bool prometheus_process_up(const struct stats *st, const struct stats_slot *s, int64_t beat_limit_ms)
{
	int pid = atomic_load(&s->pid);

	for (size_t i = 0; i < st->nslots && !s->lead; i++)
		if (st->slot[i].lead && pid != 0 && atomic_load(&st->slot[i].pid) == pid)
			s = &st->slot[i];
	return pid != 0 && clock_monotonic_ms() - atomic_load(&s->beat_ms) <= beat_limit_ms;
}

/* Writes one value per process that is in service, and what comes in front of it. */
static void prometheus_process_line(struct evbuffer *out, const struct stats_slot *s, const char *name)
{
	static const char *const roles[] = { "free", "supervisor", "listener", "worker", "control" };

	evbuffer_add_printf(out, "pgmqd_%s{", name);
	prometheus_label(out, "role", roles[atomic_load(&s->role)], "");
	prometheus_label(out, "process", s->process, ",");
}

/* Writes what is known of processes rather than queues. */
static void prometheus_processes(
	struct evbuffer *out, const struct stats *st, const struct prometheus_view *v, int64_t beat_limit_ms)
{
	size_t i;
	int state, is;

	prometheus_head(out, "process_up", "gauge", "1 while the process runs and gives signs of life.");
	for (i = 0; i < v->n; i++)
		if (v->slots[i]->lead && !atomic_load(&v->slots[i]->retired)) {
			prometheus_process_line(out, v->slots[i], "process_up");
			evbuffer_add_printf(
				out, "} %d\n", prometheus_process_up(st, v->slots[i], beat_limit_ms) ? 1 : 0);
		}
	prometheus_head(out, "process_restarts_total", "counter", "Starts of the process after it died.");
	for (i = 0; i < v->n; i++)
		if (v->slots[i]->lead && !atomic_load(&v->slots[i]->retired)) {
			prometheus_process_line(out, v->slots[i], "process_restarts_total");
			evbuffer_add_printf(out, "} %" PRIu32 "\n", atomic_load(&v->slots[i]->restarts));
		}
	prometheus_head(out, "process_state", "gauge",
		"1 for the state that the process (of each of its queues) is in, 0 for the others.");
	for (i = 0; i < v->n; i++) {
		if (atomic_load(&v->slots[i]->retired))
			continue;
		is = atomic_load(&v->slots[i]->state);
		for (state = 0; state < STATS_NSTATES; state++) {
			prometheus_process_line(out, v->slots[i], "process_state");
			if (v->slots[i]->queue[0] != '\0')
				prometheus_label(out, "queue", v->slots[i]->queue, ",");
			prometheus_label(out, "state", stats_state_name(state), ",");
			evbuffer_add_printf(out, "} %d\n", state == is ? 1 : 0);
		}
	}
}

/* Whether the k-th number of slot i is the first of its name in the slots from `from` on (and of its label's value,
 * when that is given). */
static bool prometheus_extra_first(const struct prometheus_view *v, size_t from, size_t i, size_t k, const char *value)
{
	const char *name = v->slots[i]->extra[k].name;
	size_t j, m;

	for (j = from; j <= i; j++)
		for (m = 0; m < (j < i ? STATS_NEXTRA : k) && atomic_load(&v->slots[j]->extra[m].kind) != 0; m++)
			if (strcmp(v->slots[j]->extra[m].name, name) == 0 &&
				(value == NULL || strcmp(v->slots[j]->extra[m].value, value) == 0))
				return false;
	return true;
}

/* Writes one number of one queue: the processes' counters added up, of their gauges the highest. */
static void prometheus_extra_line(
	struct evbuffer *out, const struct prometheus_view *v, size_t i, size_t end, const struct stats_extra *x)
{
	int64_t sum = 0, number;
	size_t j, m;

	for (j = i; j < end; j++)
		for (m = 0; m < STATS_NEXTRA && atomic_load(&v->slots[j]->extra[m].kind) != 0; m++)
			if (strcmp(v->slots[j]->extra[m].name, x->name) == 0 &&
				strcmp(v->slots[j]->extra[m].value, x->value) == 0) {
				number = atomic_load_explicit(&v->slots[j]->extra[m].number, memory_order_relaxed);
				sum = atomic_load(&x->kind) == STATS_EXTRA_COUNTER ? sum + number
				      : number > sum                               ? number
				                                                   : sum;
			}
	evbuffer_add_printf(out, "pgmqd_%s", x->name);
	prometheus_labels(out, v->slots[i]);
	prometheus_label(out, x->label, x->value, ",");
	evbuffer_add_printf(out, "} %" PRId64 "\n", sum);
}

/* Writes one number of the plugins', of all queues. */
static void prometheus_extra_family(
	struct evbuffer *out, const struct prometheus_view *v, const struct stats_extra *family)
{
	size_t i, j, k, end;

	prometheus_head(out, family->name, atomic_load(&family->kind) == STATS_EXTRA_COUNTER ? "counter" : "gauge",
		family->help);
	for (i = 0; i < v->n; i = end) {
		end = prometheus_group_end(v, i);
		for (j = i; j < end; j++)
			for (k = 0; k < STATS_NEXTRA && atomic_load(&v->slots[j]->extra[k].kind) != 0; k++) {
				const struct stats_extra *x = &v->slots[j]->extra[k];

				if (strcmp(x->name, family->name) == 0 && prometheus_extra_first(v, i, j, k, x->value))
					prometheus_extra_line(out, v, i, end, x);
			}
	}
}

/* Writes the numbers that plugins keep. */
static void prometheus_extras(struct evbuffer *out, const struct prometheus_view *v)
{
	size_t i, k;

	for (i = 0; i < v->n; i++)
		for (k = 0; k < STATS_NEXTRA && atomic_load(&v->slots[i]->extra[k].kind) != 0; k++)
			if (prometheus_extra_first(v, 0, i, k, NULL))
				prometheus_extra_family(out, v, &v->slots[i]->extra[k]);
}

/* Writes everything. */
void prometheus_write(const struct stats *st, int64_t beat_limit_ms, struct evbuffer *out)
{
	struct prometheus_view v;
	int h;

	prometheus_collect(&v, st);
	prometheus_head(out, "build_info", "gauge", "Always 1; the version is in the label.");
	evbuffer_add_printf(out, "pgmqd_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
	prometheus_head(out, "start_time_seconds", "gauge", "When pgmqd was started, in seconds since 1970.");
	evbuffer_add_printf(out, "pgmqd_start_time_seconds %.3f\n",
		(double)clock_realtime_us() / 1e6 -
			(double)(clock_monotonic_ms() - atomic_load(&st->started_ms)) / 1e3);
	prometheus_head(out, "settings_generation", "gauge", "How many times settings were put in force.");
	evbuffer_add_printf(out, "pgmqd_settings_generation %" PRIu32 "\n", atomic_load(&st->generation));
	prometheus_processes(out, st, &v, beat_limit_ms);
#define PROMETHEUS_COUNTER(id, name, help) prometheus_counter(out, &v, id, name, help);
	STATS_COUNTERS(PROMETHEUS_COUNTER)
#undef PROMETHEUS_COUNTER
#define PROMETHEUS_GAUGE(id, name, help) prometheus_gauge(out, &v, id, name, help);
	STATS_GAUGES(PROMETHEUS_GAUGE)
#undef PROMETHEUS_GAUGE
	for (h = 0; h < STATS_NHISTOGRAMS; h++)
		prometheus_histogram(out, &v, (enum stats_histogram)h);
	prometheus_extras(out, &v);
	free(v.slots);
}
