/* test_yookassa.c: each state of a YooKassa payment and each status of its answers, from its documentation. */
#include "config.h"

#include "provider.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct payment_handle handle = { .metadata_key = "payment_id" };
static const struct payment_row row = { .id = "7", .provider_id = "2d9e", .currency = "RUB", .minor = 149000 };

/* Judges an answer: `more` is added to an object that is ours. */
static struct provider_answer judge(long status, const char *more)
{
	struct provider_answer a = { .verdict = VERDICT_LATER };
	char text[1000];
	cJSON *body;

	snprintf(text, sizeof text,
		"{\"id\":\"2d9e\",\"amount\":{\"value\":\"1490.00\",\"currency\":\"RUB\"},\"metadata\":{\"payment_id\":"
		"\"7\"},"
		"\"test\":false%s%s}",
		more[0] ? "," : "", more);
	body = cJSON_Parse(text);
	assert_non_null(body);
	provider_yookassa.judge(&handle, &row, status, body, &a);
	cJSON_Delete(body);
	return a;
}

/* The states of a payment. */
static void states(void **state)
{
	static const struct {
		const char *more;
		enum verdict verdict;
		const char *reason;
	} cases[] = {
		{ "\"status\":\"pending\",\"paid\":false", VERDICT_PENDING, "the provider says pending" },
		{ "\"status\":\"waiting_for_capture\",\"paid\":true,\"expires_at\":\"2026-12-05T20:00:00.000Z\"",
			VERDICT_HELD, "the provider says waiting_for_capture" },
		{ "\"status\":\"succeeded\",\"paid\":true", VERDICT_PAID, "" },
		{ "\"status\":\"succeeded\",\"paid\":false", VERDICT_MISMATCH, "the provider says succeeded, but not" },
		{ "\"status\":\"succeeded\",\"paid\":true,\"refunded_amount\":{\"value\":\"1490.00\",\"currency\":"
		  "\"RUB\"}",
			VERDICT_REFUNDED, "" },
		{ "\"status\":\"succeeded\",\"paid\":true,\"refunded_amount\":{\"value\":\"10.00\",\"currency\":"
		  "\"RUB\"}",
			VERDICT_PAID, "" },
		{ "\"status\":\"canceled\",\"paid\":false,\"cancellation_details\":{\"party\":\"yoo_money\",\"reason\":"
		  "\"expired_on_confirmation\"}",
			VERDICT_CANCELED, "canceled by yoo_money: expired_on_confirmation" },
		{ "\"status\":\"canceled\",\"paid\":false,\"cancellation_details\":{\"party\":\"merchant\",\"reason\":"
		  "\"canceled_by_merchant\"}",
			VERDICT_CANCELED, "canceled by merchant: canceled_by_merchant" },
		{ "\"status\":\"canceled\",\"paid\":false,\"cancellation_details\":{\"party\":\"yoo_money\",\"reason\":"
		  "\"expired_on_capture\"}",
			VERDICT_CANCELED, "canceled by yoo_money: expired_on_capture" },
		{ "\"status\":\"canceled\"", VERDICT_CANCELED, "canceled" },
		{ "\"status\":\"newly_invented\"", VERDICT_MISMATCH, "the provider says \"newly_invented\"" },
		{ "", VERDICT_MISMATCH, "the provider says \"\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct provider_answer a = judge(200, cases[i].more);

		if (a.verdict != cases[i].verdict || strncmp(a.reason, cases[i].reason, strlen(cases[i].reason)) != 0)
			fail_msg("case %zu: verdict %d, \"%s\"", i, a.verdict, a.reason);
	}
}

/* A payment that succeeded, but is not the one that we mean, settles nothing. */
static void others(void **state)
{
	static const struct {
		const char *id, *value, *currency, *ours, *test;
		enum verdict verdict;
	} cases[] = { { "2d9e", "1490.00", "RUB", "7", "false", VERDICT_PAID },
		{ "2d9f", "1490.00", "RUB", "7", "false", VERDICT_MISMATCH },
		{ "", "1490.00", "RUB", "7", "false", VERDICT_MISMATCH },
		{ "2d9e", "1490.01", "RUB", "7", "false", VERDICT_MISMATCH },
		{ "2d9e", "1489.99", "RUB", "7", "false", VERDICT_MISMATCH },
		{ "2d9e", "a lot", "RUB", "7", "false", VERDICT_MISMATCH },
		{ "2d9e", "1490.00", "KZT", "7", "false", VERDICT_MISMATCH },
		{ "2d9e", "1490.00", "RUB", "8", "false", VERDICT_MISMATCH },
		{ "2d9e", "1490.00", "RUB", "7", "true", VERDICT_MISMATCH } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct provider_answer a = { .verdict = VERDICT_LATER };
		char text[400];
		cJSON *body;

		snprintf(text, sizeof text,
			"{\"id\":\"%s\",\"amount\":{\"value\":\"%s\",\"currency\":\"%s\"},\"metadata\":"
			"{\"payment_id\":\"%s\"},\"test\":%s,\"status\":\"succeeded\",\"paid\":true}",
			cases[i].id, cases[i].value, cases[i].currency, cases[i].ours, cases[i].test);
		body = cJSON_Parse(text);
		provider_yookassa.judge(&handle, &row, 200, body, &a);
		cJSON_Delete(body);
		if (a.verdict != cases[i].verdict)
			fail_msg("case %zu: verdict %d, \"%s\"", i, a.verdict, a.reason);
	}
}

/* The statuses of answers that bring no payment. */
static void statuses(void **state)
{
	static const struct {
		long status;
		enum verdict verdict;
	} cases[] = { { 202, VERDICT_LATER }, { 301, VERDICT_CONFIG }, { 400, VERDICT_REFUSED },
		{ 401, VERDICT_CONFIG }, { 403, VERDICT_CONFIG }, { 404, VERDICT_NOT_FOUND }, { 405, VERDICT_REFUSED },
		{ 408, VERDICT_LATER }, { 415, VERDICT_REFUSED }, { 429, VERDICT_LATER }, { 500, VERDICT_LATER },
		{ 503, VERDICT_LATER } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(judge(cases[i].status, "").verdict, cases[i].verdict);
	assert_int_equal(judge(500, "\"retry_after\":1800").wait_ms, 1800);
}

/* Until when a payment is of use. */
static void expiry(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} cases[] = { { "2026-11-20T10:05:00.000Z", 1795169100000 }, { "2026-11-20T10:05:00Z", 1795169100000 },
		{ "2026-11-20T13:05:00.000+03:00", 1795169100000 }, { "2026-11-20T04:35:00-05:30", 1795169100000 },
		{ "2026-11-20T10:05:00+0000", 1795169100000 }, { "2026-11-20T10:05:00", 0 },
		{ "2026-11-20T10:05:00+3", 0 }, { "2026-11-20T10:05:00+03:00x", 0 }, { "soon", 0 }, { "", 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char more[100];

		snprintf(more, sizeof more, "\"status\":\"pending\",\"expires_at\":\"%s\"", cases[i].text);
		assert_int_equal(judge(200, more).expires_at_ms, cases[i].ms);
	}
	assert_int_equal(judge(200, "\"status\":\"pending\"").expires_at_ms, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(states), cmocka_unit_test(others),
		cmocka_unit_test(statuses), cmocka_unit_test(expiry) };

	return cmocka_run_group_tests_name("yookassa", tests, NULL, NULL);
}
