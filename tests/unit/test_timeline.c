/* test_timeline.c: an old primary is told from the server that pgmqd works with, and the newest timeline is remembered.
 */
#include "config.h"

#include "pg/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static _Atomic uint64_t words[TIMELINE_WORDS];

/* Whether a server with that system identifier and timeline, as it writes them, is taken. */
static bool taken(const char *system, const char *timeline)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc columns[2] = { { .name = (char *)(uintptr_t) "system" },
		{ .name = (char *)(uintptr_t) "timeline" } };
	char *reason;

	assert_true(PQsetResultAttrs(res, 2, columns));
	assert_true(PQsetvalue(res, 0, 0, (char *)(uintptr_t)system, (int)strlen(system)));
	assert_true(PQsetvalue(res, 0, 1, (char *)(uintptr_t)timeline, (int)strlen(timeline)));
	reason = timeline_check(res);
	PQclear(res);
	if (reason)
		assert_non_null(strstr(reason, "old primary"));
	free(reason);
	return !reason;
}

static int setup(void **state)
{
	(void)state;
	memset((void *)words, 0, sizeof(words));
	timeline_share(words);
	return 0;
}

/* The same timeline and later ones are taken, an older one is not; and what was refused changes nothing. */
static void test_older(void **state)
{
	(void)state;
	assert_true(taken("7", "0000000A"));
	assert_true(taken("7", "0000000A"));
	assert_true(taken("7", "0000000B"));
	assert_false(taken("7", "0000000A"));
	assert_int_equal(words[TIMELINE_REFUSED], 10);
	assert_false(taken("7", "0000000A"));
	assert_int_equal(words[TIMELINE_NEWEST], 11);
	assert_true(taken("7", "0000000C"));
	assert_int_equal(words[TIMELINE_REFUSED], 0);
	assert_false(taken("7", "0000000B"));
}

/* Another cluster counts from its own beginning. */
static void test_another_cluster(void **state)
{
	(void)state;
	assert_true(taken("7", "00000005"));
	assert_true(taken("8", "00000001"));
	assert_true(taken("8", "00000002"));
	assert_false(taken("8", "00000001"));
}

/* A server that does not tell is taken as it is, and nothing is learnt from it. */
static void test_tells_nothing(void **state)
{
	(void)state;
	assert_true(taken("7", "00000005"));
	assert_true(taken("", "00000001"));
	assert_true(taken("7", ""));
	assert_int_equal(words[TIMELINE_NEWEST], 5);
	assert_false(taken("7", "00000004"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_older, setup),
		cmocka_unit_test_setup(test_another_cluster, setup),
		cmocka_unit_test_setup(test_tells_nothing, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
