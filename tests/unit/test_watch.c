/* test_watch.c: who else has the advisory locks of our queues: the workers are told, and told when nobody has them. */
#include "config.h"

#include "files.h"

#include "listener/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char told[200]; /* "work+ " for a queue that somebody has, "work- " for one that he has no more */

static void taken(void *arg, const char *queue, bool is)
{
	size_t len = strlen(told);

	(void)arg;
	snprintf(told + len, sizeof told - len, "%s%c ", queue, is ? '+' : '-');
}

/* A look that has found these: queues and holders by turns. */
static void see(struct watch *w, const char *const *rows, int n)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	char names[2][8] = { "queue", "holder" }, text[40];
	PGresAttDesc columns[2] = { { .name = names[0] }, { .name = names[1] } };

	told[0] = '\0';
	PQsetResultAttrs(res, 2, columns);
	for (int i = 0; i < 2 * n; i++) {
		snprintf(text, sizeof text, "%s", rows[i]);
		PQsetvalue(res, i / 2, i % 2, text, (int)strlen(text));
	}
	watch_seen(w, res);
	PQclear(res);
}

/* One that comes is named once, and the workers are told at each look, until he has gone. */
static void test_comes_and_goes(void **state)
{
	static const char *const one[] = { "work", "anna" };
	struct watch *w = watch_new(taken, NULL);

	(void)state;
	quiet_start();
	see(w, NULL, 0);
	assert_string_equal(told, "");
	see(w, one, 1);
	assert_string_equal(told, "work+ ");
	assert_true(quiet_end("queue work: anna holds its advisory lock"));
	quiet_start();
	see(w, one, 1);
	assert_false(quiet_end("anna"));
	assert_string_equal(told, "work+ ");
	see(w, NULL, 0);
	assert_string_equal(told, "work- ");
	see(w, NULL, 0);
	assert_string_equal(told, "");
	watch_free(w);
}

/* A queue that two have is free only when both have gone; of two queues each is told of. */
static void test_two(void **state)
{
	static const char *const two[] = { "work", "anna", "work", "boris" }, *const other[] = { "other", "anna" };
	struct watch *w = watch_new(taken, NULL);

	(void)state;
	quiet_start();
	see(w, two, 2);
	see(w, two + 2, 1);
	assert_string_equal(told, "work- work+ ");
	see(w, other, 1);
	assert_string_equal(told, "work- other+ ");
	(void)quiet_end("");
	watch_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comes_and_goes),
		cmocka_unit_test(test_two),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
