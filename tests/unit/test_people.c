/* test_people.c: who has a token: the list is read, or refused with the reason; a token is found only when it is the
 * same. */
#include "config.h"

#include "base/people.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MARIA "0123456789abcdef0123456789abcdef"
/* The longest name. */
#define LONG "a123456789b123456789c123456789d123456789e123456789f123456789"
#define ANTON "fedcba9876543210fedcba9876543210"

/* Each one has a name, a role and a token. */
static void test_read(void **state)
{
	struct people p = { 0 };

	(void)state;
	assert_null(people_read(&p, " maria:act:" MARIA ", anton.b@example.test:look:" ANTON ":x  "));
	assert_int_equal(p.n, 2);
	assert_string_equal(people_find(&p, MARIA)->name, "maria");
	assert_int_equal(people_find(&p, MARIA)->role, PEOPLE_ACT);
	assert_string_equal(people_find(&p, ANTON ":x")->name, "anton.b@example.test");
	assert_int_equal(people_find(&p, ANTON ":x")->role, PEOPLE_LOOK);
	people_free(&p);
	assert_null(people_read(&p, LONG ":bodies:0123456789abcdef"));
	assert_int_equal(people_find(&p, "0123456789abcdef")->role, PEOPLE_BODIES);
	people_free(&p);
	assert_null(people_read(&p, ""));
	assert_int_equal(p.n, 0);
	assert_null(people_find(&p, ""));
}

/* Only the token is the token. */
static void test_find(void **state)
{
	static const char *const others[] = { "", "secret-toke", "secret-tokenn", "secret-tokex", "xecret-token",
		"secret-tokensecret-token", "SECRET-TOKEN" };
	struct people p = { 0 };

	(void)state;
	people_add(&p, "a", PEOPLE_ACT, "another-token");
	people_add(&p, "b", PEOPLE_LOOK, "secret-token");
	people_add(&p, "c", PEOPLE_ACT, "");
	assert_string_equal(people_find(&p, "secret-token")->name, "b");
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		assert_null(people_find(&p, others[i]));
	people_free(&p);
}

/* What is wrong is said, without the token. */
static void test_refused(void **state)
{
	static const struct {
		const char *text, *said;
	} rows[] = {
		{ "maria", "NAME:ROLE:TOKEN" },
		{ "maria:act", "NAME:ROLE:TOKEN" },
		{ ":act:" MARIA, "NAME:ROLE:TOKEN" },
		{ "maria:rule:" MARIA, "none of look, bodies and act" },
		{ "maria:none:" MARIA, "none of look, bodies and act" },
		{ "maria::" MARIA, "none of look, bodies and act" },
		{ "maria:act:0123456789abcde", "16 characters" },
		{ LONG "x:act:" MARIA, "NAME:ROLE:TOKEN" },
		{ "maria:act:" MARIA " anton:look:" MARIA, "anton has the token of somebody else" },
		{ "maria:act:" MARIA " maria:look:" ANTON, "maria is named twice" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct people p = { 0 };
		char *error = people_read(&p, rows[i].text);

		assert_non_null(error);
		assert_non_null(strstr(error, rows[i].said));
		assert_null(strstr(error, MARIA));
		free(error);
		people_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_read), cmocka_unit_test(test_find),
		cmocka_unit_test(test_refused) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
