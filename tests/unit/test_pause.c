/* test_pause.c: whether a queue pauses: an operator's word is never lost, and what is not known counts as a pause. */
#include "config.h"

#include "fake_queue.h"

#include "worker/pause.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct fake *fake;
static struct pgmqd_worker worker;
static struct messages all;
static struct pause queue_pause;

static void changed(void *arg)
{
	(void)arg;
}

static int setup(void **state)
{
	(void)state;
	fake = fake_new();
	fake_worker(fake, &worker, &all);
	pause_init(&queue_pause, &worker, changed, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pause_close(&queue_pause);
	fake_free(fake);
	return 0;
}

/* Nothing is claimed before the database has said that the queue is not paused. */
static void test_unknown_holds(void **state)
{
	(void)state;
	assert_true(pause_holds(&queue_pause));
	pause_ask(&queue_pause);
	assert_true(pause_holds(&queue_pause));
	fake_answer_pause(fake, NULL);
	assert_false(pause_holds(&queue_pause));
	pause_down(&queue_pause);
	assert_true(pause_holds(&queue_pause));
}

/* A question that fails is asked again, and the queue stays as it is, or pauses. */
static void test_lost_question(void **state)
{
	(void)state;
	pause_ask(&queue_pause);
	fake_answer_pause(fake, "by maria");
	pause_operated(&queue_pause);
	fake_fail_pause(fake, "55P03");
	assert_int_equal(queue_pause.state, PAUSE_OPERATOR);
	fake_advance(fake, 2000);
	fake_answer_pause(fake, NULL);
	assert_int_equal(queue_pause.state, PAUSE_NONE);
	pause_operated(&queue_pause);
	fake_fail_pause(fake, "57014");
	assert_true(pause_holds(&queue_pause));
	fake_advance(fake, 2000);
	fake_answer_pause(fake, NULL);
	assert_false(pause_holds(&queue_pause));
}

/* A pause or resume that arrives while the database is being asked: the answer may be older, so it is asked again. */
static void test_operated_while_asking(void **state)
{
	(void)state;
	pause_ask(&queue_pause);
	pause_operated(&queue_pause);
	assert_int_equal(fake_count(fake, FAKE_PAUSE), 1);
	fake_answer_pause(fake, NULL);
	assert_true(pause_holds(&queue_pause));
	fake_answer_pause(fake, "by maria");
	assert_int_equal(queue_pause.state, PAUSE_OPERATOR);
	assert_int_equal(fake_count(fake, FAKE_PAUSE), 0);
}

/* A schema that is older has no pauses. */
static void test_older_schema(void **state)
{
	(void)state;
	pause_ask(&queue_pause);
	fake_fail_pause(fake, "42883");
	assert_false(pause_holds(&queue_pause));
}

/* A configuration error: a pause, then one message on trial; each in a row doubles it; a success ends it. */
static void test_configuration_errors(void **state)
{
	(void)state;
	fake->qs.config_retry = 1000;
	pause_ask(&queue_pause);
	fake_answer_pause(fake, NULL);
	pause_error(&queue_pause, "no password");
	assert_true(pause_holds(&queue_pause));
	fake_advance(fake, 1100);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
	pause_error(&queue_pause, "no password");
	fake_advance(fake, 1100);
	assert_int_equal(queue_pause.state, PAUSE_ERROR);
	fake_advance(fake, 1000);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
	pause_success(&queue_pause);
	assert_int_equal(queue_pause.state, PAUSE_NONE);
}

/* An operator's resume also ends a pause after a configuration error; a pause of his outlives its end. */
static void test_operator_and_error(void **state)
{
	(void)state;
	fake->qs.config_retry = 1000;
	pause_ask(&queue_pause);
	fake_answer_pause(fake, NULL);
	pause_error(&queue_pause, "no password");
	pause_operated(&queue_pause);
	fake_answer_pause(fake, "by maria");
	assert_int_equal(queue_pause.state, PAUSE_OPERATOR);
	fake_advance(fake, 5000);
	assert_int_equal(queue_pause.state, PAUSE_OPERATOR);
	pause_operated(&queue_pause);
	fake_answer_pause(fake, NULL);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
}

/* Connected and not paused; a configuration error pauses for a second. */
static void begin(int64_t config_retry)
{
	fake->qs.config_retry = (uint64_t)config_retry;
	pause_ask(&queue_pause);
	fake_answer_pause(fake, NULL);
}

/* A pause after a configuration error outlasts a connection that is lost, and its time runs on meanwhile. */
static void test_error_and_reconnects(void **state)
{
	(void)state;
	begin(10000);
	pause_error(&queue_pause, "no password");
	for (int i = 0; i < 3; i++) {
		pause_down(&queue_pause);
		fake_advance(fake, 2000);
		pause_ask(&queue_pause);
		fake_answer_pause(fake, NULL);
		assert_int_equal(queue_pause.state, PAUSE_ERROR);
	}
	pause_down(&queue_pause);
	fake_advance(fake, 5000);
	assert_int_equal(queue_pause.state, PAUSE_UNKNOWN);
	pause_ask(&queue_pause);
	fake_answer_pause(fake, NULL);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
}

/* A message in hand that ends with a configuration error while the connection is lost pauses the queue afterwards. */
static void test_error_without_connection(void **state)
{
	(void)state;
	begin(10000);
	pause_down(&queue_pause);
	pause_error(&queue_pause, "no password");
	assert_int_equal(queue_pause.state, PAUSE_UNKNOWN);
	pause_ask(&queue_pause);
	fake_answer_pause(fake, NULL);
	assert_int_equal(queue_pause.state, PAUSE_ERROR);
}

/* Errors in a row: the pauses grow up to five minutes; many messages that fail together are one error; after a success
 * they begin anew. */
static void test_pauses_grow(void **state)
{
	(void)state;
	begin(100000);
	for (int i = 0; i < 6; i++) {
		pause_error(&queue_pause, "no password");
		for (int k = 0; k < 5; k++)
			pause_error(&queue_pause, "no password");
		fake_advance(fake, i == 0 ? 99000 : i == 1 ? 199000 : 299000);
		assert_int_equal(queue_pause.state, PAUSE_ERROR);
		fake_advance(fake, 1100);
		assert_int_equal(queue_pause.state, PAUSE_TRIAL);
	}
	pause_success(&queue_pause);
	pause_error(&queue_pause, "no password");
	fake_advance(fake, 100100);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
}

/* SIGHUP tries at once what pauses for an error; an operator's pause is not touched by it, nor by a message that ends.
 */
static void test_resume(void **state)
{
	(void)state;
	begin(1000);
	pause_error(&queue_pause, "no password");
	pause_resume(&queue_pause);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
	pause_operated(&queue_pause);
	fake_answer_pause(fake, "by maria");
	pause_resume(&queue_pause);
	assert_int_equal(queue_pause.state, PAUSE_OPERATOR);
	pause_success(&queue_pause);
	assert_int_equal(queue_pause.state, PAUSE_OPERATOR);
}

/* An operator's resume tries at once what pauses for an error; the answer to another question does not. */
static void test_operators_resume(void **state)
{
	(void)state;
	begin(1000);
	pause_operated(&queue_pause);
	fake_answer_pause(fake, NULL);
	pause_error(&queue_pause, "no password");
	pause_ask(&queue_pause); /* after a poll, say */
	fake_answer_pause(fake, NULL);
	assert_int_equal(queue_pause.state, PAUSE_ERROR);
	pause_operated(&queue_pause);
	fake_answer_pause(fake, NULL);
	assert_int_equal(queue_pause.state, PAUSE_TRIAL);
}

/* A question that was lost with the connection does not keep the next one from being asked. */
static void test_asked_anew(void **state)
{
	(void)state;
	pause_ask(&queue_pause);
	pause_down(&queue_pause);
	pause_ask(&queue_pause);
	assert_int_equal(fake_count(fake, FAKE_PAUSE), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_unknown_holds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_question, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operated_while_asking, setup, teardown),
		cmocka_unit_test_setup_teardown(test_older_schema, setup, teardown),
		cmocka_unit_test_setup_teardown(test_configuration_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operator_and_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_and_reconnects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error_without_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pauses_grow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resume, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operators_resume, setup, teardown),
		cmocka_unit_test_setup_teardown(test_asked_anew, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
