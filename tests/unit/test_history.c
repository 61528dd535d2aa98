/* test_history.c: the last ten minutes: points out of counters, quantiles out of histograms, what is left out, what
 * comes and goes. */
#include "config.h"

#include "base/clock.h"
#include "control/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The list of a queue in the JSON of a history. */
static cJSON *list_of(const cJSON *json, const char *queue, const char *name)
{
	const cJSON *queues = cJSON_GetObjectItemCaseSensitive(json, "queues");

	return cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(queues, queue), name);
}

/* Quantiles lie between the bounds of their bucket; an empty histogram has none. */
static void test_quantile(void **state)
{
	uint64_t bucket[STATS_NBOUNDS + 1] = { 0 };

	(void)state;
	assert_true(history_quantile(bucket, 0.5) < 0);
	bucket[3] = 10;
	double p50 = history_quantile(bucket, 0.5), p99 = history_quantile(bucket, 0.99);
	assert_true(p50 > (double)stats_bounds_us[2] && p50 < p99 && p99 <= (double)stats_bounds_us[3]);
	bucket[STATS_NBOUNDS] = 1000; /* above all bounds */
	assert_true(history_quantile(bucket, 0.99) == (double)stats_bounds_us[STATS_NBOUNDS - 1]);
}

/* A step's counts are what was added in it; a queue that goes is forgotten; what the asker has is left out. */
static void test_points(void **state)
{
	struct stats *st = stats_create(4);
	struct stats_slot *s = stats_take(st, ROLE_WORKER, "q", "q", "null");
	struct history *h = history_new();
	cJSON *json;

	(void)state;
	atomic_store(&st->started_ms, clock_monotonic_ms());
	stats_add(s, STAT_DONE, 5);
	history_take(h, st); /* pgmqd has only begun: all of it counts */
	stats_add(s, STAT_DONE, 2);
	stats_observe(s, HIST_WAIT, 1500);
	history_take(h, st);
	json = history_json(h, 0);
	assert_int_equal(cJSON_GetArraySize(list_of(json, "q", "done")), 2);
	assert_int_equal(cJSON_GetArrayItem(list_of(json, "q", "done"), 0)->valueint, 5);
	assert_int_equal(cJSON_GetArrayItem(list_of(json, "q", "done"), 1)->valueint, 2);
	assert_true(cJSON_IsNull(cJSON_GetArrayItem(list_of(json, "q", "wait_p50_ms"), 0)));
	assert_true(cJSON_GetArrayItem(list_of(json, "q", "wait_p50_ms"), 1)->valuedouble > 0);
	cJSON_Delete(json);
	json = history_json(h, 1);
	assert_int_equal(cJSON_GetArraySize(list_of(json, "q", "done")), 1);
	cJSON_Delete(json);
	atomic_store(&s->counters[STAT_DONE], 3); /* a process that was started again counts from nothing */
	history_take(h, st);
	json = history_json(h, 2);
	assert_int_equal(cJSON_GetArrayItem(list_of(json, "q", "done"), 0)->valueint, 3);
	cJSON_Delete(json);
	for (int i = 0; i < 3 * HISTORY_POINTS; i++)
		history_take(h, st);
	json = history_json(h, 0);
	assert_int_equal(cJSON_GetArraySize(list_of(json, "q", "failed")), HISTORY_POINTS);
	cJSON_Delete(json);
	stats_release(st, s);
	history_take(h, st);
	json = history_json(h, 0);
	assert_null(list_of(json, "q", "done"));
	cJSON_Delete(json);
	history_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_quantile), cmocka_unit_test(test_points) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
