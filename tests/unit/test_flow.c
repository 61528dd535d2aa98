/* test_flow.c: the message path of one queue: claim, deliver, settle, and what comes first. */
#include "config.h"

#include "fake_queue.h"

#include "worker/flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct fake *fake;
static struct flow *flow;
static bool idle;

static void on_idle(void *arg)
{
	(void)arg;
	idle = true;
}

static int setup(void **state)
{
	static struct proc_env env;

	(void)state;
	fake = fake_new();
	fake->qs.max_in_flight = 4;
	fake->qs.prefetch = 2;
	fake->qs.max_attempts = 3;
	fake->qs.visibility_timeout = 30000;
	fake->settings.fallback_poll = 3600000;
	env = (struct proc_env){ .settings = &fake->settings, .stats = fake->stats, .slot = fake->slot };
	flow = flow_new(&env, &fake->qs, fake->slot, fake->plugin, fake->base, &fake->queue, NULL, NULL);
	fake->plugin = NULL; /* the flow's now */
	idle = false;
	assert_true(flow_start(flow));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	flow_free(flow);
	fake_free(fake);
	return 0;
}

/* Connected, not paused, and the first claim is under way. */
static void up(void)
{
	flow_up(flow);
	fake_answer_probe(fake, NULL);
	fake_answer_pause(fake, NULL);
	fake_advance(fake, 0);
	fake_answer_lock(fake, FAKE_RELEASE, true);
}

/* The way of one message. */
static void test_one_message(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	up();
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 6);
	fake_answer_claim(fake, &row, 1);
	assert_int_equal(fake->ndelivered, 1);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 7);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(flow_begun(flow), 0);
}

/* Nothing is claimed before it is known that no operator has paused the queue. */
static void test_pause_first(void **state)
{
	(void)state;
	flow_up(flow);
	fake_answer_probe(fake, NULL);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
	fake_answer_pause(fake, "by maria");
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
}

/* More urgent messages are delivered first; what finds no slot waits. */
static void test_priority_and_slots(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3, .priority = 5 }, { .id = 4 }, { .id = 5 },
		{ .id = 6 } };

	(void)state;
	up();
	fake_answer_claim(fake, rows, 6);
	assert_int_equal(fake->ndelivered, 4);
	assert_int_equal(fake->delivered[0]->id, 3);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 5);
	assert_int_equal(fake->delivered[4]->id, 5);
}

/* After a reconnect what is known is settled first, then more is claimed. */
static void test_settle_before_claim(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	up();
	fake_answer_claim(fake, &row, 1);
	fake->up = false;
	flow_down(flow);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	fake->up = true;
	fake->ncalls = 0;
	flow_up(flow);
	fake_answer_probe(fake, NULL);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
	fake_answer_pause(fake, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
}

/* A claim that brings what is in hand already: the new claim's lease goes on, and nothing is delivered twice. */
static void test_own_message_again(void **state)
{
	const struct fake_row first = { .id = 7 }, again = { .id = 7, .read_ct = 2 };

	(void)state;
	up();
	fake_answer_claim(fake, &first, 1);
	flow_told(flow, 0);
	fake_answer_claim(fake, &again, 1);
	assert_int_equal(fake->ndelivered, 1);
	assert_int_equal(fake->delivered[0]->read_ct, 2);
	assert_int_equal(fake->delivered[0]->attempt, 2);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(flow_begun(flow), 0);
}

/* The same while its outcome is under way under the former claim: it is sent once more under the new one. */
static void test_own_message_while_settling(void **state)
{
	const struct fake_row first = { .id = 7 }, again = { .id = 7, .read_ct = 2 };

	(void)state;
	up();
	fake_answer_claim(fake, &first, 1);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	flow_told(flow, 0);
	fake_answer_claim(fake, &again, 1);
	fake_answer_settle(fake, QUEUE_LOST);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 1);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 7);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(flow_begun(flow), 0);
}

/* A message that crashed the plugin at every attempt is dead-lettered, not delivered. */
static void test_attempts(void **state)
{
	const struct fake_row row = { .id = 7, .read_ct = 4 };

	(void)state;
	up();
	fake_answer_claim(fake, &row, 1);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_FAIL);
}

/* A session that cannot write is dropped; an error of rights is no reason to withhold what is large. */
static void test_claim_errors(void **state)
{
	(void)state;
	up();
	fake_fail_claim(fake, "25006");
	assert_int_equal(fake->reconnects, 1);
	flow_down(flow);
	fake->ncalls = 0;
	up();
	fake_fail_claim(fake, "42501");
	for (int i = 0; i < 8; i++) {
		fake_advance(fake, 1100);
		assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 6);
		assert_false(fake_peek(fake, FAKE_CLAIM)->look.small);
		fake_fail_claim(fake, "42501");
	}
	assert_int_equal(fake->slot->counters[STAT_CLAIMS_FAILED], 10);
	fake_advance(fake, 1100);
	fake_answer_claim(fake, NULL, 0);
	assert_true(fake->slot->gauges[GAUGE_CLAIM_OK] > 0);
}

/* A queue that pauses for a configuration error while messages rush in does not keep "awake": others hear of new work.
 */
static void test_paused_in_a_burst(void **state)
{
	struct fake_row rows[20] = { { .id = 0 } };

	(void)state;
	fake->qs.config_retry = 20000;
	up();
	for (int i = 0; i < 20; i++)
		rows[i].id = i + 1;
	fake->config_error = true;
	fake_answer_claim(fake, NULL, 0); /* the one behind the try for "in flight" */
	flow_told(flow, 0);
	fake_answer_claim(fake, rows, 20);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	fake_advance(fake, 10);
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
}

/* A drain finishes what runs, gives back what waits, and says when all is stored. */
static void test_drain(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 }, { .id = 5 } };

	(void)state;
	up();
	fake_answer_claim(fake, rows, 5);
	flow_drain(flow, on_idle, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RELEASE);
	fake_answer_settle(fake, QUEUE_SETTLED);
	for (int i = 0; i < 4; i++)
		flow_settle(fake->delivered[i], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_false(idle);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake_advance(fake, 0);
	assert_true(idle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_priority_and_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settle_before_claim, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_message_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_message_while_settling, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attempts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claim_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paused_in_a_burst, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
