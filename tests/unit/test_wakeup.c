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

/* Claims like a flow. */
static void on_claim(void *arg)
{
	(void)arg;
	if (room && wakeup_wants(&wakeup)) {
		wakeup_claim(&wakeup);
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

/* A claim comes back with so many rows, of as many as it asked for if `more`. */
static void answer(int rows, bool more)
{
	assert_true(wakeup.claiming);
	wakeup_claimed(&wakeup, more, INT64_MAX, -1);
	wakeup_fed(&wakeup, rows);
	on_claim(NULL);
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

/* Somebody else has "in flight" for good: the tries become as rare as the poll. */
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
	assert_in_range(claims, 3, 25);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_connect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notifications, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more, setup, teardown),
		cmocka_unit_test_setup_teardown(test_burst, setup, teardown),
		cmocka_unit_test_setup_teardown(test_release_while_waking, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_hearing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_claims, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
