/* test_delivery.c: batches: when they go, how many at once, and what goes alone. */
#include "config.h"

#include "fake_flow.h"

#include "worker/delivery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 } };

/* A flow whose plugin takes three messages in one call. */
static int setup(void **state)
{
	flow_batch = 3;
	return fake_flow_setup(state);
}

/* The same, and room for two such calls. */
static int setup_two(void **state)
{
	flow_batch = 3;
	flow_limit = 7;
	return fake_flow_setup(state);
}

/* The same after a crash. */
static int setup_crashed(void **state)
{
	flow_crashed = true;
	return setup(state);
}

/* The plugin ends a message as done, and the database knows it. */
static void done(unsigned at)
{
	flow_settle(fake->delivered[at], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake_advance(fake, 0);
}

/* A full batch goes at once; one that is not full goes when its time is up. */
static void test_full_or_due(void **state)
{
	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 3);
	assert_int_equal(fake->batches, 1);
	assert_int_equal(fake->batch, 3);
	for (unsigned i = 0; i < 3; i++)
		done(i);
	flow_told(flow, 0);
	fake_answer_claim(fake, &rows[3], 1);
	assert_int_equal(fake->batches, 1);
	fake_advance(fake, 1000);
	assert_int_equal(fake->batches, 1);
	fake_advance(fake, 1000);
	assert_int_equal(fake->batches, 2);
	assert_int_equal(fake->batch, 1);
}

/* What comes while the plugin has a batch waits for the next one, and goes when all of the first one is over. */
static void test_one_call_at_once(void **state)
{
	(void)state;
	fake_up();
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 5); /* a batch, and what is claimed ahead */
	fake_answer_claim(fake, rows, 4);
	assert_int_equal(fake->batch, 3);
	done(0);
	done(2);
	fake_advance(fake, 2000);
	assert_int_equal(fake->batches, 1);
	done(1);
	assert_int_equal(fake->batches, 2);
	assert_int_equal(fake->delivered[3]->id, 4);
}

/* max_in_flight = 7 is room for two batches of three. */
static void test_two_calls_at_once(void **state)
{
	const struct fake_row more[] = { { .id = 5 }, { .id = 6 }, { .id = 7 } };

	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 3);
	flow_told(flow, 0);
	fake_answer_claim(fake, more, 3);
	assert_int_equal(fake->batches, 2);
	assert_int_equal(fake->ndelivered, 6);
}

/* A message that was tried before goes alone, and parts a batch in two. */
static void test_retries_go_alone(void **state)
{
	const struct fake_row some[] = { { .id = 1 }, { .id = 2, .read_ct = 2 }, { .id = 3 } };

	(void)state;
	fake_up();
	fake_answer_claim(fake, some, 3);
	assert_int_equal(fake->batch, 1);
	assert_int_equal(fake->delivered[fake->ndelivered - 1]->id, 2);
	assert_int_equal(fake->ndelivered, 2);
	done(0);
	done(1);
	fake_advance(fake, 2000);
	assert_int_equal(fake->ndelivered, 3);
}

/* With one attempt in all none may be lost to another message. */
static void test_one_attempt(void **state)
{
	(void)state;
	fake->qs.max_attempts = 1;
	fake_up();
	fake_answer_claim(fake, rows, 3);
	assert_int_equal(fake->batch, 1);
	assert_int_equal(fake->batches, 3);
}

/* A message of a batch that the host takes back does not touch the others. */
static void test_deadline_of_a_batch(void **state)
{
	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 3);
	done(1);
	fake_advance(fake, (int64_t)10 * 30000 - 1);
	fake_advance(fake, 1);
	assert_int_equal(fake->cancelled, 2);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RETRY);
}

/* What comes back from a call that failed as a whole goes alone, with the claim that it has. */
static void test_taken_apart(void **state)
{
	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 3);
	for (unsigned i = 0; i < 3; i++)
		delivery_apart(fake->delivered[i]);
	flow_tick(flow);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 6);
	assert_int_equal(fake->batch, 1);
	assert_int_equal(fake->delivered[3]->attempt, 1);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	done(3);
	done(4);
	done(5);
	assert_int_equal(fake->batches, 4);
	assert_int_equal(flow_begun(flow), 0);
}

/* After a crash each message goes alone: one that crashes the plugin again takes no other one with it. */
static void test_after_a_crash(void **state)
{
	(void)state;
	fake_up();
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 1);
	fake_answer_claim(fake, rows, 1);
	assert_int_equal(fake->batches, 1);
	assert_int_equal(fake->batch, 1);
}

/* A batch whose plugin says that the settings are wrong: the queue pauses, and one message tries them. */
static void test_configuration_error(void **state)
{
	(void)state;
	fake->qs.config_retry = 20000;
	fake_up();
	fake->config_error = true;
	fake_answer_claim(fake, rows, 3);
	assert_int_equal(fake->ndelivered, 3);
	fake_advance(fake, 0);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake->config_error = false;
	fake_advance(fake, 25000);
	fake_answer_claim(fake, rows, 1);
	assert_int_equal(fake->batches, 2);
	assert_int_equal(fake->batch, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_full_or_due, setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_one_call_at_once, setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_two_calls_at_once, setup_two, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_retries_go_alone, setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_one_attempt, setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_deadline_of_a_batch, setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_taken_apart, setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_after_a_crash, setup_crashed, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_configuration_error, setup, fake_flow_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
