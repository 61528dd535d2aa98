/* test_flow.c: the message path of one queue: claim, deliver, settle, and what comes first. */
#include "config.h"

#include "fake_flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The way of one message. */
static void test_one_message(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	fake_up();
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
	fake_up();
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
	fake_up();
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

/* The same for an outcome that the database has refused and that would have waited for long. */
static void test_refused_settles_before_claims(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &row, 1);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	fake_answer_settle(fake, QUEUE_REFUSED); /* becomes a dead letter, ... */
	fake_advance(fake, 0);
	fake_answer_settle(fake, QUEUE_REFUSED); /* ... which is refused, too */
	fake_advance(fake, 0);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	fake->up = false;
	flow_down(flow);
	fake->ncalls = 0;
	fake->up = true;
	flow_up(flow);
	fake_answer_probe(fake, NULL);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
}

/* A claim that brings what is in hand already: the new claim's lease goes on, and nothing is delivered twice. */
static void test_own_message_again(void **state)
{
	const struct fake_row first = { .id = 7 }, again = { .id = 7, .read_ct = 2 };

	(void)state;
	fake_up();
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
	fake_up();
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
	fake_up();
	fake_answer_claim(fake, &row, 1);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_FAIL);
}

/* A session that cannot write is dropped; an error of rights is no reason to withhold what is large. */
static void test_claim_errors(void **state)
{
	(void)state;
	fake_up();
	fake_fail_claim(fake, "25006");
	assert_int_equal(fake->reconnects, 1);
	flow_down(flow);
	fake->ncalls = 0;
	fake_up();
	fake_fail_claim(fake, "42501");
	for (int i = 0; i < 8; i++) {
		fake_advance(fake, 1100);
		assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 6);
		assert_false(fake_peek(fake, FAKE_CLAIM)->look.small);
		fake_fail_claim(fake, "42501");
	}
	assert_int_equal(fake->slot->counters[STAT_CLAIMS_FAILED], 10);
	fake_advance(fake, 1100);
	fake_fail_claim(
		fake, "57P01"); /* as a trigger says: the session lives, and nothing else leads to another claim */
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
	fake_up();
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
	fake_up();
	fake_answer_claim(fake, rows, 5);
	fake_flow_drain();
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RELEASE);
	fake_answer_settle(fake, QUEUE_SETTLED);
	for (int i = 0; i < 4; i++)
		flow_settle(fake->delivered[i], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_false(flow_idle);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake_advance(fake, 0);
	assert_true(flow_idle);
}

/* ---- room, lanes and leases ---- */

/* A claim that fills all places is followed by another one as soon as there is a place, and asks for no more. */
static void test_full_claims(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 }, { .id = 5 }, { .id = 6 } };

	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 6);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, 1);
}

/* While many outcomes wait for the database, nothing more is claimed. */
static void test_backlog(void **state)
{
	struct fake_row rows[64] = { { .id = 0 } };

	(void)state;
	flow_limit = 60;
	fake_flow_teardown(NULL);
	fake_flow_setup(NULL);
	fake->qs.prefetch = 0;
	fake_up();
	for (int i = 0; i < 80 && fake_count(fake, FAKE_CLAIM); i++) {
		unsigned n = fake_peek(fake, FAKE_CLAIM)->look.n;

		for (unsigned k = 0; k < n; k++)
			rows[k].id = 100 * (i + 1) + k;
		fake->ndelivered = 0;
		fake_answer_claim(fake, rows, (int)n);
		for (unsigned k = 0; k < fake->ndelivered; k++)
			flow_settle(fake->delivered[k], OUT_FAIL, 0, NULL);
		fake_advance(fake, 0);
		assert_true(flow_begun(flow) < 2200);
	}
}

/* A message that waits for the plugin until its lease is over is given back, and never begun. */
static void test_lease_ran_out_waiting(void **state)
{
	const struct fake_row rows[] = { { .id = 1 }, { .id = 2 }, { .id = 3 }, { .id = 4 }, { .id = 5 }, { .id = 6 } };

	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 6);
	assert_int_equal(fake->ndelivered, 4);
	fake_advance(fake, 28000);
	assert_int_equal(fake->cancelled, 4);
	assert_int_equal(fake->ndelivered, 4);
}

/* A message that was on its way for as long as its lease is a failed attempt: the lease counts from the claim. */
static void test_late_answer(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	fake_up();
	fake_advance(fake, 28000);
	fake_answer_claim(fake, &row, 1);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RETRY);
	assert_non_null(strstr(fake_peek(fake, FAKE_SETTLE)->reason, "visibility_timeout"));
}

/* What is in hand has its lease extended. */
static void test_leases_are_extended(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &row, 1);
	fake_advance(fake, 10100);
	assert_int_equal(fake_peek(fake, FAKE_EXTEND)->ids[0], 7);
}

/* ---- a message that is claimed again ---- */

/* Another message under the number of one in hand is another one. */
static void test_number_of_another(void **state)
{
	const struct fake_row first = { .id = 7 }, other = { .id = 7, .read_ct = 2, .born = 99 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &first, 1);
	flow_told(flow, 0);
	fake_answer_claim(fake, &other, 1);
	assert_int_equal(fake->ndelivered, 2);
}

/* One whose outcome waits to be sent: it goes out under the new claim, and may be stored already. */
static void test_own_message_settled(void **state)
{
	const struct fake_row rows[] = { { .id = 7 }, { .id = 8 } }, again = { .id = 7, .read_ct = 2 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 2);
	flow_settle(fake->delivered[1], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	flow_settle(fake->delivered[0], OUT_DONE, 0, NULL);
	fake_advance(fake, 0);
	flow_told(flow, 0);
	fake_answer_claim(fake, &again, 1);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake_advance(fake, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 7);
	assert_true(fake_peek(fake, FAKE_SETTLE)->again);
}

/* Its lease is that of the new claim. */
static void test_own_message_lease(void **state)
{
	const struct fake_row first = { .id = 7 }, again = { .id = 7, .read_ct = 2 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &first, 1);
	fake_advance(fake, 20000);
	flow_told(flow, 0);
	fake_answer_claim(fake, &again, 1);
	fake_advance(fake, 8000);
	assert_int_equal(fake->cancelled, 0);
}

/* ---- attempts ---- */

/* The last attempt is made; after it a dead letter says why there was no outcome. */
static void test_last_attempt(void **state)
{
	const struct fake_row rows[] = { { .id = 7, .read_ct = 3 }, { .id = 8, .read_ct = 4 } };

	(void)state;
	fake_up();
	fake_answer_claim(fake, rows, 2);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 1);
	assert_int_equal(fake->delivered[0]->id, 7);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 8);
	assert_string_equal(fake_peek(fake, FAKE_SETTLE)->class, "crash");
	assert_non_null(strstr(fake_peek(fake, FAKE_SETTLE)->reason, "crashed"));
}

/* Claims that are never answered: messages one by one, then without what is large, which has had an attempt so. */
static void test_claims_without_an_answer(void **state)
{
	const struct fake_row large = { .id = 7, .withheld = 5000000 };

	(void)state;
	fake_up();
	for (int i = 0; i < 5; i++) {
		assert_int_equal(fake_peek(fake, FAKE_CLAIM)->look.n, i < 2 ? 6 : 1);
		assert_false(fake_peek(fake, FAKE_CLAIM)->look.small);
		fake_fail_claim(fake, "");
		flow_down(flow);
		fake->ncalls = 0;
		fake_up();
	}
	assert_true(fake_peek(fake, FAKE_CLAIM)->look.small);
	fake_answer_claim(fake, &large, 1);
	fake_advance(fake, 0);
	assert_int_equal(fake->ndelivered, 0);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RETRY);
	flow_told(flow, 0);
	fake_answer_claim(fake, NULL, 0); /* this one was sent before the message had its outcome */
	assert_false(fake_peek(fake, FAKE_CLAIM)->look.small);
}

/* The plugin's own class goes into the dead letter. */
static void test_own_class(void **state)
{
	const struct fake_row row = { .id = 7 };

	(void)state;
	fake_up();
	fake_answer_claim(fake, &row, 1);
	strcpy(fake->delivered[0]->own_class, "quota");
	flow_settle(fake->delivered[0], OUT_FAIL, 0, NULL);
	fake_advance(fake, 0);
	assert_string_equal(fake_peek(fake, FAKE_SETTLE)->class, "quota");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_message, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_pause_first, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_priority_and_slots, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_settle_before_claim, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(
			test_refused_settles_before_claims, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_own_message_again, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_own_message_while_settling, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_attempts, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_claim_errors, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_paused_in_a_burst, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_drain, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_full_claims, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_backlog, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_lease_ran_out_waiting, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_late_answer, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_leases_are_extended, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_number_of_another, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_own_message_settled, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_own_message_lease, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_last_attempt, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_claims_without_an_answer, fake_flow_setup, fake_flow_teardown),
		cmocka_unit_test_setup_teardown(test_own_class, fake_flow_setup, fake_flow_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
