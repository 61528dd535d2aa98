/* test_http.c: the grammar of a request's head, which paths fit a pattern, and the comparison of tokens. */
#include "config.h"

#include "http/access.h"
#include "http/head.h"
#include "http/route.h"
#include "http/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The status with which a head is refused; 0: it is not. */
static int refused(const char *text, size_t len)
{
	struct http_head h;
	int status;

	assert_int_equal(http_head_length(text, len), len);
	http_head_parse(&h, text, len);
	status = h.status;
	assert_true(status == 0 || (h.code != NULL && h.message != NULL));
	http_head_free(&h);
	return status;
}

#define REFUSED(text) refused(text, sizeof(text) - 1)
#define GET "GET / HTTP/1.1\r\nHost: localhost\r\n"

/* What a head may be. */
static void test_good_heads(void **state)
{
	static const char text[] = "POST /a%20b?c=d&e HTTP/1.1\r\nhost: [::1]:80\r\nX-Y:\t a b \t\r\nEmpty:\r\n"
				   "Accept: a\r\nAccept: b\r\nContent-Length: 12\r\nExpect: 100-Continue\r\n\r\n";
	struct http_head h;

	(void)state;
	http_head_parse(&h, text, sizeof text - 1);
	assert_int_equal(h.status, 0);
	assert_int_equal(h.method, HTTP_POST);
	assert_string_equal(h.path, "/a%20b");
	assert_string_equal(h.query, "c=d&e");
	assert_string_equal(http_head_find(&h, "Host"), "[::1]:80");
	assert_string_equal(http_head_find(&h, "x-y"), "a b");
	assert_string_equal(http_head_find(&h, "Empty"), "");
	assert_null(http_head_find(&h, "Accept")); /* it is there twice, so nobody may believe one of them */
	assert_int_equal(h.body, 12);
	assert_true(h.expects && h.keep_alive && !h.old);
	http_head_free(&h);
	http_head_parse(&h, GET "Connection: x, Close\r\n\r\n", sizeof(GET "Connection: x, Close\r\n\r\n") - 1);
	assert_false(h.keep_alive);
	http_head_free(&h);
	assert_int_equal(REFUSED(GET "\r\n"), 0);
	assert_int_equal(REFUSED("GET / HTTP/1.1\nHost: localhost\n\n"), 0);
	assert_int_equal(REFUSED("GET / HTTP/1.0\r\n\r\n"), 0);
	assert_int_equal(REFUSED(GET "User-Agent: \xd0\x96\r\n\r\n"), 0);
	assert_int_equal(http_head_length(GET, sizeof(GET) - 1), 0);
}

/* What two programs could read as two requests, and what the grammar does not have. */
static void test_bad_heads(void **state)
{
	(void)state;
	assert_int_equal(REFUSED(GET "X: a\rb\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X: a\r\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X: a\rContent-Length: 30\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X: a\nContent-Length: 30\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1\nHost: localhost\r\n\n"), 400);
	assert_int_equal(REFUSED(GET "X: \0\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X: a\vb\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X: a\x7f\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X\v: a\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X : a\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "X\"Y: a\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "\xd0\x96: a\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET ": a\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "nothing\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET " folded: 1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Host: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Authorization: a\r\nauthorization: b\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length: +1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length: 1, 1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length: 0x1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length:\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length: 1048577\r\n\r\n"), 413);
	assert_int_equal(REFUSED(GET "Transfer-Encoding: chunked\r\n\r\n"), 411);
	assert_int_equal(REFUSED(GET "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Transfer-Encoding: chunked, identity\r\n\r\n"), 400);
	assert_int_equal(REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Content-Length: 01\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /\\a HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Transfer-Encoding\v: chunked\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Expect: 100-continue\r\nExpect: x\r\n\r\n"), 400);
	assert_int_equal(REFUSED(GET "Expect: x\r\n\r\n"), 417);
	assert_int_equal(REFUSED("GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /%c0%af HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /%0 HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /?a=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /\xd0\x96 HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /#a HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET /\tHTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.1 \r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET http://a/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("GET / HTTP/1.2\r\nHost: localhost\r\n\r\n"), 400);
	assert_int_equal(REFUSED("get / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 501);
	assert_int_equal(REFUSED("PRI * HTTP/2.0\r\n\r\n"), 400);
}

/* A hundred headers, and no more. */
static void test_many_headers(void **state)
{
	char text[8192] = GET;
	size_t len = sizeof(GET) - 1;

	(void)state;
	for (int i = 1; i < HTTP_HEAD_FIELDS_MAX; i++, len += 6)
		memcpy(text + len, "X: 1\r\n", 7);
	memcpy(text + len, "\r\n", 3);
	assert_int_equal(refused(text, len + 2), 0);
	memcpy(text + len, "X: 1\r\n\r\n", 9);
	assert_int_equal(refused(text, len + 8), 431);
}

/* Percent-encoding and UTF-8. */
static void test_text(void **state)
{
	static const char *const bad[] = { "%", "%4", "%zz", "a%00", "%c0%80", "%ed%a0%80", "%f4%90%80%80", "%80",
		"%e0%80%80", "%c3" };
	char *text;

	(void)state;
	text = http_text_decode("a+%D0%96%f0%9f%98%80", 20, false);
	assert_string_equal(text, "a+\xd0\x96\xf0\x9f\x98\x80");
	free(text);
	text = http_text_decode("a+%2B", 5, true);
	assert_string_equal(text, "a +");
	free(text);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_null(http_text_decode(bad[i], strlen(bad[i]), false));
}

/* Plain paths, and segments that vary. */
static void test_match(void **state)
{
	char params[HTTP_REQUEST_PARAMS][HTTP_REQUEST_PARAM_SIZE];

	(void)state;
	assert_true(http_route_match("/health", "/health", params));
	assert_false(http_route_match("/health", "/health/", params));
	assert_false(http_route_match("/health", "/healthy", params));
	assert_false(http_route_match("/health", "/", params));
	assert_true(http_route_match("/", "/", params));
	assert_true(http_route_match("/api/{type}/status/{id}", "/api/a/status/b-1", params));
	assert_string_equal(params[0], "a");
	assert_string_equal(params[1], "b-1");
	assert_false(http_route_match("/api/{type}/status/{id}", "/api/a/result/b", params));
	assert_false(http_route_match("/api/{type}/status/{id}", "/api//status/b", params));
	assert_false(http_route_match("/api/{type}/status/{id}", "/api/a/status/", params));
	assert_false(http_route_match("/api/{type}/status/{id}", "/api/a/status/b/c", params));
}

/* What is percent-encoded is decoded, within bounds, and a NUL is none. */
static void test_decoding(void **state)
{
	char params[HTTP_REQUEST_PARAMS][HTTP_REQUEST_PARAM_SIZE], path[HTTP_REQUEST_PARAM_SIZE + 2] = "/";

	(void)state;
	assert_true(http_route_match("/{a}", "/x%2Fy%20%D0%96", params));
	assert_string_equal(params[0], "x/y Ж");
	assert_false(http_route_match("/{a}", "/x%00y", params));
	memset(path + 1, 'x', HTTP_REQUEST_PARAM_SIZE);
	assert_false(http_route_match("/{a}", path, params));
	path[HTTP_REQUEST_PARAM_SIZE] = '\0';
	assert_true(http_route_match("/{a}", path, params));
	assert_int_equal(strlen(params[0]), HTTP_REQUEST_PARAM_SIZE - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_good_heads), cmocka_unit_test(test_bad_heads),
		cmocka_unit_test(test_many_headers), cmocka_unit_test(test_text), cmocka_unit_test(test_match),
		cmocka_unit_test(test_decoding) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
