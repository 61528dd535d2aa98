/* verify.c: signatures of four mail services, by libcrypto. */
#include "config.h"

#include "verify.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define VERIFY_SVIX_PREFIX "whsec_"
#define VERIFY_AHEAD_S 300 /* a service's clock may be ahead by so much */

#define VERIFY_LATE "the signature's time is too far from the time at which it came"
#define VERIFY_OTHER "the signature does not match"

#define AT(field) offsetof(struct verify_keys, field)

const struct pgmqd_option verify_options[] = {
	{ "resend_webhook_secret", PGMQD_SECRET, 0, AT(resend_secret), NULL,
		"Resend: signing secret of the webhook, whsec_...", "RESEND_WEBHOOK_SECRET", NULL },
	{ "sendgrid_webhook_key", PGMQD_STRING, 0, AT(sendgrid_key), NULL,
		"SendGrid: verification key of the signed event webhook.", "SENDGRID_WEBHOOK_KEY", NULL },
	{ "mailgun_webhook_key", PGMQD_SECRET, 0, AT(mailgun_key), NULL, "Mailgun: webhook signing key.",
		"MAILGUN_WEBHOOK_KEY", NULL },
	{ "ses_topic_arn", PGMQD_STRING, 0, AT(ses_topic), NULL, "Amazon SES: the SNS topic whose notifications count.",
		"SES_TOPIC_ARN", NULL },
	{ "sns_url", PGMQD_URL, 0, AT(sns_url), NULL,
		"Amazon SNS: where certificates and confirmations are; default: sns.REGION.amazonaws.com.", NULL,
		NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* An option that is there. */
static bool verify_given(const char *s)
{
	return s != NULL && s[0] != '\0';
}

/* A text; running out of memory ends the process. */
static char *__attribute__((format(printf, 1, 2))) verify_text(const char *fmt, ...)
{
	va_list ap;
	char *text;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n == -1)
		abort();
	return text;
}

/* A string member of an object, or "". */
static const char *verify_member(const cJSON *object, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

	return text != NULL ? text : "";
}

/* The bytes that are written as base64, malloc'd; *len is 0 when it is none. */
static unsigned char *verify_base64(const char *text, size_t *len)
{
	size_t n = strlen(text);
	unsigned char *out = malloc(n + 4);
	EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
	int part = 0, rest = 0;

	if (out == NULL || ctx == NULL)
		abort();
	EVP_DecodeInit(ctx);
	*len = 0;
	if (n < 65536 && EVP_DecodeUpdate(ctx, out, &part, (const unsigned char *)text, (int)n) != -1 &&
		EVP_DecodeFinal(ctx, out + part, &rest) == 1)
		*len = (size_t)(part + rest);
	EVP_ENCODE_CTX_free(ctx);
	return out;
}

/* HMAC-SHA256 of a text. */
static void verify_hmac(const void *key, size_t len, const char *text, unsigned char digest[32])
{
	unsigned n = 32;

	if (HMAC(EVP_sha256(), key, (int)len, (const unsigned char *)text, strlen(text), digest, &n) == NULL)
		abort();
}

/* Resend (Svix, Standard Webhooks): `secret` is whsec_BASE64; `signatures` "v1,BASE64 v1,BASE64". */
static bool verify_svix(
	const char *secret, const char *id, const char *timestamp, const char *body, const char *signatures)
{
	size_t len, n;
	unsigned char *key = verify_base64(secret + strlen(VERIFY_SVIX_PREFIX), &len), *given, digest[32];
	char *text = verify_text("%s.%s.%s", id, timestamp, body), *list = verify_text("%s", signatures), *rest = list;
	const char *one;
	bool good = false;

	verify_hmac(key, len, text, digest);
	while ((one = strsep(&rest, " ")) != NULL) {
		if (strncmp(one, "v1,", 3) != 0)
			continue;
		given = verify_base64(one + 3, &n);
		good = good || (n == sizeof digest && CRYPTO_memcmp(given, digest, n) == 0);
		free(given);
	}
	free(list);
	free(text);
	free(key);
	return good;
}

/* The public key out of DER in base64; NULL when it is none. */
static EVP_PKEY *verify_public_key(const char *base64)
{
	size_t len;
	unsigned char *der = verify_base64(base64, &len);
	const unsigned char *p = der;
	EVP_PKEY *key = len > 0 ? d2i_PUBKEY(NULL, &p, (long)len) : NULL;

	free(der);
	return key;
}

/* A signature over two texts. */
static bool verify_signature(EVP_PKEY *key, const EVP_MD *hash, const char *a, const char *b, const char *signature)
{
	size_t len;
	unsigned char *sig = verify_base64(signature, &len);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx != NULL && key != NULL && len > 0 && EVP_DigestVerifyInit(ctx, NULL, hash, NULL, key) == 1 &&
	            EVP_DigestVerifyUpdate(ctx, a, strlen(a)) == 1 && EVP_DigestVerifyUpdate(ctx, b, strlen(b)) == 1 &&
	            EVP_DigestVerifyFinal(ctx, sig, len) == 1;

	EVP_MD_CTX_free(ctx);
	free(sig);
	return good;
}

/* SendGrid: ECDSA over the timestamp and the body; `key` is the public key, DER in base64. */
static bool verify_sendgrid(const char *key, const char *timestamp, const char *body, const char *signature)
{
	EVP_PKEY *k = verify_public_key(key);
	bool good = verify_signature(k, EVP_sha256(), timestamp, body, signature);

	EVP_PKEY_free(k);
	return good;
}

/* Mailgun: HMAC over the timestamp and a token, in hex. */
static bool verify_mailgun(const char *key, const char *timestamp, const char *token, const char *signature)
{
	unsigned char digest[32];
	char hex[65], *text = verify_text("%s%s", timestamp, token);

	verify_hmac(key, strlen(key), text, digest);
	free(text);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return strlen(signature) == 64 && CRYPTO_memcmp(hex, signature, 64) == 0;
}

/* Amazon SNS: RSA over `text` by a certificate (PEM); version "1" is SHA-1, "2" SHA-256. */
static bool verify_sns(const char *pem, const char *version, const char *text, const char *signature)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	EVP_PKEY *key = cert != NULL ? X509_get_pubkey(cert) : NULL;
	const EVP_MD *hash = strcmp(version, "2") == 0 ? EVP_sha256() : EVP_sha1();
	bool good = key != NULL && verify_signature(key, hash, text, "", signature);

	EVP_PKEY_free(key);
	X509_free(cert);
	BIO_free(bio);
	return good;
}

const char *verify_keys_wrong(const struct verify_keys *k)
{
	size_t len = 0;
	EVP_PKEY *key;
	bool good;

	if (verify_given(k->resend_secret)) {
		if (strncmp(k->resend_secret, VERIFY_SVIX_PREFIX, strlen(VERIFY_SVIX_PREFIX)) == 0)
			free(verify_base64(k->resend_secret + strlen(VERIFY_SVIX_PREFIX), &len));
		if (len < 16)
			return "resend_webhook_secret (RESEND_WEBHOOK_SECRET): it must be whsec_ and base64";
	}
	if (verify_given(k->sendgrid_key)) {
		key = verify_public_key(k->sendgrid_key);
		good = key != NULL && EVP_PKEY_base_id(key) == EVP_PKEY_EC;
		EVP_PKEY_free(key);
		if (!good)
			return "sendgrid_webhook_key (SENDGRID_WEBHOOK_KEY): it must be a public EC key, DER in base64";
	}
	return NULL;
}

/* The end of a region's name, as in us-east-1 or us-gov-west-1; NULL: it is none. Other names in its place may be
 * anybody's: sns.s3-us-west-2.amazonaws.com is a bucket of S3. */
static const char *verify_region(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
	size_t n = strspn(name, letters);
	unsigned words = 0;

	if (n != 2)
		return NULL;
	for (name += n; name[0] == '-' && (n = strspn(name + 1, letters)) > 0; name += 1 + n)
		words++;
	n = name[0] == '-' ? strspn(name + 1, "0123456789") : 0;
	return words > 0 && (n == 1 || n == 2) ? name + 1 + n : NULL;
}

/* The path of an address of SNS; NULL when the host is another's. */
static const char *verify_sns_path(const struct verify_keys *k, const char *url)
{
	static const char start[] = "https://sns.";
	static const char *const ends[] = { ".amazonaws.com/", ".amazonaws.com.cn/" };
	const char *end;

	if (verify_given(k->sns_url)) {
		size_t n = strlen(k->sns_url);

		n -= k->sns_url[n - 1] == '/';
		return strncmp(url, k->sns_url, n) == 0 && url[n] == '/' ? url + n + 1 : NULL;
	}
	if (strncmp(url, start, strlen(start)) != 0 || (end = verify_region(url + strlen(start))) == NULL)
		return NULL;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (strncmp(end, ends[i], strlen(ends[i])) == 0)
			return end + strlen(ends[i]);
	return NULL;
}

bool verify_is_sns(const struct verify_keys *k, const char *url)
{
	return verify_sns_path(k, url) != NULL;
}

/* Whether an address is that of a certificate of SNS: https://sns.REGION.amazonaws.com/SimpleNotificationService-ID.pem
 */
static bool verify_is_certificate(const struct verify_keys *k, const char *url)
{
	static const char name[] = "SimpleNotificationService-",
			  letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	const char *path = verify_sns_path(k, url);
	size_t n;

	if (path == NULL || strncmp(path, name, strlen(name)) != 0)
		return false;
	path += strlen(name);
	n = strspn(path, letters);
	return n > 0 && strcmp(path + n, ".pem") == 0;
}

/* The text that SNS signs: names and values of these members. */
static char *verify_sns_text(const cJSON *body)
{
	static const char *const notification[] = { "Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type",
		NULL };
	static const char *const confirmation[] = { "Message", "MessageId", "SubscribeURL", "Timestamp", "Token",
		"TopicArn", "Type", NULL };
	const char *const *names = strcmp(verify_member(body, "Type"), "Notification") == 0 ? notification
	                                                                                    : confirmation;
	char *text = verify_text("%s", ""), *longer;

	for (; *names != NULL; names++) {
		if (!cJSON_IsString(cJSON_GetObjectItemCaseSensitive(body, *names)))
			continue;
		longer = verify_text("%s%s\n%s\n", text, *names, verify_member(body, *names));
		free(text);
		text = longer;
	}
	return text;
}

/* Seconds since 1970 of a time as SNS writes it, 2026-05-28T20:26:40.000Z; -1: it is none. */
static int64_t verify_sns_time(const char *text)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (end != NULL && end[0] == '.')
		end += 1 + strspn(end + 1, "0123456789");
	return end != NULL && strcmp(end, "Z") == 0 ? (int64_t)timegm(&tm) : -1;
}

/* Whether a signed time is neither too old nor ahead. */
static bool verify_in_time(int64_t at, int64_t age_s, int64_t came_s)
{
	return at >= came_s - age_s && at <= came_s + VERIFY_AHEAD_S;
}

/* Amazon's: a notification of SNS, signed by a certificate that is at an address. */
static enum verify_result verify_ses(const struct verify_keys *k, const cJSON *body, int64_t age_s, int64_t came_s,
	const char *(*certificate)(void *arg, const char *url), void *arg, char **why)
{
	const char *url = verify_member(body, "SigningCertURL"), *pem;
	char *text;
	bool good;

	if (strcmp(verify_member(body, "TopicArn"), k->ses_topic) != 0) {
		*why = verify_text("it is of another topic than ses_topic_arn");
		return VERIFY_FORGED;
	}
	if (!verify_is_certificate(k, url)) {
		*why = verify_text("the certificate's address is not Amazon's");
		return VERIFY_FORGED;
	}
	if ((pem = certificate(arg, url)) == NULL) {
		*why = verify_text("%s", url);
		return VERIFY_CERTIFICATE;
	}
	text = verify_sns_text(body);
	good = verify_sns(pem, verify_member(body, "SignatureVersion"), text, verify_member(body, "Signature"));
	free(text);
	if (good && verify_in_time(verify_sns_time(verify_member(body, "Timestamp")), age_s, came_s))
		return VERIFY_GOOD;
	*why = verify_text("%s", good ? VERIFY_LATE : VERIFY_OTHER);
	return VERIFY_FORGED;
}

/* The services whose signature is complete in the request. A signed time may be as old as a service's last retry: what
 * was recorded once is not recorded again. */
static const struct {
	const char *name;
	size_t key;
	int64_t age_s;
} verify_services[] = {
	{ "resend", AT(resend_secret), 300 }, /* signs each attempt anew */
	{ "sendgrid", AT(sendgrid_key), 24 * 3600 },
	{ "mailgun", AT(mailgun_key), 9 * 3600 }, /* retries for eight hours */
	{ "ses", AT(ses_topic), 24 * 3600 },
};

/* One of them. */
static enum verify_result verify_signed(const char *key, const char *service, const cJSON *headers, const char *text,
	const cJSON *body, int64_t age_s, int64_t came_s, char **why)
{
	const char *timestamp;
	bool good;
	int64_t at;

	if (strcmp(service, "resend") == 0) {
		timestamp = verify_member(headers, "svix-timestamp");
		good = verify_svix(key, verify_member(headers, "svix-id"), timestamp, text,
			verify_member(headers, "svix-signature"));
	} else if (strcmp(service, "sendgrid") == 0) {
		timestamp = verify_member(headers, "X-Twilio-Email-Event-Webhook-Timestamp");
		good = verify_sendgrid(
			key, timestamp, text, verify_member(headers, "X-Twilio-Email-Event-Webhook-Signature"));
	} else {
		const cJSON *signature = cJSON_GetObjectItemCaseSensitive(body, "signature");

		timestamp = verify_member(signature, "timestamp");
		good = verify_mailgun(
			key, timestamp, verify_member(signature, "token"), verify_member(signature, "signature"));
	}
	at = strtoll(timestamp, NULL, 10);
	if (good && verify_in_time(at, age_s, came_s))
		return VERIFY_GOOD;
	*why = verify_text("%s", good ? VERIFY_LATE : VERIFY_OTHER);
	return VERIFY_FORGED;
}

const char *verify_token(const char *service, const cJSON *body)
{
	if (strcmp(service, "mailgun") != 0)
		return NULL;
	return verify_member(cJSON_GetObjectItemCaseSensitive(body, "signature"), "token");
}

enum verify_result verify_event(const struct verify_keys *k, const char *service, const cJSON *headers,
	const char *body, int64_t came_s, const char *(*certificate)(void *arg, const char *url), void *arg, char **why)
{
	enum verify_result result;
	const char *key = NULL;
	int64_t age_s = 0;
	cJSON *json;

	*why = NULL;
	for (size_t i = 0; i < sizeof verify_services / sizeof *verify_services; i++)
		if (strcmp(verify_services[i].name, service) == 0) {
			memcpy(&key, (const char *)k + verify_services[i].key, sizeof key);
			age_s = verify_services[i].age_s;
		}
	if (!verify_given(key)) {
		*why = verify_text("the settings have no key to verify events of %s by", service);
		return VERIFY_NO_KEY;
	}
	json = cJSON_Parse(body);
	if (strcmp(service, "ses") == 0)
		result = verify_ses(k, json, age_s, came_s, certificate, arg, why);
	else
		result = verify_signed(key, service, headers, body, json, age_s, came_s, why);
	cJSON_Delete(json);
	return result;
}
