/* test_verify.c: which addresses are believed to be Amazon's. */
#include "config.h"

#include "mailevents/verify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TOPIC "arn:aws:sns:us-east-1:123456789012:events"

/* No certificate was fetched yet. */
static const char *none(void *arg, const char *url)
{
	(void)arg;
	(void)url;
	return NULL;
}

/* The answer to an event whose certificate is at this address. */
static enum verify_result ask(const char *sns_url, const char *url)
{
	struct verify_keys keys = { .ses_topic = TOPIC, .sns_url = sns_url };
	enum verify_result result;
	char body[512], *why;

	snprintf(body, sizeof body, "{\"Type\":\"Notification\",\"TopicArn\":\"" TOPIC "\",\"SigningCertURL\":\"%s\"}",
		url);
	result = verify_event(&keys, "ses", NULL, body, 0, none, NULL, &why);
	free(why);
	return result;
}

/* Certificates are where SNS of a region has them, and nowhere else. */
static void test_certificates(void **state)
{
	static const char *const good[] = {
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a1B.pem",
		"https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.ap-southeast-12.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-1.pem",
	};
	static const char *const bad[] = {
		"",
		"http://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
		"https://a@sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.amazonaws.com@example.test/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.amazonaws.com.example.test/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.amazonaws.example.test/SimpleNotificationService-1.pem",
		"https://sns.s3.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns..amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-east.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-east-123.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us--1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.US-EAST-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.x.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sqs.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.amazonaws.com/x/SimpleNotificationService-1.pem",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-../1.pem",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem?x=.pem",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem#.pem",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-%2e.pem",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-.pem",
		"https://sns.us-east-1.amazonaws.com/simplenotificationservice-1.pem",
		"https://sns.us-east-1.amazonaws.com/other.pem",
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (ask(NULL, good[i]) != VERIFY_CERTIFICATE)
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (ask(NULL, bad[i]) != VERIFY_FORGED)
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(ask("https://sns.example.test/", "https://sns.example.test/SimpleNotificationService-1.pem"),
		VERIFY_CERTIFICATE);
	assert_int_equal(
		ask("https://sns.example.test", "https://sns.example.test.other.test/SimpleNotificationService-1.pem"),
		VERIFY_FORGED);
}

/* A service whose signature is of a token says which; of two the one that is verified. */
static void test_tokens(void **state)
{
	cJSON *body = cJSON_Parse("{\"signature\":{\"token\":\"a\"},\"signature\":{\"token\":\"b\"}}");

	(void)state;
	assert_string_equal(verify_token("mailgun", body), "a");
	assert_null(verify_token("ses", body));
	cJSON_Delete(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_certificates), cmocka_unit_test(test_tokens) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
