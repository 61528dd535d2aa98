/* test_access.c: who may ask for what: this server's names, the token, and pages of other sites. */
#include "config.h"

#include "http/access.h"
#include "http/route.h"

#include <event2/buffer.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct http_access access_rules;
static struct people everybody, none;

/* The status with which a request is refused, 0 when it is not. `host`: by its Host, else by its route. */
static int asked(bool host, enum http_method method, unsigned flags, const char *headers)
{
	const struct http_route route = { .method = method, .flags = flags };
	struct http_request r = { .route = &route, .headers = evbuffer_new() };
	char text[600];
	int status;

	snprintf(text, sizeof(text), "%s / HTTP/1.1\r\n%s\r\n", http_head_method_name(method), headers);
	http_head_parse(&r.head, text, strlen(text));
	assert_int_equal(r.head.status, 0);
	if (host)
		http_access_host(&access_rules, &r);
	else
		http_access_route(&access_rules, &r);
	status = r.refusal;
	free(r.refusal_message);
	evbuffer_free(r.headers);
	http_head_free(&r.head);
	return status;
}

#define HOST "Host: 127.0.0.1:8080\r\n"
#define TOKEN "Authorization: Bearer secret\r\n"

static int setup(void **state)
{
	(void)state;
	access_rules = (struct http_access){
		.people = &everybody, .host = "127.0.0.1", .other_names = "pgmqd.example.test, other", .guests = true
	};
	people_add(&everybody, "HTTP", PEOPLE_ACT, "secret");
	people_add(&everybody, "maria", PEOPLE_ACT, "secret-of-maria");
	people_add(&everybody, "anton", PEOPLE_LOOK, "secret-of-anton");
	people_add(&everybody, "vera", PEOPLE_BODIES, "secret-of-vera");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	people_free(&everybody);
	return 0;
}

/* The server answers to its names only, whatever the port; and to clients that send none. */
static void test_names(void **state)
{
	(void)state;
	assert_int_equal(asked(true, HTTP_GET, 0, HOST), 0);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: [::1]:8080\r\n"), 0);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: LOCALHOST\r\n"), 0);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: other:1\r\n"), 0);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: pgmqd.example.test\r\n"), 0);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: example.test\r\n"), 421);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: localhost.evil.test\r\n"), 421);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: local\r\n"), 421);
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: [::2]\r\n"), 421);
	access_rules.host = NULL; /* a Unix socket */
	assert_int_equal(asked(true, HTTP_GET, 0, "Host: example.test\r\n"), 0);
}

/* A page of another site changes nothing, even with the token; how alike its name is does not matter. */
static void test_other_sites(void **state)
{
	static const char *const foreign[] = { "Origin: http://127.0.0.1:8080.evil.test\r\n",
		"Origin: http://127.0.0.1:80801\r\n", "Origin: http://127.0.0.1\r\n", "Origin: http://evil.test\r\n",
		"Origin: null\r\n", "Origin: http://evil.test/?http://127.0.0.1:8080\r\n",
		"Sec-Fetch-Site: same-site\r\n", "Sec-Fetch-Site: cross-site\r\n",
		"Origin: http://127.0.0.1:8080\r\nSec-Fetch-Site: same-site\r\n" };
	static const char *const ours[] = { "", "Origin: http://127.0.0.1:8080\r\n",
		"Origin: https://127.0.0.1:8080\r\nSec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n" };
	char headers[300];

	(void)state;
	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++) {
		snprintf(headers, sizeof(headers), HOST TOKEN "%s", foreign[i]);
		assert_int_equal(asked(false, HTTP_POST, 0, headers), 403);
		assert_int_equal(asked(false, HTTP_GET, 0, headers), 0);
	}
	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++) {
		snprintf(headers, sizeof(headers), HOST TOKEN "%s", ours[i]);
		assert_int_equal(asked(false, HTTP_POST, 0, headers), 0);
	}
}

/* A change needs the token everywhere; reading needs it where others than this machine reach the server. */
static void test_token(void **state)
{
	(void)state;
	assert_int_equal(asked(false, HTTP_POST, 0, HOST), 401);
	assert_int_equal(asked(false, HTTP_POST, HTTP_ROUTE_OPEN, HOST), 401);
	assert_int_equal(asked(false, HTTP_POST, 0, HOST "Authorization: Bearer secre\r\n"), 401);
	assert_int_equal(asked(false, HTTP_POST, 0, HOST "Authorization: Bearer secrett\r\n"), 401);
	assert_int_equal(asked(false, HTTP_POST, 0, HOST "Authorization: Basic secret\r\n"), 401);
	assert_int_equal(asked(false, HTTP_POST, 0, HOST "Authorization: Secret secret\r\n"), 401);
	assert_int_equal(asked(false, HTTP_POST, 0, HOST TOKEN), 0);
	assert_int_equal(asked(false, HTTP_GET, 0, HOST), 0);
	assert_int_equal(asked(false, HTTP_GET, HTTP_ROUTE_TOKEN, HOST), 401);
	access_rules.guests = false;
	assert_int_equal(asked(false, HTTP_GET, 0, HOST), 401);
	assert_int_equal(asked(false, HTTP_GET, HTTP_ROUTE_OPEN, HOST), 0);
	assert_int_equal(asked(false, HTTP_GET, HTTP_ROUTE_PROBE, HOST), 0);
	assert_int_equal(asked(false, HTTP_GET, 0, HOST TOKEN), 0);
	access_rules.people = &none;
	assert_int_equal(asked(false, HTTP_POST, 0, HOST "Authorization: Bearer \r\n"), 403);
	assert_int_equal(asked(false, HTTP_POST, 0, HOST TOKEN), 403);
}

/* What each role may do, on a server where guests may look and on one where they may not. */
static void test_roles(void **state)
{
	static const struct {
		const char *headers;
		int guests, look, open, bodies, act; /* the status; 0: let through */
	} rows[] = {
		{ HOST, true, 0, 0, 401, 401 },
		{ HOST, false, 401, 0, 401, 401 },
		{ HOST "Authorization: Bearer wrong\r\n", true, 0, 0, 401, 401 },
		{ HOST "Authorization: Bearer wrong\r\n", false, 401, 0, 401, 401 },
		{ HOST "Authorization: Bearer secret-of-anton\r\n", true, 0, 0, 403, 403 },
		{ HOST "Authorization: Bearer secret-of-anton\r\n", false, 0, 0, 403, 403 },
		{ HOST "Authorization: Bearer secret-of-vera\r\n", false, 0, 0, 0, 403 },
		{ HOST "Authorization: Bearer secret-of-maria\r\n", false, 0, 0, 0, 0 },
		{ HOST TOKEN, false, 0, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		access_rules.guests = rows[i].guests;
		assert_int_equal(asked(false, HTTP_GET, 0, rows[i].headers), rows[i].look);
		assert_int_equal(asked(false, HTTP_GET, HTTP_ROUTE_OPEN, rows[i].headers), rows[i].open);
		assert_int_equal(asked(false, HTTP_GET, HTTP_ROUTE_TOKEN, rows[i].headers), rows[i].bodies);
		assert_int_equal(asked(false, HTTP_POST, 0, rows[i].headers), rows[i].act);
	}
}

/* A body has to say what it is. */
static void test_bodies(void **state)
{
	(void)state;
	assert_int_equal(asked(false, HTTP_POST, HTTP_ROUTE_BODY, HOST TOKEN), 411);
	assert_int_equal(asked(false, HTTP_POST, HTTP_ROUTE_BODY, HOST TOKEN "Content-Length: 2\r\n"), 415);
	assert_int_equal(
		asked(false, HTTP_POST, 0, HOST TOKEN "Content-Length: 2\r\nContent-Type: text/plain\r\n"), 415);
	assert_int_equal(asked(false, HTTP_POST, HTTP_ROUTE_BODY,
				 HOST TOKEN "Content-Length: 2\r\nContent-Type: application/json; charset=utf-8\r\n"),
		0);
	assert_int_equal(asked(false, HTTP_POST, HTTP_ROUTE_BODY,
				 HOST TOKEN "Content-Length: 2\r\nContent-Type: application/jsonx\r\n"),
		415);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_sites, setup, teardown),
		cmocka_unit_test_setup_teardown(test_token, setup, teardown),
		cmocka_unit_test_setup_teardown(test_roles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bodies, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
