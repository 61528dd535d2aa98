/* test_wakepipe.c: the words from the listener to a worker, also where a unit has more queues than a word can name. */
#include "config.h"

#include "process/wakepipe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const int news[] = { 0, WAKE_CANCEL, WAKE_FREE, WAKE_TAKEN, WAKE_OPERATED };
#define NEWS (sizeof(news) / sizeof(*news))

static void test_every_word_means_its_queue(void **state)
{
	static const size_t indexes[] = { 0, 1, 4093, 4094, 4095, 4096, 4097, 8191, 70000 };

	(void)state;
	for (size_t i = 0; i < sizeof(indexes) / sizeof(*indexes); i++)
		for (size_t n = 0; n < NEWS; n++) {
			wake_word w = wake_word_for(indexes[i], news[n]);

			assert_true(wake_word_means(w, indexes[i]));
			assert_false(wake_word_means(w, indexes[i] + 1));
			assert_int_equal(wake_word_news(w), news[n]);
			assert_true(w < WAKE_ALL);
		}
}

static void test_beyond_4096_only_queues_of_one_remainder_are_woken(void **state)
{
	unsigned meant = 0;

	(void)state;
	for (size_t k = 0; k < 10000; k++)
		if (wake_word_means(wake_word_for(4097, 0), k)) {
			assert_int_equal(k % 4096, 1);
			meant++;
		}
	assert_int_equal(meant, 3);
}

static void test_all_are_meant_by_the_word_for_all(void **state)
{
	(void)state;
	for (size_t k = 0; k < 10000; k += 7)
		assert_true(wake_word_means(WAKE_ALL, k));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_word_means_its_queue),
		cmocka_unit_test(test_beyond_4096_only_queues_of_one_remainder_are_woken),
		cmocka_unit_test(test_all_are_meant_by_the_word_for_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
