/* test_httproute.c: which paths fit a pattern, and the comparison of tokens. */
#include "config.h"

#include "http/access.h"
#include "http/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Plain paths, and segments that vary. */
static void test_match(void **state)
{
	char params[HTTPCALL_PARAMS][HTTPCALL_PARAM_SIZE];

	(void)state;
	assert_true(httproute_match("/health", "/health", params));
	assert_false(httproute_match("/health", "/health/", params));
	assert_false(httproute_match("/health", "/healthy", params));
	assert_false(httproute_match("/health", "/", params));
	assert_true(httproute_match("/", "/", params));
	assert_true(httproute_match("/api/{type}/status/{id}", "/api/a/status/b-1", params));
	assert_string_equal(params[0], "a");
	assert_string_equal(params[1], "b-1");
	assert_false(httproute_match("/api/{type}/status/{id}", "/api/a/result/b", params));
	assert_false(httproute_match("/api/{type}/status/{id}", "/api//status/b", params));
	assert_false(httproute_match("/api/{type}/status/{id}", "/api/a/status/", params));
	assert_false(httproute_match("/api/{type}/status/{id}", "/api/a/status/b/c", params));
}

/* What is percent-encoded is decoded, within bounds, and a NUL is none. */
static void test_decoding(void **state)
{
	char params[HTTPCALL_PARAMS][HTTPCALL_PARAM_SIZE], path[HTTPCALL_PARAM_SIZE + 2] = "/";

	(void)state;
	assert_true(httproute_match("/{a}", "/x%2Fy%20%D0%96", params));
	assert_string_equal(params[0], "x/y Ж");
	assert_false(httproute_match("/{a}", "/x%00y", params));
	memset(path + 1, 'x', HTTPCALL_PARAM_SIZE);
	assert_false(httproute_match("/{a}", path, params));
	path[HTTPCALL_PARAM_SIZE] = '\0';
	assert_true(httproute_match("/{a}", path, params));
	assert_int_equal(strlen(params[0]), HTTPCALL_PARAM_SIZE - 1);
}

/* Only the token is the token. */
static void test_token(void **state)
{
	(void)state;
	assert_true(httpguard_token_is("secret-token", "secret-token"));
	assert_false(httpguard_token_is("secret-token", "secret-tokex"));
	assert_false(httpguard_token_is("secret-token", "xecret-token"));
	assert_false(httpguard_token_is("secret-token", "secret-toke"));
	assert_false(httpguard_token_is("secret-token", "secret-tokensecret-token"));
	assert_false(httpguard_token_is("secret-token", ""));
	assert_false(httpguard_token_is("", ""));
	assert_false(httpguard_token_is("", "x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_match), cmocka_unit_test(test_decoding),
		cmocka_unit_test(test_token) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
