/* test_settle.c: outcomes and their way to the database: nothing that is known is lost, nothing is run again. */
#include "config.h"

#include "fake_queue.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "worker/settle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct fake *fake;
static struct pgmqd_worker worker;
static struct messages all;
static struct settle settle;
static unsigned kicks, stale, read_only;
static int64_t due_ms; /* when the last one is visible again */

static void on_kick(void *arg)
{
	(void)arg;
	kicks++;
}

static void on_due(void *arg, int64_t ms)
{
	(void)arg;
	due_ms = ms;
}

static void on_sent(void *arg)
{
	(void)arg;
}

static void on_stale(void *arg)
{
	(void)arg;
	stale++;
}

static void on_read_only(void *arg)
{
	(void)arg;
	read_only++;
}

static const struct settle_events events = {
	.kick = on_kick, .sent = on_sent, .due = on_due, .stale = on_stale, .read_only = on_read_only
};

static int setup(void **state)
{
	(void)state;
	fake = fake_new();
	fake_worker(fake, &worker, &all);
	settle_init(&settle, &worker, &events, NULL);
	kicks = stale = read_only = 0;
	due_ms = -1;
	return 0;
}

static int teardown(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		while ((m = TAILQ_FIRST(&all.list[s])) != NULL)
			message_forget(m);
	settle_close(&settle);
	fake_free(fake);
	return 0;
}

/* Gives n messages, numbered from 1, that outcome. */
static void end(int n, enum msg_outcome outcome)
{
	for (int i = 1; i <= n; i++) {
		struct pgmqd_msg *m = fake_message(&worker, i, MSG_RUNNING);

		if (outcome == OUT_DONE_WITH) {
			m->sql = xstrdup("select 1");
			m->shared = true;
		}
		settle_end(&settle, m, outcome, NULL, 0, xstrdup("a reason"));
	}
}

/* Gives n messages an outcome with a statement of one parameter that they share. */
static void end_with_params(int n)
{
	for (int i = 1; i <= n; i++) {
		struct pgmqd_msg *m = fake_message(&worker, i, MSG_RUNNING);

		m->sql = xstrdup("select record($1)");
		m->shared = true;
		m->nparams = 1;
		m->params = xcalloc(1, sizeof(*m->params));
		m->params[0] = xstrdup("sent");
		settle_end(&settle, m, OUT_DONE_WITH, NULL, 0, NULL);
	}
}

/* Lets the pauses after refusals pass, and sends. */
static void later(void)
{
	clock_skip_ms(60000);
	settle_send(&settle);
}

/* What is settled together goes out together, and what is settled meanwhile waits for the round. */
static void test_batches(void **state)
{
	(void)state;
	end(3, OUT_DONE);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 1);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 3);
	end(1, OUT_DONE);
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
	end(2, OUT_DONE);
	end(1, OUT_DONE);
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
	end(2, OUT_DONE);
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
		end(1, OUT_DONE_WITH);
		settle_send(&settle);
		if (i == 3) { /* a plugin's statement may lack rights of its own */
			fake_fail_settle(fake, "25006");
			assert_int_equal(read_only, 1);
		} else {
			fake_fail_settle(fake, states[i]);
		}
		assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_DONE_WITH);
		later();
		assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE_WITH);
		fake_answer_settle(fake, QUEUE_SETTLED);
		assert_true(messages_are_none(&all));
	}
}

/* A statement of the plugin that cannot work costs an attempt. */
static void test_plugins_fault(void **state)
{
	(void)state;
	end(1, OUT_DONE_WITH);
	settle_send(&settle);
	fake_fail_settle(fake, "42P01");
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_RETRY);
}

/* One row of many that cannot be stored is found by halves; the others are stored, and it is dead-lettered. */
static void test_one_of_many(void **state)
{
	unsigned statements = 0;

	(void)state;
	end(9, OUT_DONE);
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

/* What cannot be dead-lettered either stays in memory, is sent again now and then, and never becomes a retry. */
static void test_kept_in_memory(void **state)
{
	(void)state;
	end(1, OUT_DONE);
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
		later();
	}
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* A row that another session has locked does not hold up the others. */
static void test_locked_row(void **state)
{
	(void)state;
	end(1, OUT_DONE);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOCKED);
	assert_int_equal(all.count[MSG_SETTLED], 1);
	settle_end(&settle, fake_message(&worker, 9, MSG_RUNNING), OUT_DONE, NULL, 0, NULL);
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 9);
	fake_answer_settle(fake, QUEUE_SETTLED);
	later();
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->ids[0], 1);
}

/* A plugin's statement that waits for a lock does not hold up the daemon's own. */
static void test_lanes(void **state)
{
	(void)state;
	end(1, OUT_DONE_WITH);
	settle_send(&settle);
	settle_end(&settle, fake_message(&worker, 9, MSG_RUNNING), OUT_DONE, NULL, 0, NULL);
	settle_send(&settle);
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 2);
}

/* Tables that have changed: probed again, and the outcome is kept. */
static void test_stale(void **state)
{
	(void)state;
	end(1, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "42P01");
	assert_int_equal(stale, 1);
	assert_int_equal(TAILQ_FIRST(&all.list[MSG_SETTLED])->outcome, OUT_DONE);
}

/* Another worker has the message: dropped and counted. */
static void test_lost(void **state)
{
	(void)state;
	end(1, OUT_DONE);
	settle_send(&settle);
	fake_answer_settle(fake, QUEUE_LOST);
	assert_true(messages_are_none(&all));
	assert_int_equal(fake->slot->counters[STAT_LEASE_LOST], 1);
}

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
		later();
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

/* A row that is locked while others are settled: the others are stored without it. */
static void test_lock_splits(void **state)
{
	(void)state;
	end(4, OUT_DONE);
	settle_send(&settle);
	fake_fail_settle(fake, "55P03");
	settle_send(&settle);
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->n, 2);
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
	end(2, OUT_DONE_WITH);
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
	end(1, OUT_DONE_WITH);
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

/* The same twice: an answer that is lost for the second try, too, is asked about anew. */
static void test_done_with_lost_twice(void **state)
{
	(void)state;
	end(1, OUT_DONE_WITH);
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
	end(1, OUT_DONE_WITH);
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
	end(1, OUT_DONE);
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
	end(1, OUT_RELEASE);
	settle_send(&settle);
	assert_int_equal(fake->announced, 0);
	fake_answer_settle(fake, QUEUE_SETTLED);
	settle.draining = true;
	end(1, OUT_RELEASE);
	settle_send(&settle);
	assert_int_equal(fake->announced, 1);
}

/* The archive cannot be written: the statement of a plugin that says so runs alone, once, and nothing is sent before
 * its answer; then all of it is tried again. */
static void test_records_alone(void **state)
{
	(void)state;
	fake->plugin->d.records = 1;
	end_with_params(2);
	settle_send(&settle);
	fake_fail_fence(fake, "53100");
	assert_string_equal(fake_peek(fake, FAKE_QUERY)->param, "{\"sent\",\"sent\"}");
	later();
	assert_int_equal(fake_count(fake, FAKE_SETTLE), 0);
	fake_answer_query(fake, NULL);
	later();
	assert_int_equal(fake_peek(fake, FAKE_SETTLE)->outcome, OUT_DONE_WITH);
	fake_fail_fence(fake, "53100");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
	later();
	fake_answer_settle(fake, QUEUE_SETTLED);
	assert_true(messages_are_none(&all));
}

/* Not for a plugin that does not say so, not where its own statement fails, and not without a connection; what was
 * refused runs alone again. */
static void test_records_only_then(void **state)
{
	(void)state;
	end_with_params(1);
	settle_send(&settle);
	fake_fail_fence(fake, "53100");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
	fake->plugin->d.records = 1;
	later();
	fake_fail_settle(fake, "53100");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
	later();
	fake_fail_fence(fake, "55P03");
	fake_answer_query(fake, "refused, too");
	later();
	fake_fail_fence(fake, "55P03");
	fake_answer_query(fake, NULL);
	later();
	fake_fail_fence(fake, "");
	assert_int_equal(fake_count(fake, FAKE_QUERY), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_number, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_passing_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records_only_then, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plugins_fault, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_of_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept_in_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locked_row, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lanes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_begins_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resources_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_due, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waits_longer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unheard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared_statements, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_splits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_done_with_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_done_with_unsure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_done_with_lost_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whose_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_dead_letter_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_announces, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
