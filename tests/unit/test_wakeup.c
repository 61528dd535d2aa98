/* test_wakeup.c: when a worker claims, and the handshake with its producers. */
#include "config.h"

#include "fake_queue.h"

#include "worker/wakeup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct fake *fake;
static struct pgmqd_worker worker;
static struct messages all;
static struct wakeup wakeup;
static unsigned claims, polls;
static bool room;
static struct wakeup_claim asked; /* by the last claim */
static size_t tried;              /* tries for "in flight" that were sent and not answered then */

/* Claims like a flow. */
static void on_claim(void *arg)
{
	(void)arg;
	if (room && wakeup_wants(&wakeup)) {
		tried = fake_count(fake, FAKE_RELEASE);
		asked = wakeup_claim(&wakeup);
		claims++;
	}
}

static void on_poll(void *arg)
{
	(void)arg;
	polls++;
}

static const struct wakeup_events events = { .claim = on_claim, .polled = on_poll };

static int setup(void **state)
{
	(void)state;
	fake = fake_new();
	fake->settings.fallback_poll = 30000;
	fake->settings.poll_when_deaf = 1000;
	fake->settings.shared_poll = 2000;
	fake_worker(fake, &worker, &all);
	wakeup_init(&wakeup, &worker, &events, NULL);
	claims = polls = 0;
	room = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	wakeup_close(&wakeup);
	fake_free(fake);
	return 0;
}

/* A claim comes back, and says when the next message falls due, and whether there is another worker. */
static void answer_with(int rows, bool more, int64_t due_ms, int shared)
{
	assert_true(wakeup.claiming);
	wakeup_claimed(&wakeup, more, due_ms, shared);
	wakeup_fed(&wakeup, rows);
	on_claim(NULL);
}

/* A claim comes back with so many rows, of as many as it asked for if `more`. */
static void answer(int rows, bool more)
{
	answer_with(rows, more, INT64_MAX, -1);
}

/* A worker that is connected and asleep. */
static void sleep_well(void)
{
	wakeup_up(&wakeup);
	on_claim(NULL);
	fake_answer_lock(fake, FAKE_RELEASE, true);
	answer(0, false);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	claims = 0;
}

/* After a connect it tries "in flight", claims behind the try, and sleeps when both are well. */
static void test_connect(void **state)
{
	(void)state;
	wakeup_up(&wakeup);
	on_claim(NULL);
	assert_int_equal(claims, 1);
	fake_answer_lock(fake, FAKE_RELEASE, false); /* a producer is in flight that was silent */
	answer(0, false);
	assert_int_equal(wakeup.state, WAKE_CLOSING);
	fake_advance(fake, 30);
	assert_int_equal(claims, 2);
	fake_answer_lock(fake, FAKE_RELEASE, true);
	answer(0, false);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
}

/* A notification leads to a claim in the same turn; one during a claim leads to another claim, however many come. */
static void test_notifications(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	assert_int_equal(claims, 1);
	wakeup_notified(&wakeup);
	wakeup_notified(&wakeup);
	assert_int_equal(claims, 1);
	answer(1, false);
	assert_int_equal(claims, 2);
	answer(0, false);
	assert_int_equal(claims, 2);
}

/* A claim that got all it asked for is followed by another one. */
static void test_more(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	answer(10, true);
	assert_int_equal(claims, 2);
}

/* Many messages: "awake" is asked for, and given up when it has become calm. */
static void test_burst(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	answer(20, false);
	assert_int_equal(wakeup.state, WAKE_WAKING);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	assert_int_equal(wakeup.state, WAKE_AWAKE);
	for (int i = 0; i < 4 && wakeup.state == WAKE_AWAKE; i++) {
		fake_advance(fake, 30);
		answer(0, false);
	}
	assert_int_equal(wakeup.state, WAKE_CLOSING);
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
	assert_true(wakeup.claiming); /* behind the try, in the same turn */
}

/* A queue that pauses gives "awake" up even while it is being asked for; other dispatchers hear of new work then. */
static void test_release_while_waking(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	answer(20, false);
	assert_int_equal(wakeup.state, WAKE_WAKING);
	room = false;
	wakeup_release(&wakeup);
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	fake_answer_lock(fake, FAKE_RELEASE, true);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	fake_answer_lock(fake, FAKE_RELEASE, true);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	assert_true(wakeup_wants(&wakeup)); /* the claim comes with the room */
}

/* Without notifications it polls, and also asks whether an operator has paused the queue. */
static void test_not_hearing(void **state)
{
	(void)state;
	sleep_well();
	wakeup_hearing(&wakeup, false);
	assert_int_equal(claims, 1);
	answer(0, false);
	fake_advance(fake, 1200);
	assert_int_equal(claims, 2);
	assert_int_equal(polls, 1);
}

/* Somebody else has "awake": producers are silent, so it polls, and does not ask for the lock itself. */
static void test_taken(void **state)
{
	(void)state;
	sleep_well();
	wakeup_taken(&wakeup, true);
	assert_int_equal(claims, 1);
	answer(20, false);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	fake_advance(fake, 1200);
	assert_int_equal(claims, 2);
	answer(0, false);
	wakeup_taken(&wakeup, true);
	assert_int_equal(claims, 2);
	wakeup_taken(&wakeup, false);
	answer(0, false);
	fake_advance(fake, 5000);
	assert_int_equal(claims, 3);
}

/* Somebody else has "in flight" for good, a prepared transaction, say: one try a second, so that its end is noticed. */
static void test_never_closed(void **state)
{
	(void)state;
	wakeup_up(&wakeup);
	on_claim(NULL);
	for (int i = 0; i < 60; i++) {
		while (fake_count(fake, FAKE_RELEASE) > 0)
			fake_answer_lock(fake, FAKE_RELEASE, false);
		if (wakeup.claiming)
			answer(0, false);
		fake_advance(fake, 1000);
	}
	assert_int_equal(wakeup.state, WAKE_CLOSING);
	assert_in_range(claims, 30, 70);
}

/* A claim that failed for good reason comes again later; one whose connection was lost, as soon as it can. */
static void test_failed_claims(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	wakeup_claim_failed(&wakeup, 1000);
	on_claim(NULL);
	assert_int_equal(claims, 1);
	fake_advance(fake, 1100);
	assert_int_equal(claims, 2);
	wakeup_claim_failed(&wakeup, 0);
	assert_true(wakeup_wants(&wakeup));
}

/* A worker that holds "awake". */
static void be_awake(void)
{
	sleep_well();
	wakeup_notified(&wakeup);
	answer(20, false);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	assert_int_equal(wakeup.state, WAKE_AWAKE);
	claims = 0;
}

/* ---- what is asked for ---- */

/* A full look after a connect, a poll, and when notifications arrive again; others begin at the mark. */
static void test_full_looks(void **state)
{
	(void)state;
	sleep_well();
	assert_true(asked.full);
	wakeup_notified(&wakeup);
	assert_false(asked.full);
	answer(0, false);
	fake_advance(fake, 30100);
	assert_int_equal(claims, 2);
	assert_true(asked.full);
	answer(0, false);
	wakeup_hearing(&wakeup, true);
	assert_true(asked.full);
}

/* Whether there is another worker is asked when it is cheap; what falls due, whenever sleep may follow. */
static void test_questions(void **state)
{
	(void)state;
	wakeup_up(&wakeup);
	on_claim(NULL);
	assert_true(asked.ask_due);
	fake_answer_lock(fake, FAKE_RELEASE, false);
	answer(0, false);
	fake_advance(fake, 30);
	assert_true(asked.ask_due); /* closing */
	fake_answer_lock(fake, FAKE_RELEASE, true);
	answer(0, false);
	wakeup_notified(&wakeup);
	assert_true(asked.ask_due);
	assert_true(asked.ask_share);
	answer(20, false);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	fake_advance(fake, 3);
	assert_false(asked.ask_due);
	assert_false(asked.ask_share);
}

/* With groups a message may be next as soon as the one before it is settled. */
static void test_groups(void **state)
{
	(void)state;
	sleep_well();
	wakeup_next(&wakeup);
	assert_false(wakeup_wants(&wakeup));
	fake->qs.ordered = ORDERED_GROUP;
	wakeup_next(&wakeup);
	assert_true(wakeup_wants(&wakeup));
}

/* ---- timers ---- */

/* A message that falls due is claimed then; of two times the earlier one counts. */
static void test_due(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	answer_with(0, false, 500, -1);
	claims = 0;
	fake_advance(fake, 600);
	assert_int_equal(claims, 1);
	answer(0, false);
	wakeup_due_in(&wakeup, 10000);
	wakeup_due_by(&wakeup, 100);
	fake_advance(fake, 200);
	assert_int_equal(claims, 2);
	answer(0, false);
	wakeup_due_by(&wakeup, 100);
	wakeup_due_by(&wakeup, 20000);
	fake_advance(fake, 200);
	assert_int_equal(claims, 3);
}

/* A queue's own poll counts, and traffic does not put it off. */
static void test_polls(void **state)
{
	bool full = false;

	(void)state;
	fake->qs.fallback_poll = 5000;
	sleep_well();
	fake_advance(fake, 5100);
	assert_int_equal(claims, 1);
	answer(0, false);
	for (int i = 0; i < 8; i++) {
		fake_advance(fake, 1000);
		wakeup_notified(&wakeup);
		full = full || asked.full;
		answer(0, false);
		if (wakeup.claiming)
			answer(0, false);
	}
	assert_true(full);
}

/* Beside another worker the queue is polled more often, from the moment on at which that is known; a claim that did not
 * ask changes nothing. A newcomer is announced once. */
static void test_shared(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	answer_with(0, false, INT64_MAX, 1);
	assert_int_equal(fake->announced, 1);
	wakeup_notified(&wakeup);
	answer_with(0, false, INT64_MAX, -1);
	wakeup_notified(&wakeup);
	answer_with(0, false, INT64_MAX, 1);
	assert_int_equal(fake->announced, 1);
	claims = 0;
	for (int ms = 2000; ms <= 8000; ms *= 2) { /* all are asleep, until one is not */
		fake_advance(fake, ms * 3 / 4);
		assert_int_equal(claims, 0);
		fake_advance(fake, ms / 4 + 100);
		assert_int_equal(claims--, 1);
		answer_with(0, false, INT64_MAX, ms < 8000 ? 1 : 2);
	}
	fake_advance(fake, 2100);
	assert_int_equal(claims, 1);
	answer_with(0, false, INT64_MAX, 0);
	fake_advance(fake, 2100);
	assert_int_equal(claims, 1);
}

/* With a full notification queue producers are silent, so the queue is polled until it is not full any more. */
static void test_silent(void **state)
{
	(void)state;
	sleep_well();
	wakeup_notified(&wakeup);
	wakeup_silent(&wakeup, 1);
	answer(0, false);
	claims = 0;
	fake_advance(fake, 1200);
	assert_int_equal(claims, 1);
	wakeup_silent(&wakeup, -1);
	answer(0, false);
	fake_advance(fake, 1200);
	assert_int_equal(claims, 2);
	wakeup_silent(&wakeup, 0);
	answer(0, false);
	fake_advance(fake, 1200);
	assert_int_equal(claims, 2);
}

/* A message that a poll finds was missed, unless notifications do not arrive or another worker may have had it. */
static void test_missed(void **state)
{
	struct pgmqd_msg m = { .read_ct = 1 };

	(void)state;
	sleep_well();
	for (int i = 0; i < 3; i++) {
		wakeup.unnotified = i == 1;
		wakeup.shared = i == 2;
		fake_advance(fake, 31000);
		m.due_us = wakeup.woke.us - 5000000;
		wakeup_observe(&wakeup, &m);
		answer(0, false);
		assert_int_equal(fake->slot->counters[STAT_MISSED], 1);
	}
}

/* ---- notify = plain, off ---- */

/* plain never asks for "awake"; off claims by polls alone. */
static void test_other_modes(void **state)
{
	(void)state;
	fake->qs.notify = NOTIFY_PLAIN;
	sleep_well();
	wakeup_notified(&wakeup);
	answer(100, false);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	fake->qs.notify = NOTIFY_OFF;
	claims = 0;
	wakeup_notified(&wakeup);
	assert_int_equal(claims, 0);
	assert_int_equal(fake->slot->counters[STAT_WAKEUPS], 2);
}

/* ---- awake ---- */

/* Messages that do not come close together are no burst. */
static void test_no_burst(void **state)
{
	(void)state;
	sleep_well();
	for (int i = 0; i < 3; i++) {
		wakeup_notified(&wakeup);
		answer(10, false);
		assert_int_equal(wakeup.state, WAKE_ASLEEP);
		fake_advance(fake, 200);
	}
}

/* A trickle is no reason to stay awake. */
static void test_trickle(void **state)
{
	(void)state;
	be_awake();
	for (int i = 0; i < 8 && wakeup.state == WAKE_AWAKE; i++) {
		fake_advance(fake, 40);
		answer(1, false);
	}
	assert_int_equal(wakeup.state, WAKE_CLOSING);
}

/* Nor is emptiness, even before it is calm. The last look is sent behind the try for "in flight". */
static void test_empty(void **state)
{
	(void)state;
	be_awake();
	for (int i = 0; i < 4 && wakeup.state == WAKE_AWAKE; i++) {
		fake_advance(fake, 20);
		answer(0, false);
	}
	assert_int_equal(wakeup.state, WAKE_CLOSING);
	assert_int_equal(tried, 1);
	assert_true(wakeup.claiming);
}

/* Without a connection nothing is claimed, and the locks are gone. */
static void test_down(void **state)
{
	(void)state;
	be_awake();
	worker.up = false;
	fake_advance(fake, 10);
	assert_int_equal(claims, 0);
	worker.up = true;
	wakeup_notified(&wakeup);
	assert_int_equal(claims, 1);
	wakeup_down(&wakeup);
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	assert_true(wakeup_wants(&wakeup));
}

/* A worker that stops gives "awake" up, and so does one without room, which then closes like any other. */
static void test_giving_up(void **state)
{
	(void)state;
	be_awake();
	room = false;
	wakeup_no_room(&wakeup);
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
	fake_answer_lock(fake, FAKE_RELEASE, false);
	assert_int_equal(wakeup.state, WAKE_CLOSING);
	for (int i = 0; i < 3; i++) {
		fake_advance(fake, 25);
		assert_false(fake_peek(fake, FAKE_RELEASE)->held);
		fake_answer_lock(fake, FAKE_RELEASE, i == 2);
	}
	assert_int_equal(wakeup.state, WAKE_ASLEEP);
	room = true;
	on_claim(NULL);
	answer(20, false);
	fake_answer_lock(fake, FAKE_AWAKE, true);
	wakeup_drain(&wakeup);
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
}

/* Nor does a worker stay awake beside a stranger who has taken its locks. */
static void test_taken_while_awake(void **state)
{
	(void)state;
	be_awake();
	wakeup_taken(&wakeup, true);
	assert_true(fake_peek(fake, FAKE_RELEASE)->held);
}

/* ---- closing ---- */

/* "awake" that is refused while closing: the handshake begins anew, and its last look is not left out. */
static void test_refused_while_closing(void **state)
{
	(void)state;
	wakeup_up(&wakeup);
	on_claim(NULL);
	fake_answer_lock(fake, FAKE_RELEASE, false);
	answer(20, false);
	assert_int_equal(wakeup.state, WAKE_WAKING);
	fake_answer_lock(fake, FAKE_AWAKE, false);
	assert_int_equal(wakeup.state, WAKE_CLOSING);
	assert_int_equal(fake_count(fake, FAKE_RELEASE), 1);
}

/* What an earlier handshake had does not close a later one. */
static void test_second_handshake(void **state)
{
	(void)state;
	be_awake();
	wakeup_release(&wakeup);
	on_claim(NULL);
	fake_answer_lock(fake, FAKE_RELEASE, false);
	answer(0, false);
	assert_int_equal(wakeup.state, WAKE_CLOSING);
}

/* A try that is answered when "awake" is being asked for anew says nothing of the state. */
static void test_answer_of_before(void **state)
{
	(void)state;
	be_awake();
	fake_advance(fake, 3);
	wakeup_release(&wakeup);
	answer(20, false); /* a claim that was sent before the try */
	assert_int_equal(wakeup.state, WAKE_WAKING);
	fake_answer_lock(fake, FAKE_RELEASE, true);
	assert_int_equal(wakeup.state, WAKE_WAKING);
	assert_false(wakeup.closed);
}

/* Claims for other reasons do not put the next try off: who was silent would wait for it. */
static void test_traffic_while_closing(void **state)
{
	(void)state;
	wakeup_up(&wakeup);
	on_claim(NULL);
	fake_answer_lock(fake, FAKE_RELEASE, false); /* a producer is in flight that was silent */
	answer(0, false);
	for (int i = 0; i < 14; i++) {
		wakeup_notified(&wakeup);
		answer(0, false);
	}
	fake_advance(fake, 30);
	assert_int_equal(fake_count(fake, FAKE_RELEASE), 1);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { CASE(test_connect), CASE(test_notifications), CASE(test_more),
		CASE(test_burst), CASE(test_release_while_waking), CASE(test_not_hearing), CASE(test_taken),
		CASE(test_never_closed), CASE(test_failed_claims), CASE(test_full_looks), CASE(test_questions),
		CASE(test_groups), CASE(test_due), CASE(test_polls), CASE(test_shared), CASE(test_silent),
		CASE(test_missed), CASE(test_other_modes), CASE(test_no_burst), CASE(test_trickle), CASE(test_empty),
		CASE(test_down), CASE(test_giving_up), CASE(test_taken_while_awake), CASE(test_refused_while_closing),
		CASE(test_second_handshake), CASE(test_answer_of_before), CASE(test_traffic_while_closing) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
