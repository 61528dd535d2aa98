/* test_refused.c: rows that cannot be claimed: which are handed over, which are put aside and for how long. */
#include "config.h"

#include "base/clock.h"
#include "base/xalloc.h"
#include "worker/queue_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct queue_pg q;

static int setup(void **state)
{
	(void)state;
	q = (struct queue_pg){ .queue_table = "pgmq.q_work", .rules = { .max_attempts = 3 } };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	queue_forget_refused(&q);
	return 0;
}

/* A row whose claim has failed. */
static void refuse(int64_t id, bool passes)
{
	queue_refused_add(
		&q, (struct refused){ .id = id, .born_us = 7, .passes = passes, .error = xstrdup("not this one") });
}

/* How many would be handed over. */
static size_t hopeless(void)
{
	size_t n;

	queue_refused_new(&q, &n);
	return n;
}

/* How many may be there because no row can be claimed. */
static size_t unproven(void)
{
	size_t n;

	return queue_refused_new(&q, &n);
}

/* One whose content is at fault is handed over when others can be claimed, once, and looked at again much later. */
static void test_content(void **state)
{
	struct pgmqd_msg m = { 0 };

	(void)state;
	refuse(5, false);
	assert_int_equal(hopeless(), 1);
	queue_refused_row(&q, 0, &m);
	assert_int_equal(m.id, 5);
	assert_non_null(strstr(m.unreadable, "not this one"));
	free(m.unreadable);
	assert_true(queue_refused_aside(&q, QUEUE_NOT_DUE) == QUEUE_NOT_DUE);
	queue_refused_told(&q);
	assert_int_equal(hopeless(), 0);
	queue_refused_due(&q);
	assert_int_equal(q.nrefused, 1);
	clock_skip_ms(61000);
	queue_refused_due(&q);
	assert_int_equal(q.nrefused, 0);
}

/* One whose error passes is put aside, for longer each time, and handed over after max_attempts tries. */
static void test_passes(void **state)
{
	int64_t last = 0;

	(void)state;
	for (unsigned tries = 1; tries < 3; tries++) {
		int64_t ms;

		refuse(5, true);
		assert_int_equal(q.nrefused, 1);
		assert_int_equal(unproven(), tries == 1);
		assert_int_equal(hopeless(), 0);
		ms = queue_refused_aside(&q, QUEUE_NOT_DUE);
		assert_true(ms > last && ms < 60000);
		assert_true(queue_refused_aside(&q, 1) <= 1);
		assert_true(queue_refused_is_below(&q));
		clock_skip_ms(ms + 1);
		queue_refused_due(&q);
		assert_true(q.refused[0].again);
		last = ms;
	}
	refuse(5, true);
	assert_int_equal(hopeless(), 1);
}

/* While no other row can be claimed, none of them has failed by itself: no try counts, and they wait shortly. */
static void test_all(void **state)
{
	char *error;

	(void)state;
	for (int i = 0; i < 9; i++) {
		refuse(5, true);
		refuse(6, true);
		assert_int_equal(unproven(), 2);
		assert_int_equal(hopeless(), 0);
		error = queue_refused_all(&q);
		assert_string_equal(error, "not this one");
		free(error);
		clock_skip_ms(1100);
		queue_refused_due(&q);
		assert_true(q.refused[0].again && q.refused[1].again);
	}
	queue_refused_claimed(&q, NULL, 0, true);
	assert_int_equal(q.nrefused, 0);
	refuse(5, false);
	error = queue_refused_all(&q);
	assert_non_null(
		strstr(error, "none of the due messages can be claimed (a trigger on pgmq.q_work?): message 5"));
	free(error);
	assert_int_equal(q.nrefused, 0);
}

/* A number that comes again in another message begins anew. */
static void test_number_of_another(void **state)
{
	(void)state;
	refuse(5, true);
	queue_refused_aside(&q, QUEUE_NOT_DUE);
	q.refused[0].born_us = 8;
	refuse(5, true);
	assert_int_equal(q.nrefused, 1);
	assert_int_equal(q.refused[0].tries, 1);
	assert_false(q.refused[0].proven);
}

/* Rows that a trigger keeps, as the claim's answer lists them. */
static void test_kept(void **state)
{
	(void)state;
	queue_refused_kept(&q, "5 1 1700000000000000 123456,6 0 1700000000000001 0");
	assert_int_equal(q.nrefused, 2);
	assert_int_equal(q.refused[0].nonce, 123456);
	assert_int_equal(q.refused[1].id, 6);
	assert_int_equal(hopeless(), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_number_of_another, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
