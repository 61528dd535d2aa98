/* test_quarantine.c: after a crash only what was in hand runs alone, and the others pass it. */
#include "config.h"

#include "fake_settle.h"

#include "base/clock.h"
#include "worker/quarantine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct quarantine quarantine;

static int setup(void **state)
{
	(void)settle_setup(state);
	fake->qs.visibility_timeout = 10000;
	return 0;
}

static int teardown(void **state)
{
	quarantine_close(&quarantine);
	return settle_teardown(state);
}

/* The process before had these messages in hand, and died. */
static void crash(int from, int to)
{
	for (int i = from; i <= to; i++)
		hand_add(&fake->slot->hand, i);
	quarantine_init(&quarantine, &worker, &settle, true);
}

/* A message that the plugin has got and ended. */
static void run(struct pgmqd_msg *m, int64_t ms)
{
	message_move(m, MSG_RUNNING);
	clock_skip_ms(ms);
	message_forget(m);
}

/* Without a crash nothing is held back. */
static void test_no_crash(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	quarantine_init(&quarantine, &worker, &settle, false);
	m = fake_message(&worker, 1, MSG_WAITING);
	m->attempt = 3;
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
	assert_int_equal(quarantine_room(&quarantine, 10), 10);
	assert_ptr_equal(quarantine_next(&quarantine, false), m);
}

/* A retry that was not in hand when the process died is no suspect. */
static void test_retries_pass(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	crash(1, 1);
	for (int i = 10; i < 15; i++) {
		m = fake_message(&worker, i, MSG_WAITING);
		m->attempt = 2;
		assert_int_equal(quarantine_room(&quarantine, 10), 10);
		assert_ptr_equal(quarantine_next(&quarantine, false), m);
		message_move(m, MSG_RUNNING);
	}
}

/* A suspect waits until nothing else is in hand, runs alone, and nothing is claimed meanwhile. */
static void test_suspect_runs_alone(void **state)
{
	struct pgmqd_msg *suspect, *other;

	(void)state;
	crash(1, 1);
	other = fake_message(&worker, 5, MSG_RUNNING);
	suspect = fake_message(&worker, 1, MSG_WAITING);
	assert_int_equal(quarantine_room(&quarantine, 10), 0);
	assert_null(quarantine_next(&quarantine, false));
	message_forget(other);
	assert_null(quarantine_next(&quarantine, true));
	assert_ptr_equal(quarantine_next(&quarantine, false), suspect);
	message_move(suspect, MSG_RUNNING);
	fake_message(&worker, 6, MSG_WAITING);
	assert_int_equal(quarantine_room(&quarantine, 10), 0);
	assert_null(quarantine_next(&quarantine, false));
}

/* Between two suspects the others have their turn; the second suspect goes back meanwhile. */
static void test_others_have_their_turn(void **state)
{
	struct pgmqd_msg *first, *second, *other;

	(void)state;
	crash(1, 2);
	first = fake_message(&worker, 1, MSG_WAITING);
	second = fake_message(&worker, 2, MSG_WAITING);
	assert_null(quarantine_next(&quarantine, false)); /* the second one is given back first */
	assert_int_equal(second->outcome, OUT_RELEASE);
	message_forget(second);
	assert_ptr_equal(quarantine_next(&quarantine, false), first);
	run(first, 400);
	second = fake_message(&worker, 2, MSG_WAITING);
	other = fake_message(&worker, 5, MSG_WAITING);
	assert_ptr_equal(quarantine_next(&quarantine, false), other);
	message_move(other, MSG_RUNNING);
	assert_int_equal(quarantine_room(&quarantine, 10), 10);
	clock_skip_ms(500);
	assert_int_equal(quarantine_room(&quarantine, 10), 0);
	message_forget(other);
	assert_ptr_equal(quarantine_next(&quarantine, false), second);
}

/* A crash during the care: what was not delivered yet is suspected by the next process, too. */
static void test_second_crash(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	crash(1, 3);
	m = fake_message(&worker, 2, MSG_WAITING);
	assert_ptr_equal(quarantine_next(&quarantine, false), m);
	message_move(m, MSG_RUNNING); /* and here the process dies */
	free(quarantine.suspects);
	quarantine_init(&quarantine, &worker, &settle, true);
	assert_int_equal(quarantine.n, 3);
	message_forget(m);
}

/* Claims go one by one until the leases of the process that died have ended. */
static void test_care_ends(void **state)
{
	(void)state;
	crash(1, 1);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	fake_message(&worker, 1, MSG_WAITING);
	run(quarantine_next(&quarantine, false), 0);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	clock_skip_ms(31000);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
}

/* Claims that are never answered: one by one, then without what is large; no message runs alone because of it. */
static void test_lost_claims(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	quarantine_init(&quarantine, &worker, &settle, false);
	quarantine_claim_lost(&quarantine, 10);
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
	quarantine_claim_lost(&quarantine, 10);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	m = fake_message(&worker, 1, MSG_WAITING);
	m->attempt = 2;
	assert_int_equal(quarantine_room(&quarantine, 10), 10);
	assert_ptr_equal(quarantine_next(&quarantine, false), m);
	for (int i = 0; i < 3; i++) {
		assert_false(quarantine_withholds(&quarantine));
		quarantine_claim_lost(&quarantine, 1);
	}
	assert_true(quarantine_withholds(&quarantine));
	quarantine_withheld(&quarantine);
	assert_false(quarantine_withholds(&quarantine));
}

/* More in hand than there is room to write down: every message that was claimed before runs alone. */
static void test_many_in_hand(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	crash(1, HAND_MAX + 1);
	fake_message(&worker, 99998, MSG_RUNNING);
	m = fake_message(&worker, 99999, MSG_WAITING);
	m->attempt = 2;
	assert_null(quarantine_next(&quarantine, false));
}

/* A suspect that is through is none any more, for this process and the next. */
static void test_through(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	crash(1, 2);
	m = fake_message(&worker, 1, MSG_WAITING);
	assert_ptr_equal(quarantine_next(&quarantine, false), m);
	run(m, 0);
	free(quarantine.suspects);
	quarantine_init(&quarantine, &worker, &settle, true);
	assert_int_equal(quarantine.n, 1);
}

/* The care lasts until the leases of the dead process have ended, and longer for suspects that have not come back;
 * those are forgotten then. */
static void test_care_lasts(void **state)
{
	(void)state;
	crash(1, 1);
	clock_skip_ms(9000);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	clock_skip_ms(2000);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	clock_skip_ms(20000);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
	free(quarantine.suspects);
	quarantine_init(&quarantine, &worker, &settle, true);
	assert_int_equal(quarantine.n, 0);
}

/* With no suspects, the leases alone are waited for. */
static void test_care_without_suspects(void **state)
{
	(void)state;
	quarantine_init(&quarantine, &worker, &settle, true);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	clock_skip_ms(11100);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
}

/* Two lost claims that lie far apart are two accidents; losses of long ago are not counted with new ones, nor are those
 * of many messages at once. */
static void test_accidents(void **state)
{
	(void)state;
	quarantine_init(&quarantine, &worker, &settle, false);
	quarantine_claim_lost(&quarantine, 10);
	clock_skip_ms(50000);
	quarantine_claim_lost(&quarantine, 10);
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
	for (int i = 0; i < 5; i++)
		quarantine_claim_lost(&quarantine, 10);
	assert_false(quarantine_withholds(&quarantine));
	quarantine_claim_lost(&quarantine, 1);
	quarantine_claim_lost(&quarantine, 1);
	clock_skip_ms(50000);
	quarantine_claim_lost(&quarantine, 1);
	quarantine_claim_lost(&quarantine, 1);
	assert_false(quarantine_withholds(&quarantine));
}

/* The care after lost claims lasts while what they held may be ahead. */
static void test_lost_are_ahead(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	quarantine_init(&quarantine, &worker, &settle, false);
	quarantine_claim_lost(&quarantine, 10);
	quarantine_claim_lost(&quarantine, 10);
	clock_skip_ms(10900); /* a lease lasts up to a second longer than is asked for */
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	clock_skip_ms(200);
	quarantine_claimed(&quarantine, clock_boottime_ms(), true); /* there may be more */
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	m = fake_message(&worker, 7, MSG_WAITING);
	m->enqueued_us = clock_realtime_us();
	quarantine_claimed(&quarantine, clock_boottime_ms(), true); /* but this one came after them */
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
}

/* A claim that began before the leases had ended, and is answered late, says nothing of what fell due meanwhile. */
static void test_late_answer(void **state)
{
	int64_t sent_ms;

	(void)state;
	quarantine_init(&quarantine, &worker, &settle, true);
	sent_ms = clock_boottime_ms();
	clock_skip_ms(40000);
	quarantine_claimed(&quarantine, sent_ms, false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 1);
	quarantine_claimed(&quarantine, clock_boottime_ms(), false);
	assert_int_equal(quarantine_ask(&quarantine, 100), 100);
}

/* An outcome that the database refuses again and again keeps no suspect waiting. */
static void test_refused_outcomes(void **state)
{
	struct pgmqd_msg *suspect, *stuck;

	(void)state;
	crash(1, 1);
	stuck = fake_message(&worker, 5, MSG_SETTLED);
	suspect = fake_message(&worker, 1, MSG_WAITING);
	assert_null(quarantine_next(&quarantine, false));
	stuck->refused = 1;
	assert_ptr_equal(quarantine_next(&quarantine, false), suspect);
}

/* A clean stop leaves nothing in hand. */
static void test_clean_start(void **state)
{
	(void)state;
	hand_add(&fake->slot->hand, 1);
	quarantine_init(&quarantine, &worker, &settle, false);
	quarantine_close(&quarantine);
	hand_add(&fake->slot->hand, 2);
	quarantine_init(&quarantine, &worker, &settle, false);
	quarantine_init(&quarantine, &worker, &settle, true);
	assert_int_equal(quarantine.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retries_pass, setup, teardown),
		cmocka_unit_test_setup_teardown(test_suspect_runs_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others_have_their_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_second_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_care_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_claims, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_in_hand, setup, teardown),
		cmocka_unit_test_setup_teardown(test_through, setup, teardown),
		cmocka_unit_test_setup_teardown(test_care_lasts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_care_without_suspects, setup, teardown),
		cmocka_unit_test_setup_teardown(test_accidents, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_are_ahead, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_outcomes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clean_start, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
