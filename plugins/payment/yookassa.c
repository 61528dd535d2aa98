/* yookassa.c: the provider YooKassa: GET /v3/payments/ID with Basic authentication, and the meaning of its answers. */
#include "config.h"

#include "money.h"
#include "provider.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Letters, digits and hyphens, at most 64. */
static bool yookassa_id_is_good(const char *id)
{
	size_t n = strlen(id);

	return n > 0 && n <= 64 && strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") == n;
}

/* GET BASE/v3/payments/ID. */
static bool yookassa_ask(
	const struct payment_handle *h, const struct payment_row *row, CURL *easy, struct curl_slist **headers)
{
	size_t n = strlen(h->base_url);
	char *url;
	bool ok;

	while (n > 0 && h->base_url[n - 1] == '/')
		n--;
	url = malloc(n + 128);
	if (!url)
		return false;
	snprintf(url, n + 128, "%.*s/v3/payments/%s", (int)n, h->base_url, row->provider_id);
	ok = curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_USERNAME, h->shop_id) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_PASSWORD, h->secret_key) == CURLE_OK &&
	     (*headers = curl_slist_append(NULL, "Accept: application/json")) != NULL;
	free(url);
	return ok;
}

/* A member that is a string; "" else. */
static const char *text_of(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

/* Copies a word of the provider's for people: printable ASCII only, cut to fit. */
static void copy_word(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 1 < size; from++)
		if (*from >= ' ' && *from <= '~')
			to[n++] = *from;
	to[n] = 0;
}

/* Reads {"value": "1490.00", "currency": "RUB"}; false when it is nothing of the kind. */
static bool read_amount(const cJSON *amount, char currency[4], int64_t *minor)
{
	const char *code = text_of(amount, "currency");

	if (!money_is_currency(code))
		return false;
	memcpy(currency, code, 4);
	return money_parse(text_of(amount, "value"), currency, minor);
}

/* Reads a zone, Z or +03:00, into seconds east of Greenwich; false when it is nothing of the kind. */
static bool read_zone(const char *text, int *seconds)
{
	int hours, minutes, end = 0;

	*seconds = 0;
	if (strcmp(text, "Z") == 0)
		return true;
	if ((*text != '+' && *text != '-') || strspn(text + 1, "0123456789:") != strlen(text + 1) ||
		(sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &end) != 2 &&
			sscanf(text + 1, "%2d%2d%n", &hours, &minutes, &end) != 2) ||
		end < 4 || text[1 + end] != '\0')
		return false;
	*seconds = (*text == '-' ? -60 : 60) * (hours * 60 + minutes);
	return true;
}

/* Reads a time like 2026-11-20T10:05:00.000Z into milliseconds since 1970; 0 when it is nothing of the kind. */
static int64_t read_time(const char *text)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int zone;

	if (!end)
		return 0;
	end += *end == '.' ? 1 + strspn(end + 1, "0123456789") : 0;
	return read_zone(end, &zone) ? ((int64_t)timegm(&tm) - zone) * 1000 : 0;
}

/* Whether the object is the payment that we mean: its id, amount, currency, our own id in its metadata, and real money
 * or a test as we expect. Says what is not so. */
static bool is_ours(
	const struct payment_handle *h, const struct payment_row *row, const cJSON *body, struct provider_answer *out)
{
	const cJSON *metadata = cJSON_GetObjectItemCaseSensitive(body, "metadata");
	bool test = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(body, "test"));
	char currency[4] = "", theirs[40], ours[40];
	int64_t minor = 0;

	if (strcmp(text_of(body, "id"), row->provider_id) != 0)
		snprintf(out->reason, sizeof(out->reason),
			"the provider answered with another payment than the one that was asked for");
	else if (!read_amount(cJSON_GetObjectItemCaseSensitive(body, "amount"), currency, &minor))
		snprintf(out->reason, sizeof(out->reason), "the provider's answer has no amount that can be read");
	else if (strcmp(currency, row->currency) != 0)
		snprintf(out->reason, sizeof(out->reason), "currency: the provider says %s, we expect %s", currency,
			row->currency);
	else if (minor != row->minor)
		snprintf(out->reason, sizeof(out->reason), "amount: the provider says %s %s, we expect %s",
			money_print(minor, currency, theirs, sizeof(theirs)), currency,
			money_print(row->minor, currency, ours, sizeof(ours)));
	else if (*h->metadata_key && strcmp(text_of(metadata, h->metadata_key), row->id) != 0)
		snprintf(out->reason, sizeof(out->reason), "metadata.%.60s at the provider does not name our payment",
			h->metadata_key);
	else if (test != (h->test_mode != 0))
		snprintf(out->reason, sizeof(out->reason),
			test ? "it is a test payment, and test_mode is off"
			     : "it is a real payment, and test_mode is on");
	else
		return true;
	out->verdict = VERDICT_MISMATCH;
	return false;
}

/* Judges a payment by its state. */
static void judge_payment(
	const struct payment_handle *h, const struct payment_row *row, const cJSON *body, struct provider_answer *out)
{
	const cJSON *details = cJSON_GetObjectItemCaseSensitive(body, "cancellation_details");
	char currency[4];

	copy_word(out->status, sizeof(out->status), text_of(body, "status"));
	if (!is_ours(h, row, body, out))
		return;
	copy_word(out->paid_at, sizeof(out->paid_at), text_of(body, "captured_at"));
	out->expires_at_ms = read_time(text_of(body, "expires_at"));
	if (strcmp(out->status, "pending") == 0 || strcmp(out->status, "waiting_for_capture") == 0) {
		out->verdict = *out->status == 'p' ? VERDICT_PENDING : VERDICT_HELD;
		snprintf(out->reason, sizeof(out->reason), "the provider says %s", out->status);
	} else if (strcmp(out->status, "canceled") == 0) {
		char party[40], why[60];

		copy_word(party, sizeof(party), text_of(details, "party"));
		copy_word(why, sizeof(why), text_of(details, "reason"));
		out->verdict = VERDICT_CANCELED;
		snprintf(out->reason, sizeof(out->reason), "canceled%s%s%s%s", *party ? " by " : "", party,
			*why ? ": " : "", why);
	} else if (strcmp(out->status, "succeeded") == 0 &&
		   !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(body, "paid"))) {
		out->verdict = VERDICT_MISMATCH;
		snprintf(out->reason, sizeof(out->reason), "the provider says succeeded, but not that it was paid");
	} else if (strcmp(out->status, "succeeded") == 0) {
		if (!read_amount(cJSON_GetObjectItemCaseSensitive(body, "refunded_amount"), currency,
			    &out->refunded_minor) ||
			strcmp(currency, row->currency) != 0)
			out->refunded_minor = 0;
		out->verdict = out->refunded_minor >= row->minor ? VERDICT_REFUNDED : VERDICT_PAID;
	} else {
		out->verdict = VERDICT_MISMATCH;
		snprintf(out->reason, sizeof(out->reason), "the provider says \"%s\", which pgmqd does not know",
			out->status);
	}
}

/* Judges an answer. */
static void yookassa_judge(const struct payment_handle *h, const struct payment_row *row, long status,
	const cJSON *body, struct provider_answer *out)
{
	const cJSON *wait = cJSON_GetObjectItemCaseSensitive(body, "retry_after");
	char code[60];

	if (status == 200 && cJSON_IsObject(body)) {
		judge_payment(h, row, body, out);
		return;
	}
	if (cJSON_IsNumber(wait) && wait->valuedouble > 0 && wait->valuedouble <= 3600000)
		out->wait_ms = (int64_t)wait->valuedouble;
	copy_word(code, sizeof(code), text_of(body, "code"));
	snprintf(out->reason, sizeof(out->reason), "the provider answered %ld%s%s", status, *code ? " " : "", code);
	if (status == 401 || status == 403) {
		out->verdict = VERDICT_CONFIG;
		snprintf(out->reason, sizeof(out->reason), "the provider refuses shop_id and secret_key (%ld%s%s)",
			status, *code ? " " : "", code);
	} else if (status == 404) {
		out->verdict = VERDICT_NOT_FOUND;
	} else if (status == 200 || status == 202 || status == 408 || status == 429 || status >= 500) {
		out->verdict = VERDICT_LATER;
	} else if (status >= 300 && status < 400) {
		out->verdict = VERDICT_CONFIG;
		snprintf(out->reason, sizeof(out->reason),
			"base_url is wrong: what answers there sends us elsewhere (%ld)", status);
	} else {
		out->verdict = VERDICT_REFUSED;
	}
}

const struct provider provider_yookassa = {
	.name = "yookassa",
	.base_url = "https://api.yookassa.ru",
	.id_is_good = yookassa_id_is_good,
	.ask = yookassa_ask,
	.judge = yookassa_judge,
};
