/* test_cancel.c: an operator's cancel takes the message that is meant from its plugin, under its claim and once. */
#include "config.h"

#include "fake_settle.h"
#include "files.h"

#include "worker/cancel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct cancel cancel;

static int setup(void **state)
{
	(void)settle_setup(state);
	cancel_init(&cancel, &worker, &settle);
	return 0;
}

static int teardown(void **state)
{
	cancel_close(&cancel);
	return settle_teardown(state);
}

/* A message in hand, of that number, its second claim, born at ten times its number. */
static struct pgmqd_msg *in_hand(int64_t id, enum msg_state state)
{
	struct pgmqd_msg *m = fake_message(&worker, id, state);

	m->read_ct = 2;
	m->born_us = id * 10;
	return m;
}

/* The operator's wish for that message. */
static struct queue_cancel wish(int64_t id)
{
	return (struct queue_cancel){ .id = id, .born_us = id * 10, .read_ct = 2, .why = "by anna" };
}

/* Asks, and is answered with that wish alone. */
static void answered(struct queue_cancel wanted)
{
	cancel_ask(&cancel);
	fake_answer_cancels(fake, &wanted, 1);
}

/* What runs is taken back from its plugin, and has the operator's reason. */
static void test_running(void **state)
{
	struct pgmqd_msg *m = in_hand(1, MSG_RUNNING), *other = in_hand(2, MSG_RUNNING);

	(void)state;
	answered(wish(1));
	assert_int_equal(fake->cancelled, 1);
	assert_true(m->cancelled);
	assert_int_equal(m->state, MSG_SETTLED);
	assert_int_equal(m->outcome, OUT_CANCEL);
	assert_string_equal(m->reason, "by anna");
	assert_int_equal(other->state, MSG_RUNNING);
	assert_int_equal(kicks, 1);
}

/* What waits has not been with the plugin, which hears nothing of it. */
static void test_waiting(void **state)
{
	struct pgmqd_msg *m = in_hand(1, MSG_WAITING);

	(void)state;
	answered(wish(1));
	assert_int_equal(fake->cancelled, 0);
	assert_int_equal(m->state, MSG_SETTLED);
	assert_int_equal(m->outcome, OUT_CANCEL);
	assert_string_equal(m->reason, "by anna");
}

/* It goes to the database as any outcome does, and counts as cancelled. */
static void test_settled(void **state)
{
	(void)state;
	in_hand(1, MSG_RUNNING);
	answered(wish(1));
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_CANCEL);
	assert_string_equal(fake_peek(fake, FAKE_SETTLE)->reason, "by anna");
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(fake->slot->counters[STAT_CANCELLED], 1);
	assert_true(messages_are_none(&all));
}

/* A message that has its outcome keeps it, whether it is on its way or not. */
static void test_has_its_outcome(void **state)
{
	struct pgmqd_msg *m[2];

	(void)state;
	fake_end(2, OUT_DONE);
	m[0] = TAILQ_FIRST(&all.list[MSG_SETTLED]);
	m[1] = TAILQ_NEXT(m[0], link);
	message_move(m[1], MSG_SENT);
	for (int i = 0; i < 2; i++) {
		answered((struct queue_cancel){ .id = m[i]->id, .read_ct = 1, .why = "by anna" });
		assert_int_equal(m[i]->outcome, OUT_DONE);
		assert_string_equal(m[i]->reason, "a reason");
	}
	assert_int_equal(m[1]->state, MSG_SENT);
	assert_int_equal(fake->cancelled, 0);
}

/* Another claim of the message was meant, or another message of that number, or none that is here. */
static void test_another(void **state)
{
	struct queue_cancel wanted = wish(1);
	struct pgmqd_msg *m = in_hand(1, MSG_RUNNING);

	(void)state;
	wanted.read_ct = 1;
	answered(wanted);
	wanted.read_ct = 3;
	answered(wanted);
	wanted = wish(1);
	wanted.born_us++;
	answered(wanted);
	answered(wish(2));
	assert_int_equal(m->state, MSG_RUNNING);
	assert_int_equal(fake->cancelled, 0);
	answered(wish(1));
	assert_int_equal(fake->cancelled, 1);
}

/* All of an answer's wishes are done, and one that comes twice is done once. */
static void test_many(void **state)
{
	struct queue_cancel wanted[] = { wish(1), wish(9), wish(2), wish(1), wish(3) };

	(void)state;
	in_hand(1, MSG_RUNNING);
	in_hand(2, MSG_WAITING);
	in_hand(3, MSG_RUNNING);
	cancel_ask(&cancel);
	fake_answer_cancels(fake, wanted, 5);
	assert_int_equal(fake->cancelled, 2);
	assert_int_equal(all.count[MSG_SETTLED], 3);
}

/* A wish that comes while the database is being asked: the answer may be older, so it is asked once more, and once. */
static void test_while_asking(void **state)
{
	(void)state;
	cancel_ask(&cancel);
	cancel_ask(&cancel);
	cancel_ask(&cancel);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 1);
	fake_answer_cancels(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 1);
	fake_answer_cancels(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
	cancel_ask(&cancel);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 1);
}

/* A question that was lost with its connection does not keep the next one from being asked, and is not asked without
 * one. */
static void test_lost(void **state)
{
	(void)state;
	cancel_ask(&cancel);
	cancel_ask(&cancel);
	worker.up = false;
	quiet_start();
	fake_fail_cancels(fake, "");
	assert_false(quiet_end("cancelled"));
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
	worker.up = true;
	cancel_ask(&cancel);
	cancel_ask(&cancel);
	cancel_down(&cancel);
	cancel_ask(&cancel);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 2);
	fake_answer_cancels(fake, NULL, 0);
	fake_answer_cancels(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
}

/* A schema that is older has no cancels: that is no error, and it is not asked again. */
static void test_older_schema(void **state)
{
	(void)state;
	cancel_ask(&cancel);
	quiet_start();
	fake_fail_cancels(fake, "42883");
	assert_false(quiet_end("cancelled"));
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
}

/* A question that fails is asked again, since no other notification may come; the log says so once. */
static void test_fails(void **state)
{
	const struct queue_cancel wanted = wish(1);

	(void)state;
	in_hand(1, MSG_RUNNING);
	cancel_ask(&cancel);
	quiet_start();
	fake_fail_cancels(fake, "57014");
	assert_true(quiet_end("which messages an operator wants cancelled"));
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
	fake_advance(fake, 2000);
	quiet_start();
	fake_fail_cancels(fake, "57014");
	assert_false(quiet_end("cancelled"));
	fake_advance(fake, 2000);
	fake_answer_cancels(fake, &wanted, 1);
	assert_int_equal(fake->cancelled, 1);
	fake_advance(fake, 60000);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
	cancel_ask(&cancel);
	quiet_start();
	fake_fail_cancels(fake, "57014");
	assert_true(quiet_end("which messages an operator wants cancelled")); /* that is news again */
}

/* What was to be asked again is not asked without a connection; nor twice, when another question comes first. */
static void test_fails_and_is_asked(void **state)
{
	(void)state;
	cancel_ask(&cancel);
	quiet_start();
	fake_fail_cancels(fake, "57014");
	quiet_end("");
	worker.up = false;
	cancel_down(&cancel);
	fake_advance(fake, 2000);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
	worker.up = true;
	cancel_ask(&cancel);
	quiet_start();
	fake_fail_cancels(fake, "57014");
	quiet_end("");
	cancel_ask(&cancel);
	fake_answer_cancels(fake, NULL, 0);
	fake_advance(fake, 2000);
	assert_int_equal(fake_count(fake, FAKE_CANCELS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_has_its_outcome, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_while_asking, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_older_schema, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fails_and_is_asked, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
