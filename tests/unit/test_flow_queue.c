/* test_flow_queue.c: the message path and its queue: pauses, what a claim says of the queue, and the end. */
#include "config.h"

#include "fake_flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* ---- pauses ---- */

/* An operator's pause: nothing is claimed whatever comes; when it ends, a claim is made at once. */
static void test_operators_pause(void **state)
{
	(void)state;
	fake_asleep();
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, "by maria");
	fake_advance(fake, 0);
	flow_told(flow, 0);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
}

/* A queue that was asleep when it was paused looks when the pause ends. */
static void test_looks_after_a_pause(void **state)
{
	(void)state;
	fake_asleep();
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, "by maria");
	fake_advance(fake, 0);
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
}

/* A configuration error gives back at once what was claimed with it; then one message is tried, and all when it works.
 */
static void test_configuration_error(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 }, { .id = 5 } };

	(void)state;
	fake->qs.config_retry = 20000;
	fake_asleep();
	fake->config_error = true;
	flow_told(flow, 0);
	fake_answer_claim(fake, rows, 5);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 1);
	assert_int_equal(fake->slot->counters[STAT_CONFIG_ERRORS], 1);
	assert_int_equal(flow_begun(flow), 5); /* all of them have an outcome */
	while (fake_count(fake, FAKE_SETTLE))
		fake_answer_settle(fake, QUEUE_SETTLED);
	fake_advance(fake, 10);
	while (fake_count(fake, FAKE_SETTLE))
		fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(flow_begun(flow), 0);
	fake->config_error = false;
	fake_advance(fake, 20100);
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 1);
	fake_answer_claim(fake, rows, 1);
	flow_settle(fake->delivered[1], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 6);
}

/* A pause that comes while "awake" is being asked for gives it up at once. */
static void test_pause_while_waking(void **state)
{
	struct fake_row rows[20] = { { .id = 0 } };

	(void)state;
	fake_asleep();
	for (int i = 0; i < 20; i++)
		rows[i].id = i + 1;
	flow_told(flow, 0);
	fake_answer_claim(fake, rows, 20);
	assert_int_equal(fake_count(fake, FAKE_AWAKE), 1);
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, "by maria");
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
}

/* When it is news whether notifications arrive, and with each poll while they do not, a pause may have been missed. */
static void test_pause_is_asked_for(void **state)
{
	(void)state;
	fake_asleep();
	flow_hearing(flow, false);
	fake_answer_pause(fake, NULL);
	fake_answer_claim(fake, NULL, 0);
	fake_advance(fake, (int64_t)fake->settings.poll_when_deaf + 100);
	assert_int_equal(fake_count(fake, FAKE_PAUSE), 1);
}

/* ---- what a claim says of the queue ---- */

/* Tables that have changed are looked at again, by a claim's word or its error. */
static void test_changed_tables(void **state)
{
	(void)state;
	fake_asleep();
	flow_told(flow, 0);
	fake->about.changed = true;
	fake_answer_claim(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
	fake->about.changed = false;
	fake_answer_probe(fake, NULL);
	fake_advance(fake, 0);
	fake_fail_claim(fake, "42P01");
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
}

/* So are they when a claim that should still hold its message does not: a trigger that is new may be why. */
static void test_doubted_tables(void **state)
{
	const struct fake_row row = { .id = 1 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &row, 1);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_int_equal(fake_count(fake, FAKE_PROBE), 1);
}

/* Where producers stay silent because the notification queue fills up, the queue is polled. */
static void test_silent_producers(void **state)
{
	(void)state;
	fake_asleep();
	flow_hearing(flow, true);
	fake->about.silent = 1;
	fake_answer_claim(fake, NULL, 0);
	fake_advance(fake, (int64_t)fake->settings.poll_when_deaf + 100);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
}

/* A message that a poll finds though notifications arrive was missed. */
static void test_missed(void **state)
{
	const struct fake_row row = { .id = 7, .late_ms = 5000 };

	(void)state;
	fake_asleep();
	flow_hearing(flow, true);
	fake_answer_claim(fake, NULL, 0);
	fake_advance(fake, 3700000);
	fake_answer_claim(fake, &row, 1);
	assert_int_equal(fake->slot->counters[STAT_MISSED], 1);
}

/* ---- the end ---- */

/* A stopping worker claims nothing more, and tells others of what it gives back, visible at once. */
static void test_drain_tells_others(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 }, { .id = 5 } };

	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 5);
	fake_flow_drain();
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RELEASE);
	assert_true(fake_peek(fake, FAKE_SETTLE)->delay_ms <= 0);
	assert_int_equal(fake->announced, 1);
	flow_told(flow, 0);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
}

/* It gives "awake" up. */
static void test_drain_awake(void **state)
{
	struct fake_row rows[20] = { { .id = 0 } };

	(void)state;
	fake_asleep();
	for (int i = 0; i < 20; i++)
		rows[i].id = i + 1;
	flow_told(flow, 0);
	fake_answer_claim(fake, rows, 20);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	fake_flow_drain();
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
}

/* At the end of its time it takes back what runs, at no cost; an outcome that comes from the cancelling is ignored. */
static void test_give_up(void **state)
{
	const struct fake_row row = { .id = 1 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &row, 1);
	fake->stubborn = fake->took = true;
	fake_flow_drain();
	flow_give_up(flow);
	fake_advance(fake, 0);
	assert_int_equal(fake->cancelled, 1);
	assert_false(fake->took);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RELEASE);
}

/* ---- rows that cannot be claimed ---- */

/* One is handed over as a dead letter, and once, though looks bring it again until that is stored. */
static void test_refused_row(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 } };

	(void)state;
	fake_up();
	fake->about.refused = 1;
	fake_answer_claim(fake, rows, 2);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 1);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_FAIL);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 2);
	flow_told(flow, 0);
	fake_answer_claim(fake, &rows[1], 1);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	assert_int_equal(fake->slot->counters[STAT_FAILED], 1);
}

/* ---- a message ahead of its look ---- */

/* What was notified of while the queue was idle may come ahead: it is with the plugin before the look is answered, the
 * look counts it, and what it has not brought is looked for again. */
static void test_ahead(void **state)
{
	const struct fake_row row = { .id = 7 },
			      rest[] = { { .id = 8 }, { .id = 9 }, { .id = 10 }, { .id = 11 }, { .id = 12 } };

	(void)state;
	fake_asleep();
	flow_told(flow, 0);
	assert_true(fake_peek(fake, FAKE_CLAIM)->look.hurry);
	fake_come_ahead(fake, &row);
	assert_int_equal(fake->ndelivered, 1);
	flow_told(flow, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
	fake_answer_claim(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1); /* for the second notification */
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 5);
	fake_answer_claim(fake, rest, 4);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 4); /* the others wait for places */
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	flow_settle(fake->delivered[1], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	flow_told(flow, 0);
	fake_come_ahead(fake, &rest[4]);
	fake_answer_claim(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
}

/* With those that come after it, the look has got all that it asked for: there may be more. */
static void test_ahead_of_many(void **state)
{
	const struct fake_row row = { .id = 7 },
			      rest[] = { { .id = 8 }, { .id = 9 }, { .id = 10 }, { .id = 11 }, { .id = 12 } };

	(void)state;
	fake_asleep();
	flow_told(flow, 0);
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 6);
	fake_come_ahead(fake, &row);
	fake_answer_claim(fake, rest, 5);
	for (unsigned i = 0; i < 4; i++)
		flow_settle(fake->delivered[i], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 1);
	assert_false(fake_peek(fake, FAKE_CLAIM)->look.hurry); /* it is not idle */
}

/* The connection is lost before the look's answer: the message that came ahead is in hand, and comes no second time. */
static void test_ahead_and_lost(void **state)
{
	const struct fake_row row = { .id = 7 }, again = { .id = 7, .read_ct = 2 };

	(void)state;
	fake_asleep();
	flow_told(flow, 0);
	fake_come_ahead(fake, &row);
	fake_fail_claim(fake, "");
	flow_down(flow);
	fake->ncalls = 0;
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_up();
	assert_false(fake_peek(fake, FAKE_CLAIM)->look.hurry); /* a look for another reason */
	fake_answer_claim(fake, &again, 1);
	assert_int_equal(fake->ndelivered, 1);
}

/* A queue that pauses gives it back with the rest. */
static void test_ahead_of_a_pause(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	fake_asleep();
	flow_told(flow, 0);
	flow_told(flow, WAKE_OPERATED);
	fake_answer_pause(fake, "by maria");
	fake_come_ahead(fake, &row);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RELEASE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_operators_pause, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_looks_after_a_pause, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_configuration_error, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_pause_while_waking, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_pause_is_asked_for, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_changed_tables, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_doubted_tables, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_silent_producers, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_missed, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_drain_tells_others, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_drain_awake, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_give_up, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_refused_row, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_ahead, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_ahead_of_many, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_ahead_and_lost, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_ahead_of_a_pause, fake_flow_setup, fake_flow_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
