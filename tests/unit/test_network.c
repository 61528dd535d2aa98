/* test_network.c: lists of networks: what they hold, what they do not, and what is none. */
#include "config.h"

#include "base/network.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_has(void **state)
{
	static const struct {
		const char *list, *ip;
		bool has;
	} cases[] = {
		{ "203.0.113.0/24", "203.0.113.0", true },
		{ "203.0.113.0/24", "203.0.113.255", true },
		{ "203.0.113.0/24", "203.0.114.0", false },
		{ "203.0.113.77/25", "203.0.113.127", true },
		{ "203.0.113.77/25", "203.0.113.128", false },
		{ "203.0.113.7", "203.0.113.7", true },
		{ "203.0.113.7", "203.0.113.6", false },
		{ "203.0.113.7/32", "203.0.113.7", true },
		{ "0.0.0.0/0", "198.51.100.1", true },
		{ "0.0.0.0/0", "2001:db8::1", false },
		{ "::/0", "2001:db8::1", true },
		{ " 198.51.100.1 ,\t2001:db8::/32,", "2001:db8:ffff::1", true },
		{ "198.51.100.1,2001:db8::/32", "2001:db9::1", false },
		{ "203.0.113.0/24", "::ffff:203.0.113.9", true },
		{ "::ffff:203.0.113.0/120", "203.0.113.9", true },
		{ "", "203.0.113.9", false },
		{ "203.0.113.0/24", "", false },
		{ "203.0.113.0/24", "user 0", false },
		{ "203.0.113.0/24", "203.0.113.9, 203.0.113.9", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		if (network_list_has(cases[i].list, cases[i].ip) != cases[i].has)
			fail_msg("\"%s\" and \"%s\"", cases[i].list, cases[i].ip);
}

static void test_problem(void **state)
{
	static const char *const wrong[] = { "localhost", "203.0.113.0/33", "203.0.113.0/", "203.0.113.0/-1",
		"203.0.113.0/24x", "203.0.113", "2001:db8::/129", "203.0.113.1, example.test", "203.0.113.0/ 24",
		"2001:0db8:0000:0000:0000:0000:0000:0000:0000:0000:0000/32", NULL };

	(void)state;
	assert_null(network_list_problem(""));
	assert_null(network_list_problem("203.0.113.0/24, 2001:db8::/32 198.51.100.7,"));
	for (size_t i = 0; wrong[i] != NULL; i++) {
		char *problem = network_list_problem(wrong[i]);

		if (problem == NULL)
			fail_msg("\"%s\" is taken", wrong[i]);
		assert_non_null(strstr(problem, "is no address"));
		free(problem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_has),
		cmocka_unit_test(test_problem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
