/* test_stats.c: slots, counters across processes, bounds of histograms, error texts, the Prometheus text. */
#include "config.h"

#include "base/clock.h"
#include "control/prometheus.h"
#include "process/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* A counter's value. */
static uint64_t counter(const struct stats_slot *s, enum stats_counter c)
{
	return atomic_load(&s->counters[c]);
}

static void test_slots_run_out_and_come_back(void **state)
{
	struct stats *st = stats_create(3);
	struct stats_slot *a, *b, *c;

	(void)state;
	assert_int_equal(stats_free_slots(st), 3);
	a = stats_take(st, ROLE_LISTENER, "listener", NULL, NULL);
	b = stats_take(st, ROLE_WORKER, "email_queue", "email_queue", "email");
	c = stats_take(st, ROLE_WORKER, "x", "x", "null");
	assert_non_null(a);
	assert_non_null(c);
	assert_string_equal(b->process, "email_queue");
	assert_string_equal(b->plugin, "email");
	assert_int_equal(b->lead, 1);
	assert_null(stats_take(st, ROLE_WORKER, "y", "y", "null"));
	stats_add(b, STAT_DONE, 5);
	stats_error(b, "old");
	stats_release(st, b);
	assert_int_equal(stats_free_slots(st), 1);
	b = stats_take(st, ROLE_WORKER, "y", "y", "null");
	assert_non_null(b);
	assert_int_equal(counter(b, STAT_DONE), 0);
	assert_string_equal(b->last_error, "");
}

static void test_counts_outlive_a_reload(void **state)
{
	struct stats *st = stats_create(4);
	struct stats_slot *old = stats_take(st, ROLE_WORKER, "q", "q", "email"), *other, *older, *fresh;

	(void)state;
	older = stats_take(st, ROLE_WORKER, "q", "q", "email");
	other = stats_take(st, ROLE_WORKER, "r", "r", "email");
	atomic_store(&old->retired, 1);
	atomic_store(&older->retired, 1);
	stats_add(old, STAT_DONE, 7);
	stats_observe(old, HIST_RUN, 300);
	stats_observe(old, HIST_RUN, INT64_C(100000000));
	fresh = stats_take(st, ROLE_WORKER, "q", "q", "email");
	stats_add(fresh, STAT_DONE, 2);
	stats_release(st, old);
	assert_int_equal(counter(fresh, STAT_DONE), 9);
	assert_int_equal(counter(older, STAT_DONE), 0);
	assert_int_equal(counter(other, STAT_DONE), 0);
	assert_int_equal(atomic_load(&fresh->hist[HIST_RUN].bucket[2]), 1);
	assert_int_equal(atomic_load(&fresh->hist[HIST_RUN].bucket[STATS_NBOUNDS]), 1);
	assert_int_equal(atomic_load(&fresh->hist[HIST_RUN].sum_us), 100000300);
}

static void test_processes_share_the_mapping(void **state)
{
	struct stats *st = stats_create(1);
	struct stats_slot *s = stats_take(st, ROLE_WORKER, "q", "q", "null");
	int i, status;
	pid_t pid[2];

	(void)state;
	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		assert_int_not_equal(pid[i], -1);
		if (pid[i] == 0) {
			for (i = 0; i < 10000; i++)
				stats_add(s, STAT_CLAIMED, 1);
			stats_gauge(s, GAUGE_RUNNING, 4);
			stats_state(s, STATE_READY);
			stats_beat(s);
			_exit(0);
		}
	}
	for (i = 0; i < 2; i++)
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
	assert_int_equal(counter(s, STAT_CLAIMED), 20000);
	assert_int_equal(atomic_load(&s->gauges[GAUGE_RUNNING]), 4);
	assert_int_equal(atomic_load(&s->state), STATE_READY);
	assert_true(atomic_load(&s->beat_ms) > 0 && atomic_load(&s->beat_ms) <= clock_monotonic_ms());
}

static void test_histogram_bounds(void **state)
{
	struct stats *st = stats_create(1);
	struct stats_slot *s = stats_take(st, ROLE_WORKER, "q", "q", "null");
	size_t i;

	(void)state;
	for (i = 1; i < STATS_NBOUNDS; i++)
		assert_true(stats_bounds_us[i] > stats_bounds_us[i - 1]);
	assert_int_equal(stats_bounds_us[0], 100);
	assert_int_equal(stats_bounds_us[STATS_NBOUNDS - 1], 60000000);
	for (i = 0; i < STATS_NBOUNDS; i++) {
		stats_observe(s, HIST_WAIT, (int64_t)stats_bounds_us[i]); /* on the bound: inside, as le says */
		assert_int_equal(atomic_load(&s->hist[HIST_WAIT].bucket[i]), i == 0 ? 1 : 2);
		stats_observe(s, HIST_WAIT, (int64_t)stats_bounds_us[i] + 1);
		assert_int_equal(atomic_load(&s->hist[HIST_WAIT].bucket[i + 1]), 1);
	}
	stats_observe(s, HIST_WAIT, -1);
	assert_int_equal(atomic_load(&s->hist[HIST_WAIT].bucket[0]), 2);
	assert_int_equal(atomic_load(&s->hist[HIST_WAIT].count), 2 * STATS_NBOUNDS + 1);
	assert_int_equal(atomic_load(&s->hist[HIST_RUN].count), 0);
}

/* What is said once, over processes, queues and texts; one too many is said rather than kept back. */
static void test_first(void **state)
{
	struct stats *st = stats_create(2);
	struct stats_slot *a = stats_take(st, ROLE_WORKER, "a", "a", "null");
	struct stats_slot *b = stats_take(st, ROLE_WORKER, "b", "b", "null");
	char text[16];
	pid_t pid;
	int status;

	(void)state;
	assert_true(stats_first(st, a, "key"));
	assert_false(stats_first(st, a, "key"));
	assert_true(stats_first(st, a, "other") && stats_first(st, a, "") && stats_first(st, b, "key"));
	if ((pid = fork()) == 0)
		_exit(stats_first(st, a, "key") || !stats_first(st, a, "child's"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(stats_first(st, a, "child's"));
	for (int i = 0; i < STATS_NTOLD; i++) {
		snprintf(text, sizeof text, "%d", i);
		assert_true(stats_first(st, a, text));
	}
	assert_true(stats_first(st, a, "no room") && stats_first(st, a, "no room"));
	assert_false(stats_first(st, b, "key"));
}

static void test_error_text(void **state)
{
	struct stats *st = stats_create(1);
	struct stats_slot *s = stats_take(st, ROLE_WORKER, "q", "q", "null");
	char text[1000], buf[1000];
	size_t i;

	(void)state;
	stats_error_read(s, buf, sizeof buf);
	assert_string_equal(buf, "");
	stats_error(s, "connection refused");
	stats_error_read(s, buf, sizeof buf);
	assert_string_equal(buf, "connection refused");
	stats_error_read(s, buf, 5);
	assert_string_equal(buf, "conn");
	/* Two-byte letters, moved by one so that the cut falls into the middle of one: the text ends in front of it. */
	text[0] = 'x';
	for (i = 1; i + 2 < sizeof text; i += 2)
		memcpy(text + i, "ы", 2);
	text[i] = '\0';
	stats_error(s, text);
	stats_error_read(s, buf, sizeof buf);
	assert_int_equal(strlen(buf), sizeof s->last_error - 1);
	stats_error(s, text + 1);
	stats_error_read(s, buf, sizeof buf);
	assert_int_equal(strlen(buf), sizeof s->last_error - 2);
	/* A writer that died in the middle. */
	atomic_fetch_add(&s->error_seq, 1);
	stats_error_read(s, buf, sizeof buf);
	stats_error(s, "mended");
	assert_int_equal(atomic_load(&s->error_seq) & 1, 0);
	stats_error_read(s, buf, sizeof buf);
	assert_string_equal(buf, "mended");
}

static void test_state_names(void **state)
{
	int i, j;

	(void)state;
	assert_string_equal(stats_state_name(STATE_READY), "ready");
	assert_string_equal(stats_state_name(STATE_CRASH_LOOP), "crash_loop");
	assert_string_equal(stats_state_name(-1), "unknown");
	assert_string_equal(stats_state_name(STATS_NSTATES), "unknown");
	for (i = 0; i < STATS_NSTATES; i++)
		for (j = 0; j < i; j++)
			assert_string_not_equal(stats_state_name(i), stats_state_name(j));
}

/* The Prometheus text of a mapping; NUL-terminated, to be freed. */
static char *metrics_text(const struct stats *st)
{
	struct evbuffer *out = evbuffer_new();
	size_t len;
	char *text;

	assert_non_null(out);
	prometheus_write(st, 5000, out);
	len = evbuffer_get_length(out);
	text = malloc(len + 1);
	assert_non_null(text);
	evbuffer_remove(out, text, len);
	text[len] = '\0';
	evbuffer_free(out);
	return text;
}

/* Whether `line` stands in the text, once, as a whole line. */
static void assert_line(const char *text, const char *line)
{
	const char *at = text;
	size_t len = strlen(line);
	int found = 0;

	while ((at = strstr(at, line)) != NULL) {
		if ((at == text || at[-1] == '\n') && at[len] == '\n')
			found++;
		at += len;
	}
	if (found != 1)
		fail_msg("%d times in the metrics: %s", found, line);
}

/* Only the first slot of a process beats: a group's other queues are as alive as that one. */
static void test_group_is_up(void **state)
{
	struct stats *st = stats_create(2);
	struct stats_slot *first = stats_take(st, ROLE_WORKER, "group:g", "one", "null");
	struct stats_slot *second = stats_take(st, ROLE_WORKER, "group:g", "two", "null");

	(void)state;
	first->lead = 1;
	second->lead = 0;
	assert_false(prometheus_process_up(st, second, 5000));
	atomic_store(&first->pid, 7);
	atomic_store(&second->pid, 7);
	stats_beat(first);
	atomic_store(&second->beat_ms, clock_monotonic_ms() - 60000);
	assert_true(prometheus_process_up(st, second, 5000));
	atomic_store(&first->beat_ms, clock_monotonic_ms() - 60000);
	assert_false(prometheus_process_up(st, second, 5000));
}

static void test_metrics(void **state)
{
	struct stats *st = stats_create(8);
	struct stats_slot *sup = stats_take(st, ROLE_SUPERVISOR, "supervisor", NULL, NULL), *listener, *one, *two, *old,
			  *odd;
	char *text;

	(void)state;
	listener = stats_take(st, ROLE_LISTENER, "listener", NULL, NULL);
	one = stats_take(st, ROLE_WORKER, "q/1", "q", "email");
	odd = stats_take(st, ROLE_WORKER, "odd", "a\"b\\c\nd", "null");
	two = stats_take(st, ROLE_WORKER, "q/2", "q", "email");
	old = stats_take(st, ROLE_WORKER, "q/1", "q", "email");
	atomic_store(&old->retired, 1);
	atomic_store(&sup->pid, 1);
	stats_beat(sup);
	atomic_store(&one->pid, 2);
	stats_beat(one);
	stats_state(one, STATE_READY);
	atomic_store(&two->pid, 3);
	atomic_store(&two->beat_ms, clock_monotonic_ms() - 6000);
	atomic_store(&two->restarts, 4);
	stats_add(one, STAT_DONE, 1);
	stats_add(two, STAT_DONE, 10);
	stats_add(old, STAT_DONE, 100);
	stats_add(odd, STAT_DONE, 3);
	stats_add(listener, STAT_NOTIFICATIONS, 12);
	stats_gauge(listener, GAUGE_HEARING, 1);
	stats_gauge(one, GAUGE_RUNNING, 2);
	stats_gauge(two, GAUGE_RUNNING, 3);
	stats_observe(one, HIST_RUN, 700);
	stats_observe(two, HIST_RUN, 1500000);
	stats_observe(two, HIST_RUN, 70000000);
	text = metrics_text(st);
	assert_line(text, "pgmqd_build_info{version=\"" PACKAGE_VERSION "\"} 1");
	assert_line(text, "# TYPE pgmqd_done_total counter");
	assert_line(text, "pgmqd_done_total{queue=\"q\",plugin=\"email\"} 111");
	assert_line(text, "pgmqd_done_total{queue=\"a\\\"b\\\\c\\nd\",plugin=\"null\"} 3");
	assert_line(text, "pgmqd_notifications_total{process=\"listener\"} 12");
	assert_line(text, "pgmqd_hearing{process=\"listener\"} 1");
	assert_line(text, "pgmqd_running{queue=\"q\",plugin=\"email\"} 5");
	assert_line(text, "pgmqd_process_up{role=\"supervisor\",process=\"supervisor\"} 1");
	assert_line(text, "pgmqd_process_up{role=\"worker\",process=\"q/1\"} 1");
	assert_line(text, "pgmqd_process_up{role=\"worker\",process=\"q/2\"} 0");
	assert_line(text, "pgmqd_process_restarts_total{role=\"worker\",process=\"q/2\"} 4");
	assert_line(text, "pgmqd_process_state{role=\"worker\",process=\"q/1\",queue=\"q\",state=\"ready\"} 1");
	assert_line(text, "pgmqd_process_state{role=\"worker\",process=\"q/1\",queue=\"q\",state=\"paused\"} 0");
	assert_line(text, "# TYPE pgmqd_run_seconds histogram");
	assert_line(text, "pgmqd_run_seconds_bucket{queue=\"q\",plugin=\"email\",le=\"0.0005\"} 0");
	assert_line(text, "pgmqd_run_seconds_bucket{queue=\"q\",plugin=\"email\",le=\"0.001\"} 1");
	assert_line(text, "pgmqd_run_seconds_bucket{queue=\"q\",plugin=\"email\",le=\"2.5\"} 2");
	assert_line(text, "pgmqd_run_seconds_bucket{queue=\"q\",plugin=\"email\",le=\"60\"} 2");
	assert_line(text, "pgmqd_run_seconds_bucket{queue=\"q\",plugin=\"email\",le=\"+Inf\"} 3");
	assert_line(text, "pgmqd_run_seconds_sum{queue=\"q\",plugin=\"email\"} 71.500700");
	assert_line(text, "pgmqd_run_seconds_count{queue=\"q\",plugin=\"email\"} 3");
	if (getenv("PRINT_METRICS") != NULL)
		fputs(text, stdout);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots_run_out_and_come_back),
		cmocka_unit_test(test_counts_outlive_a_reload),
		cmocka_unit_test(test_processes_share_the_mapping),
		cmocka_unit_test(test_histogram_bounds),
		cmocka_unit_test(test_first),
		cmocka_unit_test(test_error_text),
		cmocka_unit_test(test_state_names),
		cmocka_unit_test(test_metrics),
		cmocka_unit_test(test_group_is_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
