/* test_settle.c: outcomes and their way to the database: nothing that is known is lost, nothing is run again. */
#include "config.h"

#include "fake_settle.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "worker/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* What is settled together goes out together, and what is settled meanwhile waits for the round. */
static void test_batches(void **state)
{
	(void)state;
	fake_end(3, OUT_DONE);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 3);
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
	fake_answer_settle(fake, QUEUE_SETTLED);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 1);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* An answer names messages by their numbers, so two of one number (one was lost with a former primary) go out in
 * two statements, and each meets its own fate. */
static void test_same_number(void **state)
{
	(void)state;
	fake_end(2, OUT_DONE);
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 2);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 2);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 2);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 2);
	assert_true(messages_are_none(&all));
}

/* An answer that is lost with the connection: the same outcome is sent again, and says so. */
static void test_lost_answer(void **state)
{
	(void)state;
	fake_end(2, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "");
	settle_send(&settle);
	assert_true(fake_peek(fake, FAKE_SETTLE)->again);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* An error that passes is nobody's fault: the outcome waits, and is sent again as it is. */
static void test_passing_errors(void **state)
{
	static const char *const states[] = { "55P03", "57014", "53100", "42501", "40P01" };

	(void)state;
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		fake_end(1, OUT_DONE_WITH);
		settle_send(&settle);
		if (i == 3) { /* a plugin's statement may lack rights of its own */
			fake_fail_settle(fake, "25006");
			assert_int_equal(read_only, 1);
		} else {
			fake_fail_settle(fake, states[i]);
		}
		assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_DONE_WITH);
		fake_later();
		assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE_WITH);
		fake_answer_settle(fake, QUEUE_SETTLED);
		assert_true(messages_are_none(&all));
	}
}

/* A statement of the plugin that cannot work costs an attempt. */
static void test_plugins_fault(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE_WITH);
	settle_send(&settle);
	fake_fail_settle(fake, "42P01");
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_RETRY);
}

/* One row of many that cannot be stored is found by halves; the others are stored, and it is dead-lettered. */
static void test_one_of_many(void **state)
{
	unsigned statements = 0;

	(void)state;
	fake_end(9, OUT_DONE);
	for (settle_send(&settle); fake_count(fake, FAKE_SETTLE); settle_send(&settle)) {
		const struct fake_call *c = fake_peek(fake, FAKE_SETTLE);
		bool has_seven = false;

		assert_true(++statements < 20);
		for (size_t i = 0; i < c->n; i++)
			has_seven = has_seven || c->ids[i] == 7;
		if (has_seven && c->outcome == OUT_FAIL)
			break;
		if (has_seven)
			fake_fail_settle(fake, "23505");
		else
			fake_answer_settle(fake, QUEUE_SETTLED);
	}
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 1);
	assert_int_equal(all.count[MSG_SENT], 1);
	assert_string_equal(TAILQ_FIRST(&all.list[MSG_SENT])->class, "unstored");
	assert_non_null(strstr(TAILQ_FIRST(&all.list[MSG_SENT])->reason, "23505"));
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* One row of many whose error says that it passes, whatever it is, does not hold up the others: when its remedy has not
 * helped, they are stored, and it goes on alone. */
static void test_one_of_many_that_passes(void **state)
{
	static const char *const states[] = { "42501", "53100", "42P01", "25006", "57P01" };

	(void)state;
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++) {
		unsigned statements = 0, told = stale + read_only;
		struct pgmqd_msg *left;

		fake_end(9, OUT_DONE);
		for (int round = 0; round < 8 && all.count[MSG_SETTLED] + all.count[MSG_SENT] > 1; round++)
			for (fake_later(); fake_count(fake, FAKE_SETTLE); settle_send(&settle)) {
				const struct fake_call *c = fake_peek(fake, FAKE_SETTLE);
				bool has_it = false;

				assert_true(++statements < 40);
				for (size_t k = 0; k < c->n; k++)
					has_it = has_it || c->ids[k] % 9 == 7;
				if (has_it)
					fake_fail_settle(fake, states[i]);
				else
					fake_answer_settle(fake, QUEUE_SETTLED);
			}
		assert_int_equal(all.count[MSG_SETTLED], 1);
		assert_in_range(stale + read_only - told, 0, 3);
		left = TAILQ_FIRST(&all.list[MSG_SETTLED]);
		assert_int_equal(left->outcome, OUT_DONE);
		fake_later();
		fake_answer_settle(fake, QUEUE_SETTLED);
		assert_true(messages_are_none(&all));
	}
}

/* What cannot be dead-lettered either stays in memory, is sent again now and then, and never becomes a retry. */
static void test_kept_in_memory(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "P0001");
	settle_send(&settle);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_FAIL);
		fake_fail_settle(fake, "P0001");
		settle_send(&settle);
		assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
		assert_int_equal(all.count[MSG_SETTLED], 1);
		assert_true(TAILQ_FIRST(&all.list[MSG_SETTLED])->stuck);
		fake_later();
	}
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* A row that another session has locked does not hold up the others. */
static void test_locked_row(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOCKED);
	assert_int_equal(all.count[MSG_SETTLED], 1);
	settle_end(&settle, fake_message(&worker, 9, MSG_RUNNING), OUT_DONE, NULL, 0, NULL);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 9);
	fake_answer_settle(fake, QUEUE_SETTLED);
	fake_later();
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 1);
}

/* A plugin's statement that waits for a lock does not hold up the daemon's own. */
static void test_lanes(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE_WITH);
	settle_send(&settle);
	settle_end(&settle, fake_message(&worker, 9, MSG_RUNNING), OUT_DONE, NULL, 0, NULL);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 2);
}

/* Tables that have changed: probed again, and the outcome is kept. */
static void test_stale(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "42P01");
	assert_int_equal(stale, 1);
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_DONE);
}

/* Another worker has the message: dropped and counted. */
static void test_lost(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_true(messages_are_none(&all));
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_batches, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_same_number, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_lost_answer, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_passing_errors, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_plugins_fault, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_one_of_many, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_one_of_many_that_passes, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_kept_in_memory, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_locked_row, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_lanes, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_stale, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_lost, settle_setup, settle_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
