/* test_settle_outcome.c: what an outcome becomes: a retry, a dead letter, a record; and whose fault an error is. */
#include "config.h"

#include "fake_settle.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "worker/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- what an outcome becomes ---- */

/* One message with so many attempts and that outcome; it is settled and not sent. */
static struct pgmqd_msg *ended(unsigned attempt, enum msg_outcome outcome, const char *class, int64_t delay_ms)
{
	struct pgmqd_msg *m = fake_message(&worker, attempt, MSG_RUNNING);

	m->attempt = attempt;
	settle_end(&settle, m, outcome, class, delay_ms, xstrdup("a reason"));
	return m;
}

/* A retry has a delay of its own or grows one; the last attempt's is a dead letter, of its class where it has one. */
static void test_retries(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	fake->qs.max_attempts = 3;
	fake->qs.backoff_min = 1000;
	m = ended(2, OUT_RETRY, NULL, 0);
	assert_int_equal(m->outcome, OUT_RETRY);
	assert_true(m->delay_ms > 0);
	assert_int_equal(ended(2, OUT_RETRY, NULL, 77)->delay_ms, 77);
	m = ended(3, OUT_RETRY, NULL, 77);
	assert_int_equal(m->outcome, OUT_FAIL);
	assert_string_equal(m->class, "attempts");
	assert_string_equal(ended(3, OUT_RETRY, "memory", 0)->class, "memory");
	assert_string_equal(ended(1, OUT_FAIL, NULL, 0)->class, "permanent");
}

/* A new outcome begins anew: it does not wait for what the one before it had to. */
static void test_begins_anew(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	m->again = true;
	m->send_at_ms = clock_boottime_ms() + 100000;
	settle_end(&settle, m, OUT_FAIL, NULL, 0, NULL);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_FAIL);
	assert_false(fake_peek(fake, FAKE_SETTLE)->again);
}

/* Ends, and is counted. */
static void resource_end(struct msg_resource *r)
{
	TAILQ_REMOVE(&r->msg->resources, r, link);
	(*(unsigned *)(void *)(r + 1))++;
}

/* What the plugin has started for a message ends with its outcome. */
static void test_resources_end(void **state)
{
	struct {
		struct msg_resource r;
		unsigned ended;
	} timer = { .r = { .end = resource_end } };
	struct pgmqd_msg *m = fake_message(&worker, 1, MSG_RUNNING);

	(void)state;
	TAILQ_INSERT_TAIL(&m->resources, &timer.r, link);
	timer.r.msg = m;
	settle_end(&settle, m, OUT_DONE, NULL, 0, NULL);
	assert_int_equal(timer.ended, 1);
}

/* What is visible again is claimed in time. */
static void test_due(void **state)
{
	(void)state;
	ended(1, OUT_RETRY, NULL, 500);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(due_ms, 501);
	ended(1, OUT_RELEASE, NULL, -5);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_int_equal(due_ms, 1);
}

/* ---- claims that were renewed ---- */

/* An outcome goes out once more under the claim that this worker has now, and a retry counts as one of that claim. */
static void test_adopted(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	fake->qs.max_attempts = 3;
	settle_send(&settle);
	m->adopted = true;
	fake_answer_settle(fake, QUEUE_LOST);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 0);
	settle_send(&settle);
	assert_true(fake_peek(fake, FAKE_SETTLE)->again);
	assert_false(m->adopted);
	fake_answer_settle(fake, QUEUE_LOST); /* and now it belongs to another worker */
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 1);
	assert_true(messages_are_none(&all));
	m = ended(2, OUT_RETRY, NULL, 500);
	assert_true(settle_reclaimed(&settle, &(struct pgmqd_msg){ .id = 2, .read_ct = 3, .attempt = 3 }, 0));
	assert_int_equal(m->outcome, OUT_FAIL);
	m = ended(1, OUT_DONE_WITH, NULL, 0);
	m->sql = xstrdup("select 1");
	assert_true(settle_reclaimed(&settle, &(struct pgmqd_msg){ .id = 1, .read_ct = 2, .attempt = 2 }, 0));
	assert_false(settle_reclaimed(&settle, &(struct pgmqd_msg){ .id = 1, .born_us = 9, .read_ct = 3 }, 0));
	assert_false(m->again);
}

/* ---- waiting ---- */

/* An outcome that is refused waits longer each time, and its timer sends it. */
static void test_waits_longer(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);
	int64_t first;

	(void)state;
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOCKED);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	first = m->send_at_ms - clock_boottime_ms();
	for (int i = 0; i < 4; i++) {
		fake_later();
		fake_answer_settle(fake, QUEUE_LOCKED);
	}
	assert_true(m->send_at_ms - clock_boottime_ms() > 4 * first);
	for (int i = 0; i < 100 && m->send_at_ms > clock_boottime_ms(); i++) {
		kicks = 0;
		fake_advance(fake, 1100);
		assert_true(kicks > 0);
	}
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
}

/* After a reconnect what was refused before it goes first, and waits as shortly as a first refusal if it is refused
 * again. */
static void test_goes_first_after_a_reconnect(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOCKED);
	for (int i = 0; i < 4; i++) {
		fake_later();
		fake_answer_settle(fake, QUEUE_LOCKED);
	}
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	settle_connected(&settle);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
	fake_answer_settle(fake, QUEUE_LOCKED);
	assert_true(m->send_at_ms - clock_boottime_ms() <= 1000);
}

/* A lease that is lost before its end may be the work of a new trigger; one that has run out is not. */
static void test_doubts_the_tables(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	m->lease_ms = clock_boottime_ms() - 1;
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_int_equal(doubts, 0);
	m = ended(2, OUT_DONE, NULL, 0);
	m->lease_ms = clock_boottime_ms() + 20000;
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_int_equal(doubts, 1);
}

/* A row that a trigger keeps: the outcome becomes a dead letter with that cause; and if that is kept, too, it stays in
 * memory and is tried again seldom. No lease is lost, and nothing runs again. */
static void test_kept_by_a_trigger(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_REFUSED);
	assert_int_equal(m->outcome, OUT_FAIL);
	assert_string_equal(m->class, "unstored");
	assert_non_null(strstr(m->reason, QUEUE_REFUSED_ERROR));
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_REFUSED);
	assert_true(m->stuck);
	assert_int_equal(m->state, MSG_SETTLED);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	assert_true(m->send_at_ms > clock_boottime_ms() + 20000);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 0);
}

/* An outcome is stored after the plugin's statements that it does not wait for. */
static void test_unheard(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	m->unheard = 1;
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	m->unheard = 0;
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
}

/* ---- batches ---- */

/* Two messages with these statements: how many go together. */
static size_t together(const char *a, const char *b, bool shared, enum msg_outcome outcome)
{
	const char *const sql[] = { a, b };
	size_t n;

	for (int i = 0; i < 2; i++) {
		struct pgmqd_msg *m = fake_message(&worker, i + 1, MSG_RUNNING);

		m->sql = xstrdup(sql[i]);
		m->shared = shared;
		settle_end(&settle, m, outcome, NULL, 0, NULL);
	}
	settle_send(&settle);
	n = fake_peek(fake, FAKE_SETTLE)->n;
	while (fake_count(fake, FAKE_SETTLE)) {
		fake_answer_settle(fake, QUEUE_SETTLED);
		settle_send(&settle);
	}
	assert_true(messages_are_none(&all));
	return n;
}

/* Only what shares a statement goes with it. */
static void test_shared_statements(void **state)
{
	(void)state;
	assert_int_equal(together("select 1", "select 1", true, OUT_DONE_WITH), 2);
	assert_int_equal(together("select 1", "select 2", true, OUT_DONE_WITH), 1);
	assert_int_equal(together("select 1", "select 1", false, OUT_DONE_WITH), 1);
	assert_int_equal(together("{}", "{}", true, OUT_REPLACE), 1);
}

/* Each parameter of a statement that messages share is an array of theirs; of one that they do not share, it is as it
 * is. */
static void test_params(void **state)
{
	struct pgmqd_msg *msgs[2];
	char *text;

	(void)state;
	for (int i = 0; i < 2; i++) {
		msgs[i] = fake_message(&worker, i + 1, MSG_RUNNING);
		msgs[i]->nparams = 1;
		msgs[i]->params = xcalloc(1, sizeof(*msgs[i]->params));
		msgs[i]->params[0] = i == 0 ? xstrdup("a \"b\"") : NULL;
	}
	text = message_param(msgs, 1, 0);
	assert_string_equal(text, "a \"b\"");
	free(text);
	msgs[0]->shared = msgs[1]->shared = true;
	text = message_param(msgs, 2, 0);
	assert_string_equal(text, "{\"a \\\"b\\\"\",NULL}");
	free(text);
}

/* A row that is locked while others are settled: the others are stored without it. */
static void test_lock_splits(void **state)
{
	(void)state;
	fake_end(4, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "55P03");
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 2);
}

/* What is suspected of spoiling a batch goes alone: a fresh outcome does not join it. */
static void test_suspect_goes_alone(void **state)
{
	(void)state;
	fake_end(2, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "22P02");
	(void)ended(3, OUT_DONE, NULL, 0);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 1);
}

/* An outcome that takes the place of one that was refused waits as shortly as a first one. */
static void test_new_outcome_waits_anew(void **state)
{
	struct pgmqd_msg *m = ended(1, OUT_DONE, NULL, 0);

	(void)state;
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOCKED);
	for (int i = 0; i < 4; i++) {
		fake_later();
		fake_answer_settle(fake, QUEUE_LOCKED);
	}
	fake_later();
	fake_fail_settle(fake, "22P02");
	assert_int_equal(m->outcome, OUT_FAIL);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOCKED);
	assert_true(m->send_at_ms - clock_boottime_ms() <= 1000);
}

/* ---- done_with ---- */

/* Lets the fence of the first done_with fail. */
static void fence_fails(void)
{
	struct fake_call c = *fake_peek(fake, FAKE_SETTLE);
	struct queue_settled s = { .sqlstate = "22P02", .n = c.n, .lost = true };

	for (size_t i = 0; i < fake->ncalls; i++)
		if (fake->calls[i].kind == FAKE_SETTLE) {
			memmove(&fake->calls[i], &fake->calls[i + 1], (--fake->ncalls - i) * sizeof(c));
			break;
		}
	c.cb.settled(c.arg, &s);
}

/* One lost lease of several is found by parts; the others commit. */
static void test_done_with_lost(void **state)
{
	(void)state;
	fake_end(2, OUT_DONE_WITH);
	settle_send(&settle);
	fence_fails();
	assert_int_equal(all.count[MSG_SETTLED], 2);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 1);
	fence_fails();
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 1);
}

/* An answer that was lost: it is asked whether it committed; if not, it is run again; if the fence then says that the
 * claim is over, it may have committed after the question, and is asked about once more. */
static void test_done_with_unsure(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE_WITH);
	settle_send(&settle);
	fake_fail_settle(fake, "");
	settle_send(&settle);
	assert_true(fake_peek(fake, FAKE_SETTLE)->again);
	fake_answer_settle(fake, QUEUE_LOST);
	settle_send(&settle);
	assert_false(fake_peek(fake, FAKE_SETTLE)->again);
	fence_fails();
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 0);
	settle_send(&settle);
	assert_true(fake_peek(fake, FAKE_SETTLE)->again);
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* When that answer is no, too, another worker has the message: it is not asked for ever. */
static void test_done_with_unsure_and_lost(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE_WITH);
	settle_send(&settle);
	fake_fail_settle(fake, "");
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOST);
	settle_send(&settle);
	fence_fails();
	settle_send(&settle);
	assert_true(fake_peek(fake, FAKE_SETTLE)->again);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 1);
	assert_true(messages_are_none(&all));
}

/* The same twice: an answer that is lost for the second try, too, is asked about anew. */
static void test_done_with_lost_twice(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE_WITH);
	for (int i = 0; i < 2; i++) {
		settle_send(&settle);
		fake_fail_settle(fake, "");
		settle_send(&settle);
		assert_true(fake_peek(fake, FAKE_SETTLE)->again);
		fake_answer_settle(fake, QUEUE_LOST);
	}
	settle_send(&settle);
	assert_false(fake_peek(fake, FAKE_SETTLE)->again);
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 0);
}

/* ---- blame ---- */

/* Answers with an error, of the fence or of the plugin's statement. */
static void refuse(const char *sqlstate, bool ours)
{
	struct fake_call c = *fake_peek(fake, FAKE_SETTLE);
	struct queue_settled s = { .error = "refused", .sqlstate = sqlstate, .n = c.n, .ours = ours };

	assert_int_equal(fake->ncalls, 1);
	fake->ncalls = 0;
	c.cb.settled(c.arg, &s);
}

/* A table that is missing: the plugin's statement costs an attempt, the fence's has the tables looked at again. A
 * remainder that is no JSON is the plugin's, too. */
static void test_whose_error(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE_WITH);
	settle_send(&settle);
	refuse("42P01", true);
	assert_int_equal(stale, 1);
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_DONE_WITH);
	settle_send(&settle);
	refuse("42P01", false);
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_RETRY);
	settle_end(&settle, fake_message(&worker, 5, MSG_RUNNING), OUT_REPLACE, NULL, 0, NULL);
	message_forget(TAILQ_FIRST(&all.list[MSG_SETTLED]));
	settle_send(&settle);
	refuse("22P02", false);
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_RETRY);
}

/* A session that cannot write: the outcome waits for another one. */
static void test_read_only(void **state)
{
	(void)state;
	fake_end(1, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "25006");
	assert_int_equal(read_only, 1);
	settle_send(&settle); /* the lane is open again */
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE);
}

/* ---- without a dead-letter queue ---- */

/* A failed message is kept and seen again after a while; but not one whose outcome could not be stored. */
static void test_no_dead_letter_queue(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	fake->no_dlq = true;
	fake->qs.backoff_max = 60000;
	ended(1, OUT_FAIL, NULL, 0);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_RETRY);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->delay_ms, 60000);
	fake_answer_settle(fake, QUEUE_SETTLED);
	m = ended(1, OUT_FAIL, NULL, 0);
	m->stuck = true;
	settle_send(&settle);
	assert_int_equal(m->outcome, OUT_FAIL);
}

/* ---- the end ---- */

/* A worker that stops tells others of what it gives back. */
static void test_announces(void **state)
{
	(void)state;
	fake_end(1, OUT_RELEASE);
	settle_send(&settle);
	assert_int_equal(fake->announced, 0);
	fake_answer_settle(fake, QUEUE_SETTLED);
	settle.draining = true;
	fake_end(1, OUT_RELEASE);
	settle_send(&settle);
	assert_int_equal(fake->announced, 1);
}

/* The archive cannot be written: the statement of a plugin that says so runs alone, once, and nothing is sent before
 * its answer; then all of it is tried again. */
static void test_records_alone(void **state)
{
	(void)state;
	fake->plugin->d.records = 1;
	fake_end_with_params(2);
	settle_send(&settle);
	fake_fail_fence(fake, "53100");
	assert_string_equal(fake_peek(fake, FAKE_QUERY)->param, "{\"sent\",\"sent\"}");
	fake_later();
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	fake_answer_query(fake, NULL);
	fake_later();
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE_WITH);
	fake_fail_fence(fake, "53100");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
	fake_later();
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* Not for a plugin that does not say so, not where its own statement fails, and not without a connection; what was
 * refused runs alone again. */
static void test_records_only_then(void **state)
{
	(void)state;
	fake_end_with_params(1);
	settle_send(&settle);
	fake_fail_fence(fake, "53100");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
	fake->plugin->d.records = 1;
	fake_later();
	fake_fail_settle(fake, "53100");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
	fake_later();
	fake_fail_fence(fake, "55P03");
	fake_answer_query(fake, "refused, too");
	fake_later();
	fake_fail_fence(fake, "55P03");
	fake_answer_query(fake, NULL);
	fake_later();
	fake_fail_fence(fake, "");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_retries, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_begins_anew, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_resources_end, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_due, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_adopted, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_kept_by_a_trigger, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_waits_longer, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_doubts_the_tables, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_goes_first_after_a_reconnect, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_unheard, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_shared_statements, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_params, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_lock_splits, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_suspect_goes_alone, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_new_outcome_waits_anew, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_done_with_lost, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_done_with_unsure, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_done_with_unsure_and_lost, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_done_with_lost_twice, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_whose_error, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_read_only, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_no_dead_letter_queue, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_announces, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_records_alone, settle_setup, settle_teardown),
		cmocka_unit_test_setup_teardown(test_records_only_then, settle_setup, settle_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
