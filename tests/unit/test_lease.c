/* test_lease.c: leases are kept until the outcome is stored, and end with the deadline. */
#include "config.h"

#include "fake_settle.h"

#include "base/clock.h"
#include "worker/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct lease lease;

static void nothing(void *arg)
{
	(void)arg;
}

static int setup(void **state)
{
	(void)settle_setup(state);
	fake->qs.visibility_timeout = 9000;
	fake->qs.deadline = 20000;
	lease_init(&lease, &worker, &settle, nothing, NULL);
	return 0;
}

static int teardown(void **state)
{
	lease_close(&lease);
	return settle_teardown(state);
}

/* Whatever the state, the lease of a message that is here is extended in time. */
static void test_all_states(void **state)
{
	(void)state;
	fake_message(&worker, 1, MSG_WAITING);
	fake_message(&worker, 2, MSG_RUNNING);
	fake_message(&worker, 3, MSG_SETTLED);
	fake_message(&worker, 4, MSG_SENT);
	lease_arm(&lease);
	fake_advance(fake, 3100);
	assert_int_equal(fake_peek(fake, FAKE_EXTEND)->n, 4);
	fake_answer_extend(fake, QUEUE_SETTLED);
	fake_advance(fake, 2000);
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 0);
	fake_advance(fake, 400);
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 1);
}

/* Two messages of one number, of which one was lost with a former primary, are extended by two statements: the answer
 * names them by their numbers. */
static void test_same_number(void **state)
{
	(void)state;
	fake_message(&worker, 1, MSG_RUNNING);
	fake_message(&worker, 2, MSG_RUNNING);
	fake_message(&worker, 1, MSG_RUNNING);
	lease_arm(&lease);
	fake_advance(fake, 3100);
	assert_int_equal(fake_peek(fake, FAKE_EXTEND)->n, 2);
	fake_answer_extend(fake, QUEUE_SETTLED);
	assert_int_equal(fake_peek(fake, FAKE_EXTEND)->n, 1);
	fake_answer_extend(fake, QUEUE_SETTLED);
}

/* A message whose lease the database refuses to extend ends nobody else's; but a lock is in the way of all of them. */
static void test_refused(void **state)
{
	struct pgmqd_msg *m = NULL;
	int64_t began;
	unsigned extended = 0;

	(void)state;
	for (int i = 1; i <= 4; i++)
		m = fake_message(&worker, i, MSG_RUNNING);
	began = m->lease_ms;
	lease_arm(&lease);
	fake_advance(fake, 3100);
	fake_fail_extend(fake, "55P03");
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 0);
	fake_advance(fake, 2300);
	fake_fail_extend(fake, "42501");
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 2);
	fake_answer_extend(fake, QUEUE_SETTLED);
	assert_int_equal(fake_peek(fake, FAKE_EXTEND)->n, 2);
	fake_fail_extend(fake, "42501");
	fake_fail_extend(fake, "42501");
	fake_answer_extend(fake, QUEUE_SETTLED);
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 0);
	TAILQ_FOREACH(m, &all.list[MSG_RUNNING], link)
	extended += m->lease_ms > began;
	assert_int_equal(extended, 3);
}

/* A lease that another worker has: what runs is taken back, what has its outcome is left to its settling. */
static void test_lost(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	fake_message(&worker, 2, MSG_RUNNING);
	m = fake_message(&worker, 3, MSG_SETTLED);
	lease_arm(&lease);
	fake_advance(fake, 3100);
	fake_answer_extend(fake, QUEUE_LOST);
	assert_int_equal(fake->cancelled, 1);
	assert_int_equal(all.count[MSG_RUNNING], 0);
	assert_ptr_equal(TAILQ_FIRST(&all.list[MSG_SETTLED]), m);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 1);
}

/* Without the database a lease cannot be extended: what runs is taken back before it ends; an outcome is kept. */
static void test_no_database(void **state)
{
	(void)state;
	fake_message(&worker, 2, MSG_RUNNING);
	fake_message(&worker, 3, MSG_SETTLED);
	worker.up = false;
	lease_arm(&lease);
	for (int i = 0; i < 6; i++)
		fake_advance(fake, 3100);
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 0);
	assert_int_equal(fake->cancelled, 1);
	assert_int_equal(all.count[MSG_SETTLED], 2);
}

/* What overruns the deadline is taken back, however well its lease is kept. */
static void test_deadline(void **state)
{
	(void)state;
	fake_message(&worker, 2, MSG_RUNNING);
	lease_started(&lease);
	fake_advance(fake, 19000);
	assert_int_equal(fake->cancelled, 0);
	fake_advance(fake, 1100);
	assert_int_equal(fake->cancelled, 1);
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_RETRY);
}

/* A message is not begun on what is left of a lease near its end. */
static void test_short(void **state)
{
	int64_t now = clock_boottime_ms();

	(void)state;
	assert_false(lease_is_short(&lease, now + 1500));
	assert_true(lease_is_short(&lease, now + 850));
	assert_true(lease_is_short(&lease, now - 1));
}

/* An answer is for the claim that was extended, not for a later one of the same message; what waits is dropped when it
 * is lost, and a row that is locked for a moment is not. */
static void test_whose_answer(void **state)
{
	struct pgmqd_msg *m = fake_message(&worker, 2, MSG_RUNNING), *w = fake_message(&worker, 3, MSG_WAITING);

	(void)state;
	lease_arm(&lease);
	fake_advance(fake, 3100);
	fake_answer_extend(fake, QUEUE_LOCKED);
	assert_int_equal(messages_in_hand(&all), 2);
	fake_advance(fake, 2300);
	fake_answer_extend(fake, QUEUE_REFUSED);
	assert_int_equal(messages_in_hand(&all), 2);
	m->lease_ms = w->lease_ms = clock_boottime_ms() + 5000;
	for (int i = 0; i < 2; i++) {
		fake_advance(fake, 2300);
		if (i)
			m->nonce = w->nonce = 9;
		else
			m->read_ct = w->read_ct = 2;
		fake_answer_extend(fake, QUEUE_LOST);
		assert_int_equal(messages_in_hand(&all), 2);
		assert_int_equal(fake->cancelled, 0);
		m->lease_ms = w->lease_ms = clock_boottime_ms() + 5000;
	}
	fake_advance(fake, 2300);
	fake_answer_extend(fake, QUEUE_LOST);
	assert_int_equal(messages_in_hand(&all), 0);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 2);
}

/* A lease counts from when it was asked for. */
static void test_from_the_question(void **state)
{
	struct pgmqd_msg *m = fake_message(&worker, 2, MSG_RUNNING);
	int64_t asked;

	(void)state;
	lease_arm(&lease);
	fake_advance(fake, 3100);
	asked = clock_boottime_ms();
	clock_skip_ms(4000);
	fake_answer_extend(fake, QUEUE_SETTLED);
	assert_true(m->lease_ms <= asked + 9000);
}

/* Many leases: all of them are extended. */
static void test_many(void **state)
{
	(void)state;
	for (int i = 0; i < 620; i++)
		fake_message(&worker, i, MSG_RUNNING);
	lease_arm(&lease);
	fake_advance(fake, 3100);
	assert_int_equal(fake_count(fake, FAKE_EXTEND), 2);
}

/* Each message has its deadline, not only the first; without a setting it is ten leases. */
static void test_deadlines(void **state)
{
	(void)state;
	fake_message(&worker, 2, MSG_RUNNING);
	lease_started(&lease);
	fake_advance(fake, 8000);
	fake_message(&worker, 3, MSG_RUNNING);
	lease_started(&lease);
	fake_advance(fake, 12100);
	assert_int_equal(fake->cancelled, 1);
	fake_advance(fake, 8000);
	assert_int_equal(fake->cancelled, 2);
	lease_close(&lease);
	fake->qs.deadline = 0;
	lease_init(&lease, &worker, &settle, nothing, NULL);
	assert_int_equal(lease.deadline_ms, 90000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_states, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_number, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_database, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whose_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_from_the_question, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deadlines, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
