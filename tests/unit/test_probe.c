/* test_probe.c: the queue's tables: asked for after each connect and each error that says so, and not in a circle. */
#include "config.h"

#include "fake_queue.h"

#include "worker/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct fake *fake;
static struct pgmqd_worker worker;
static struct messages all;
static struct probe probe;
static unsigned known, unknown;

static void on_known(void *arg)
{
	(void)arg;
	known++;
	worker.up = true;
}

static void on_unknown(void *arg)
{
	(void)arg;
	unknown++;
}

static int setup(void **state)
{
	(void)state;
	fake = fake_new();
	fake_worker(fake, &worker, &all);
	worker.up = false;
	probe_init(&probe, &worker, on_known, on_unknown, NULL);
	known = unknown = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	probe_close(&probe);
	fake_free(fake);
	return 0;
}

/* A queue that is not there is looked for until it is. */
static void test_missing(void **state)
{
	(void)state;
	probe_up(&probe);
	for (int i = 0; i < 3; i++) {
		fake_answer_probe(fake, "there is no such queue");
		assert_int_equal(known, 0);
		fake_advance(fake, 60000);
	}
	fake_answer_probe(fake, NULL);
	assert_int_equal(known, 1);
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 0);
}

/* While they are asked for, nothing is sent to them, and they are asked for once. */
static void test_under_way(void **state)
{
	(void)state;
	probe_up(&probe);
	fake_answer_probe(fake, NULL);
	probe_now(&probe);
	assert_false(worker.up);
	probe_now(&probe);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
	assert_int_equal(unknown, 2);
}

/* An error that comes back though the tables are as they should be: they are asked for now and then. */
static void test_no_circle(void **state)
{
	(void)state;
	probe_up(&probe);
	fake_answer_probe(fake, NULL);
	probe_stale(&probe);
	assert_false(worker.up);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 0);
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
	fake_answer_probe(fake, NULL);
	fake_advance(fake, 60000);
	probe_stale(&probe); /* long after: at once */
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
}

/* They are not looked at once more when something else had them looked at meanwhile. */
static void test_overtaken(void **state)
{
	(void)state;
	probe_up(&probe);
	fake_answer_probe(fake, NULL);
	probe_stale(&probe);
	probe_now(&probe);
	fake_answer_probe(fake, NULL);
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 0);
	assert_int_equal(unknown, 3);
}

/* An answer that comes with the end of its connection says nothing. */
static void test_lost(void **state)
{
	(void)state;
	probe_up(&probe);
	fake->up = false;
	fake_answer_probe(fake, NULL);
	assert_int_equal(known, 0);
	probe_down(&probe);
	fake->up = true;
	probe_up(&probe);
	fake_answer_probe(fake, NULL);
	assert_int_equal(known, 1);
}

/* A doubt has them looked at once, and again only after a while. */
static void test_doubt(void **state)
{
	(void)state;
	probe_up(&probe);
	fake_answer_probe(fake, NULL);
	probe_doubt(&probe);
	fake_answer_probe(fake, NULL);
	assert_int_equal(known, 2);
	probe_doubt(&probe);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 0);
	assert_true(worker.up);
	fake_advance(fake, 5001);
	probe_doubt(&probe);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
	fake_answer_probe(fake, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_under_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_doubt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_circle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overtaken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
