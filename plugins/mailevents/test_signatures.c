/* test_signatures.c: an event counts only with the whole signature of its service, and in time. */
#include "config.h"

#include "verify.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW 1800000000
#define BODY "{\"type\":\"email.bounced\"}"
#define SECRET "0123456789abcdef01234567"
#define SECRET_BASE64 "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

static struct verify_keys keys;
static char key_base64[400];
static EVP_PKEY *key;

static const char *no_certificate(void *arg, const char *url)
{
	(void)arg, (void)url;
	return NULL;
}

/* The result of each event. */
static enum verify_result verify(const char *service, const cJSON *headers, const char *body, int64_t came_s)
{
	char *why;
	enum verify_result result = verify_event(&keys, service, headers, body, came_s, no_certificate, NULL, &why);

	assert_true((why == NULL) == (result == VERIFY_GOOD));
	free(why);
	return result;
}

/* HMAC-SHA256. */
static void hmac(const char *text, unsigned char digest[32])
{
	unsigned n = 32;

	HMAC(EVP_sha256(), SECRET, sizeof(SECRET) - 1, (const unsigned char *)text, strlen(text), digest, &n);
}

/* Resend's event with this signature behind "v1,". */
static enum verify_result resend(const char *signature, const char *body, int64_t came_s)
{
	cJSON *h = cJSON_CreateObject();
	enum verify_result result;
	char text[400];

	snprintf(text, sizeof(text), "v1,%s", signature);
	cJSON_AddStringToObject(h, "svix-id", "msg_1");
	cJSON_AddStringToObject(h, "svix-timestamp", "1800000000");
	cJSON_AddStringToObject(h, "svix-signature", text);
	result = verify("resend", h, body, came_s);
	cJSON_Delete(h);
	return result;
}

/* A signature that is empty, shorter, longer, or another one is none; so is one of another time or body. */
static void test_resend(void **state)
{
	unsigned char digest[33] = { 0 };
	char good[64], text[64];

	(void)state;
	hmac("msg_1.1800000000." BODY, digest);
	EVP_EncodeBlock((unsigned char *)good, digest, 32);
	assert_int_equal(resend(good, BODY, NOW), VERIFY_GOOD);
	assert_int_equal(resend("", BODY, NOW), VERIFY_FORGED);
	assert_int_equal(resend("=", BODY, NOW), VERIFY_FORGED);
	for (int n = 1; n <= 33; n++) { /* 32 bytes are the signature */
		EVP_EncodeBlock((unsigned char *)text, digest, n);
		assert_int_equal(resend(text, BODY, NOW), n == 32 ? VERIFY_GOOD : VERIFY_FORGED);
	}
	snprintf(text, sizeof(text), "AAAA v1,%.50s", good);
	assert_int_equal(resend(text, BODY, NOW), VERIFY_GOOD); /* one of several, wherever it is */
	snprintf(text, sizeof(text), "%.50s v1,AAAA", good);
	assert_int_equal(resend(text, BODY, NOW), VERIFY_GOOD);
	digest[0] ^= 1;
	EVP_EncodeBlock((unsigned char *)text, digest, 32);
	assert_int_equal(resend(text, BODY, NOW), VERIFY_FORGED);
	assert_int_equal(resend(good, BODY " ", NOW), VERIFY_FORGED);
	assert_int_equal(resend(good, BODY, NOW + 300), VERIFY_GOOD);
	assert_int_equal(resend(good, BODY, NOW + 301), VERIFY_FORGED);
	assert_int_equal(resend(good, BODY, NOW - 300), VERIFY_GOOD);
	assert_int_equal(resend(good, BODY, NOW - 301), VERIFY_FORGED);
	keys.resend_secret = "";
	assert_int_equal(resend(good, BODY, NOW), VERIFY_NO_KEY);
}

/* Mailgun's event with this signature. */
static enum verify_result mailgun(const char *signature, int64_t came_s)
{
	char body[400];

	snprintf(body, sizeof(body),
		"{\"signature\":{\"timestamp\":\"1800000000\",\"token\":\"tok\",\"signature\":\"%s\"}}", signature);
	return verify("mailgun", NULL, body, came_s);
}

/* The same for Mailgun, in hex. */
static void test_mailgun(void **state)
{
	unsigned char digest[32];
	char good[67] = "", text[80];

	(void)state;
	hmac("1800000000tok", digest);
	for (int i = 0; i < 32; i++)
		snprintf(good + 2 * i, 3, "%02x", digest[i]);
	assert_int_equal(mailgun(good, NOW), VERIFY_GOOD);
	assert_int_equal(mailgun("", NOW), VERIFY_FORGED);
	for (int n = 1; n < 64; n++) {
		snprintf(text, sizeof(text), "%.*s", n, good);
		assert_int_equal(mailgun(text, NOW), VERIFY_FORGED);
	}
	snprintf(text, sizeof(text), "%.64s0", good);
	assert_int_equal(mailgun(text, NOW), VERIFY_FORGED);
	good[63] = good[63] == '0' ? '1' : '0';
	assert_int_equal(mailgun(good, NOW), VERIFY_FORGED);
	assert_int_equal(verify("mailgun", NULL, "{}", NOW), VERIFY_FORGED);
	assert_int_equal(verify("mailgun", NULL, "no JSON", NOW), VERIFY_FORGED);
}

/* SendGrid's event with this signature. */
static enum verify_result sendgrid(const char *signature, const char *body)
{
	cJSON *h = cJSON_CreateObject();
	enum verify_result result;

	cJSON_AddStringToObject(h, "X-Twilio-Email-Event-Webhook-Timestamp", "1800000000");
	cJSON_AddStringToObject(h, "X-Twilio-Email-Event-Webhook-Signature", signature);
	result = verify("sendgrid", h, body, NOW);
	cJSON_Delete(h);
	return result;
}

/* The same for SendGrid, by a public key. */
static void test_sendgrid(void **state)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char sig[100];
	size_t len = sizeof(sig);
	char good[200], text[200];

	(void)state;
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(EVP_DigestSign(ctx, sig, &len, (const unsigned char *)"1800000000[]", 12), 1);
	EVP_MD_CTX_free(ctx);
	EVP_EncodeBlock((unsigned char *)good, sig, (int)len);
	assert_int_equal(sendgrid(good, "[]"), VERIFY_GOOD);
	assert_int_equal(sendgrid(good, "[1]"), VERIFY_FORGED);
	assert_int_equal(sendgrid("", "[]"), VERIFY_FORGED);
	for (int n = 1; n < (int)len; n++) {
		EVP_EncodeBlock((unsigned char *)text, sig, n);
		assert_int_equal(sendgrid(text, "[]"), VERIFY_FORGED);
	}
	sig[len] = 0;
	EVP_EncodeBlock((unsigned char *)text, sig, (int)len + 1);
	assert_int_equal(sendgrid(text, "[]"), VERIFY_FORGED);
}

/* SNS: another topic, and certificates that are not at Amazon's. */
static void test_ses(void **state)
{
	static const char *const others[] = {
		"https://sns.eu-west-1.amazonaws.com.evil.test/SimpleNotificationService-1.pem",
		"http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://sns.evil.test/SimpleNotificationService-1.pem",
		"https://sns.eu-west-1.amazonaws.com/other.pem",
		"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem.exe", ""
	};
	char body[400];

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		snprintf(body, sizeof(body), "{\"TopicArn\":\"arn:topic\",\"SigningCertURL\":\"%s\"}", others[i]);
		assert_int_equal(verify("ses", NULL, body, NOW), VERIFY_FORGED);
	}
	assert_int_equal(verify("ses", NULL,
				 "{\"TopicArn\":\"arn:topic\",\"SigningCertURL\":\"https://sns.eu-west-1.amazonaws.com/"
				 "SimpleNotificationService-1.pem\"}",
				 NOW),
		VERIFY_CERTIFICATE);
	assert_int_equal(verify("ses", NULL,
				 "{\"TopicArn\":\"arn:other\",\"SigningCertURL\":\"https://sns.eu-west-1.amazonaws.com/"
				 "SimpleNotificationService-1.pem\"}",
				 NOW),
		VERIFY_FORGED);
}

/* A secret that is none is noticed at the start. */
static void test_keys(void **state)
{
	(void)state;
	assert_null(verify_keys_wrong(&keys));
	keys.resend_secret = "whsec_";
	assert_non_null(verify_keys_wrong(&keys));
	keys.resend_secret = "whsec_MDEy";
	assert_non_null(verify_keys_wrong(&keys));
	keys.resend_secret = SECRET_BASE64;
	assert_non_null(verify_keys_wrong(&keys));
	keys.resend_secret = NULL;
	keys.sendgrid_key = "MDEy";
	assert_non_null(verify_keys_wrong(&keys));
}

static int setup(void **state)
{
	unsigned char *der = NULL;
	int len;

	(void)state;
	if (!key)
		key = EVP_EC_gen("P-256");
	len = i2d_PUBKEY(key, &der);
	EVP_EncodeBlock((unsigned char *)key_base64, der, len);
	OPENSSL_free(der);
	keys = (struct verify_keys){ .resend_secret = "whsec_" SECRET_BASE64,
		.sendgrid_key = key_base64,
		.mailgun_key = SECRET,
		.ses_topic = "arn:topic" };
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_resend, setup),
		cmocka_unit_test_setup(test_mailgun, setup),
		cmocka_unit_test_setup(test_sendgrid, setup),
		cmocka_unit_test_setup(test_ses, setup),
		cmocka_unit_test_setup(test_keys, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
