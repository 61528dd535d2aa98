/* history.c: the last ten minutes of each queue, for charts: what was settled, and how long it took. */
#include "config.h"

#include "control/history.h"

#include "base/clock.h"
#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The fields of a point. */
enum { DONE, RETRIED, FAILED, NCOUNTS };
enum { WAIT_P50, WAIT_P99, RUN_P50, RUN_P99, NTIMES };

struct history_point {
	uint32_t count[NCOUNTS];
	float us[NTIMES]; /* -1: nothing was settled */
};

/* Counters of a queue, all its processes together. */
struct history_sum {
	uint64_t count[NCOUNTS];
	uint64_t wait[STATS_NBOUNDS + 1], run[STATS_NBOUNDS + 1];
};

struct history_queue {
	char name[64];
	uint64_t first; /* number of its first point */
	struct history_sum last, recorded;
	struct history_point point[HISTORY_POINTS]; /* the n-th at n % HISTORY_POINTS */
};

struct history {
	uint64_t taken; /* points; the newest has this number */
	struct history_queue *queue;
	size_t nqueues;
};

struct history *history_new(void)
{
	return xcalloc(1, sizeof(struct history));
}

void history_free(struct history *h)
{
	if (h == NULL)
		return;
	free(h->queue);
	free(h);
}

double history_quantile(const uint64_t bucket[STATS_NBOUNDS + 1], double q)
{
	uint64_t total = 0, below = 0;
	double wanted, low;

	for (size_t i = 0; i <= STATS_NBOUNDS; i++)
		total += bucket[i];
	if (total == 0)
		return -1;
	wanted = q * (double)total;
	for (size_t i = 0; i < STATS_NBOUNDS; i++) {
		low = i > 0 ? (double)stats_bounds_us[i - 1] : 0;
		if (bucket[i] > 0 && (double)(below + bucket[i]) >= wanted)
			return low + ((double)stats_bounds_us[i] - low) * (wanted - (double)below) / (double)bucket[i];
		below += bucket[i];
	}
	return (double)stats_bounds_us[STATS_NBOUNDS - 1]; /* values above the last bound are not told apart */
}

/* Adds up what the processes of a queue have counted. */
static void history_gather(const struct stats *st, const char *queue, struct history_sum *sum)
{
	static const enum stats_counter counters[NCOUNTS] = { STAT_DONE, STAT_RETRIED, STAT_FAILED };

	memset(sum, 0, sizeof *sum);
	for (size_t i = 0; i < st->nslots; i++) {
		const struct stats_slot *s = &st->slot[i];

		if (atomic_load(&s->role) != ROLE_WORKER || strcasecmp(s->queue, queue) != 0)
			continue;
		for (int c = 0; c < NCOUNTS; c++)
			sum->count[c] += atomic_load(&s->counters[counters[c]]);
		for (int b = 0; b <= STATS_NBOUNDS; b++) {
			sum->wait[b] += atomic_load(&s->hist[HIST_WAIT].bucket[b]);
			sum->run[b] += atomic_load(&s->hist[HIST_RUN].bucket[b]);
		}
	}
}

/* The growth since then; a counter that is smaller than before was restarted. */
static uint64_t history_since(uint64_t now, uint64_t before)
{
	return now >= before ? now - before : now;
}

/* One point, out of two sums. */
static struct history_point history_between(const struct history_sum *now, const struct history_sum *before)
{
	uint64_t wait[STATS_NBOUNDS + 1], run[STATS_NBOUNDS + 1];
	struct history_point p;

	for (int c = 0; c < NCOUNTS; c++)
		p.count[c] = (uint32_t)history_since(now->count[c], before->count[c]);
	for (int b = 0; b <= STATS_NBOUNDS; b++) {
		wait[b] = history_since(now->wait[b], before->wait[b]);
		run[b] = history_since(now->run[b], before->run[b]);
	}
	p.us[WAIT_P50] = (float)history_quantile(wait, 0.5);
	p.us[WAIT_P99] = (float)history_quantile(wait, 0.99);
	p.us[RUN_P50] = (float)history_quantile(run, 0.5);
	p.us[RUN_P99] = (float)history_quantile(run, 0.99);
	return p;
}

/* The queue of that name, new if need be; a new one counts from what it has now, or from nothing when pgmqd has only
 * begun. */
static struct history_queue *history_queue(struct history *h, const struct stats *st, const char *name)
{
	struct history_queue *q;

	for (size_t i = 0; i < h->nqueues; i++)
		if (strcmp(h->queue[i].name, name) == 0)
			return &h->queue[i];
	h->queue = xrealloc(h->queue, h->nqueues + 1, sizeof *h->queue);
	q = &h->queue[h->nqueues++];
	memset(q, 0, sizeof *q);
	memcpy(q->name, name, strlen(name) + 1);
	q->first = h->taken;
	if (clock_monotonic_ms() - atomic_load(&st->started_ms) > HISTORY_STEP_S * 2000)
		history_gather(st, name, &q->last);
	q->recorded = q->last;
	return q;
}

/* Whether a worker of this dispatcher has the queue. */
static bool history_served(const struct stats *st, const char *name)
{
	for (size_t i = 0; i < st->nslots; i++)
		if (atomic_load(&st->slot[i].role) == ROLE_WORKER && strcasecmp(st->slot[i].queue, name) == 0)
			return true;
	return false;
}

void history_take(struct history *h, const struct stats *st)
{
	struct history_sum now;

	h->taken++;
	for (size_t i = 0; i < st->nslots; i++)
		if (atomic_load(&st->slot[i].role) == ROLE_WORKER && st->slot[i].queue[0] != '\0')
			history_queue(h, st, st->slot[i].queue);
	for (size_t i = 0; i < h->nqueues;) {
		struct history_queue *q = &h->queue[i];

		if (!history_served(st, q->name)) { /* a reload has removed it */
			*q = h->queue[--h->nqueues];
			continue;
		}
		history_gather(st, q->name, &now);
		q->point[h->taken % HISTORY_POINTS] = history_between(&now, &q->last);
		q->last = now;
		i++;
	}
}

cJSON *history_since_recorded(struct history *h)
{
	static const char *const names[NCOUNTS] = { "done", "retried", "failed" };
	cJSON *rows = cJSON_CreateArray();

	for (size_t i = 0; i < h->nqueues; i++) {
		struct history_queue *q = &h->queue[i];
		cJSON *row, *wait;
		uint64_t any = 0;

		for (int c = 0; c < NCOUNTS; c++)
			any += history_since(q->last.count[c], q->recorded.count[c]);
		if (any == 0)
			continue;
		row = cJSON_CreateObject();
		cJSON_AddStringToObject(row, "queue", q->name);
		for (int c = 0; c < NCOUNTS; c++)
			cJSON_AddNumberToObject(
				row, names[c], (double)history_since(q->last.count[c], q->recorded.count[c]));
		wait = cJSON_AddArrayToObject(row, "wait");
		for (int b = 0; b <= STATS_NBOUNDS; b++)
			cJSON_AddItemToArray(
				wait, cJSON_CreateNumber((double)history_since(q->last.wait[b], q->recorded.wait[b])));
		q->recorded = q->last;
		cJSON_AddItemToArray(rows, row);
	}
	return rows;
}

/* Adds a number; null when it is negative, which means unknown. */
static void history_number(cJSON *list, double value, double scale)
{
	cJSON_AddItemToArray(
		list, value < 0 ? cJSON_CreateNull() : cJSON_CreateNumber((double)(long)(value * scale + 0.5) / 1000));
}

/* One queue's points from number `from` on. */
static cJSON *history_points(const struct history_queue *q, uint64_t from, uint64_t to)
{
	static const char *const counts[NCOUNTS] = { "done", "retried", "failed" };
	static const char *const times[NTIMES] = { "wait_p50_ms", "wait_p99_ms", "run_p50_ms", "run_p99_ms" };
	cJSON *json = cJSON_CreateObject(), *list;
	uint64_t n;

	if (from < q->first)
		from = q->first;
	for (int c = 0; c < NCOUNTS; c++) {
		list = cJSON_AddArrayToObject(json, counts[c]);
		for (n = from; n <= to; n++)
			cJSON_AddItemToArray(list, cJSON_CreateNumber(q->point[n % HISTORY_POINTS].count[c]));
	}
	for (int t = 0; t < NTIMES; t++) {
		list = cJSON_AddArrayToObject(json, times[t]);
		for (n = from; n <= to; n++)
			history_number(list, q->point[n % HISTORY_POINTS].us[t], 1);
	}
	return json;
}

cJSON *history_json(const struct history *h, uint64_t after)
{
	cJSON *json = cJSON_CreateObject(), *queues;
	uint64_t from = after + 1;

	if (h->taken >= HISTORY_POINTS && from < h->taken - HISTORY_POINTS + 1)
		from = h->taken - HISTORY_POINTS + 1;
	cJSON_AddNumberToObject(json, "step_seconds", HISTORY_STEP_S);
	cJSON_AddNumberToObject(json, "last", (double)h->taken);
	queues = cJSON_AddObjectToObject(json, "queues");
	for (size_t i = 0; i < h->nqueues; i++)
		cJSON_AddItemToObject(queues, h->queue[i].name, history_points(&h->queue[i], from, h->taken));
	return json;
}
