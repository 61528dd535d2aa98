/* payment.c: the plugin itself: a message names a payment, the plugin asks the provider and settles the answer in one
 * transaction.
 *
 *   message -> our row -> the provider's answer -> SELECT pgmqd.settle_payment(...) together with the archive
 *
 * While the provider has no final answer, the message is postponed, which costs no attempt, on an interval that grows
 * with the message's age. A notification of the provider is never believed: it only enqueues such a message.
 */
#include "config.h"

#include "money.h"
#include "provider.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_MAX_MS 600000 /* between two questions */
#define HELD_TOO_LONG_MS INT64_C(86400000)

static const struct provider *const providers[] = { &provider_yookassa };

/* One message under way. */
struct check {
	struct check *next, **prev;
	struct payment_handle *h;
	struct pgmqd_msg *msg;
	char *id, *provider_id, *status; /* our row */
	char currency[4];
	int64_t minor, left_ms; /* until the payment expires; negative when it has */
	struct curl_slist *headers;
};

static const struct pgmqd_option payment_options[] = {
	{ .name = "provider",
		.type = PGMQD_ENUM,
		.offset = offsetof(struct payment_handle, provider),
		.def = "yookassa",
		.choices = "yookassa",
		.doc = "Who takes the money." },
	{ .name = "base_url",
		.type = PGMQD_URL,
		.offset = offsetof(struct payment_handle, base_url),
		.def = "https://api.yookassa.ru",
		.doc = "Where the provider's API is; plain http only on this machine.",
		.env = "YOOKASSA_BASE_URL" },
	{ .name = "shop_id",
		.type = PGMQD_STRING,
		.required = 1,
		.offset = offsetof(struct payment_handle, shop_id),
		.doc = "Number of the shop, the name of the login.",
		.env = "YOOKASSA_SHOP_ID" },
	{ .name = "secret_key",
		.type = PGMQD_SECRET,
		.required = 1,
		.offset = offsetof(struct payment_handle, secret_key),
		.doc = "Its password.",
		.env = "YOOKASSA_SECRET_KEY" },
	{ .name = "test_mode",
		.type = PGMQD_BOOL,
		.offset = offsetof(struct payment_handle, test_mode),
		.def = "no",
		.doc = "Expect test payments, and refuse real ones; no: the other way round." },
	{ .name = "metadata_key",
		.type = PGMQD_STRING,
		.offset = offsetof(struct payment_handle, metadata_key),
		.def = "payment_id",
		.doc = "Member of the payment's metadata that holds our payment's id; none: it is not looked at." },
	{ .name = "timeout",
		.type = PGMQD_DURATION,
		.offset = offsetof(struct payment_handle, timeout),
		.def = "20s",
		.doc = "For one question." },
	{ .name = "expire_after",
		.type = PGMQD_DURATION,
		.offset = offsetof(struct payment_handle, expire_after),
		.def = "24h",
		.doc = "A payment that is still pending so long after it was made has failed." },
	{ .name = "not_found_for",
		.type = PGMQD_DURATION,
		.offset = offsetof(struct payment_handle, not_found_for),
		.def = "5min",
		.doc = "So long a payment may be unknown to the provider." },
	{ .name = NULL },
};

/* Whether a URL leads to this machine. */
static bool is_local(const char *url)
{
	static const char *const hosts[] = { "http://127.0.0.1", "http://localhost", "http://[::1]" };

	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
		size_t n = strlen(hosts[i]);

		if (strncmp(url, hosts[i], n) == 0 && (!url[n] || url[n] == ':' || url[n] == '/'))
			return true;
	}
	return false;
}

/* Checks of the options. */
static int payment_config_complete(void *handle)
{
	struct payment_handle *h = handle;

	h->way = providers[0];
	for (size_t i = 0; i < sizeof(providers) / sizeof(*providers); i++)
		if (strcmp(providers[i]->name, h->provider) == 0)
			h->way = providers[i];
	if (strncmp(h->base_url, "https://", 8) != 0 && !is_local(h->base_url)) {
		pgmqd_log(PGMQD_ERROR, "base_url: %s would send secret_key in the clear; use https", h->base_url);
		return -1;
	}
	if (strchr(h->base_url, '?') || strchr(h->base_url, '#') || strchr(h->base_url, '@')) {
		pgmqd_log(PGMQD_ERROR, "base_url: only a scheme, a host, a port and a path are expected");
		return -1;
	}
	if (!*h->shop_id || !*h->secret_key) {
		pgmqd_log(PGMQD_ERROR, "%s is empty", *h->shop_id ? "secret_key" : "shop_id");
		return -1;
	}
	if (!h->metadata_key || strcmp(h->metadata_key, "none") == 0)
		h->metadata_key = "";
	return 0;
}

/* Notes the worker. */
static int payment_start(void *handle, struct pgmqd_worker *w)
{
	((struct payment_handle *)handle)->worker = w;
	return 0;
}

/* Frees a check, which must be settled or cancelled by then. */
static void check_free(struct check *c)
{
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	curl_slist_free_all(c->headers);
	free(c->id);
	free(c->provider_id);
	free(c->status);
	free(c);
}

/* A copy, or the end of the process. */
static char *copy(const char *text)
{
	char *s = strdup(text ? text : "");

	if (!s)
		abort();
	return s;
}

/* Milliseconds since 1970. */
static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* How old the message is. */
static int64_t age_ms(const struct pgmqd_msg *m)
{
	int64_t ms = now_ms() - pgmqd_msg_enqueued_us(m) / 1000;

	return ms > 0 ? ms : 0;
}

/* When to look again: 5, 5, 10, 15, 25, 40, 65 ... seconds after one another, so that a look's time follows from the
 * message's age alone. */
static int64_t next_wait(int64_t age)
{
	int64_t step = 5000, before = 5000, at = 5000;

	while (at <= age && step < WAIT_MAX_MS) {
		int64_t sum = step + before;

		at += step;
		before = step;
		step = sum;
	}
	if (at <= age)
		return WAIT_MAX_MS;
	return at - age > WAIT_MAX_MS ? WAIT_MAX_MS : at - age;
}

/* The provider has no final word yet. While the payment has not expired this costs no attempt. */
static void check_wait(struct check *c, int64_t least_ms, const char *reason)
{
	int64_t ms = next_wait(age_ms(c->msg));

	if (ms < least_ms)
		ms = least_ms;
	if (c->left_ms > 0)
		pgmqd_postpone(c->msg, ms, "%s", reason);
	else
		pgmqd_retry(c->msg, 0, "%s", reason);
	check_free(c);
}

/* Writes the outcome down: the row's new status (NULL: as it is), what the provider says, and an alert when people have
 * to look. */
static void check_settle(
	struct check *c, const char *status, const struct provider_answer *a, const char *reason, const char *alert)
{
	char refunded[24];
	const char *params[] = { c->id, status, c->h->way->name, c->provider_id, a && *a->status ? a->status : NULL,
		refunded, a && *a->paid_at ? a->paid_at : NULL, reason && *reason ? reason : NULL, alert };

	snprintf(refunded, sizeof(refunded), "%" PRId64, a ? a->refunded_minor : 0);
	if (alert)
		pgmqd_msg_log(c->msg, PGMQD_WARN, "payment %s needs a look (%s): %s", c->id, alert, reason);
	else
		pgmqd_msg_log(c->msg, PGMQD_INFO, "payment %s: %s%s%s", c->id, status ? status : "as it was",
			reason && *reason ? ", " : "", reason ? reason : "");
	pgmqd_done_with(c->msg, "SELECT pgmqd.settle_payment($1, $2, $3, $4, $5, $6::bigint, $7, $8, $9)", 9, params);
	check_free(c);
}

/* The money is held on the customer's card: that is never a failure. The payment is asked for until the shop takes the
 * money or the provider gives it back; people hear of one that is held beyond its time. */
static void check_held(struct check *c, const struct provider_answer *a)
{
	int64_t over_ms = a->expires_at_ms ? now_ms() - a->expires_at_ms : -c->left_ms;

	if (strcmp(c->status, "completed") == 0) {
		check_settle(c, NULL, a, "the provider calls a completed payment unfinished", "contradiction");
	} else if (over_ms > HELD_TOO_LONG_MS) {
		check_settle(c, NULL, a, "the money is still held, though its time is over", "held");
	} else {
		pgmqd_postpone(c->msg, next_wait(age_ms(c->msg)), "%s: the money is held, the shop has yet to take it",
			a->reason);
		check_free(c);
	}
}

/* Acts on the provider's answer. */
static void check_act(struct check *c, const struct provider_answer *a)
{
	bool completed = strcmp(c->status, "completed") == 0, failed = strcmp(c->status, "failed") == 0;

	if (a->expires_at_ms) /* the provider knows better than expire_after */
		c->left_ms = a->expires_at_ms - now_ms();
	switch (a->verdict) {
	case VERDICT_PAID:
		check_settle(c, "completed", a, a->reason, NULL);
		break;
	case VERDICT_REFUNDED:
		check_settle(c, "refunded", a, a->reason, NULL);
		break;
	case VERDICT_CANCELED:
		if (completed)
			check_settle(c, NULL, a, "the provider calls a completed payment canceled", "contradiction");
		else
			check_settle(c, "failed", a, a->reason, NULL);
		break;
	case VERDICT_PENDING:
		if (completed)
			check_settle(c, NULL, a, "the provider calls a completed payment unfinished", "contradiction");
		else if (failed)
			check_settle(c, NULL, a, "it stays failed", NULL);
		else if (c->left_ms <= 0)
			check_settle(c, "failed", a, "expired: it was not paid in time", NULL);
		else
			check_wait(c, 0, a->reason);
		break;
	case VERDICT_HELD:
		check_held(c, a);
		break;
	case VERDICT_NOT_FOUND:
		if (age_ms(c->msg) < c->h->not_found_for)
			check_wait(c, 0, a->reason);
		else
			check_settle(c, completed ? NULL : "failed", a, "the provider does not know this payment",
				"not_found");
		break;
	case VERDICT_LATER:
		check_wait(c, a->wait_ms, a->reason);
		break;
	case VERDICT_MISMATCH:
		check_settle(c, NULL, a, a->reason, "mismatch");
		break;
	case VERDICT_CONFIG:
		pgmqd_config_error(c->msg, "%s", a->reason);
		check_free(c);
		break;
	case VERDICT_REFUSED:
		pgmqd_fail(c->msg, "%s", a->reason);
		check_free(c);
		break;
	}
}

/* The provider's answer. */
static void on_answer(void *arg, const struct pgmqd_http_answer *answer)
{
	struct check *c = arg;
	struct payment_row row = {
		.id = c->id, .provider_id = c->provider_id, .currency = c->currency, .minor = c->minor
	};
	struct provider_answer a = { .verdict = VERDICT_LATER };
	cJSON *body;

	if (answer->curl_code != CURLE_OK) {
		snprintf(a.reason, sizeof(a.reason), "no answer from the provider: %.180s",
			answer->error ? answer->error : "unknown reason");
		if (answer->curl_code == CURLE_PEER_FAILED_VERIFICATION || answer->curl_code == CURLE_URL_MALFORMAT ||
			answer->curl_code == CURLE_UNSUPPORTED_PROTOCOL)
			a.verdict = VERDICT_CONFIG;
	} else {
		body = cJSON_ParseWithLength(answer->body, answer->body_len);
		c->h->way->judge(c->h, &row, answer->status, body, &a);
		cJSON_Delete(body);
		if (answer->retry_after_ms > a.wait_ms)
			a.wait_ms = answer->retry_after_ms;
	}
	check_act(c, &a);
}

/* Adds the message's trace to the request; false when memory is out. */
static bool add_trace(struct check *c)
{
	const char *trace = pgmqd_msg_traceparent(c->msg);
	struct curl_slist *list;
	char line[80];

	if (!trace)
		return true;
	snprintf(line, sizeof(line), "traceparent: %s", trace);
	if ((list = curl_slist_append(c->headers, line)) != NULL)
		c->headers = list;
	return list != NULL;
}

/* Asks the provider. */
static void check_ask(struct check *c)
{
	struct payment_row row = {
		.id = c->id, .provider_id = c->provider_id, .currency = c->currency, .minor = c->minor
	};
	CURL *easy = curl_easy_init();

	if (!easy || curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)c->h->timeout) != CURLE_OK ||
		!c->h->way->ask(c->h, &row, easy, &c->headers) || !add_trace(c) ||
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, c->headers) != CURLE_OK)
		abort(); /* out of memory: the worker is restarted */
	if (pgmqd_http_submit(c->msg, easy, on_answer, c) != 0) {
		pgmqd_retry(c->msg, 0, "the question to the provider could not be sent");
		check_free(c);
	}
}

/* Our row. */
static void on_row(void *arg, const struct pgmqd_result *r)
{
	struct check *c = arg;
	struct pgmqd_msg *m = c->msg;
	const char *error = pgmqd_result_error(r), *currency;

	if (error && *pgmqd_result_sqlstate(r) && strncmp(pgmqd_result_sqlstate(r), "42", 2) == 0) {
		pgmqd_config_error(m,
			"the payment cannot be read: %s; run pgmqd migrate and connect the application's tables",
			error);
		check_free(c);
		return;
	}
	if (error) {
		pgmqd_retry(m, 0, "the payment cannot be read: %s", error);
		check_free(c);
		return;
	}
	if (pgmqd_result_rows(r) == 0) {
		/* something else than an id may be anything, and is not repeated */
		pgmqd_fail(m, "there is no payment %s",
			c->id[strspn(c->id, "0123456789abcdefABCDEF-")] ? "of that id" : c->id);
		check_free(c);
		return;
	}
	c->status = copy(pgmqd_result_value(r, 0, 0));
	currency = pgmqd_result_value(r, 0, 2);
	c->provider_id = copy(pgmqd_result_value(r, 0, 3));
	c->left_ms = c->h->expire_after -
	             (pgmqd_result_value(r, 0, 4) ? atoll(pgmqd_result_value(r, 0, 4)) : age_ms(m));
	if (strcmp(c->status, "refunded") == 0) {
		pgmqd_msg_log(m, PGMQD_INFO, "payment %s is refunded already", c->id);
		pgmqd_done(m);
		check_free(c);
	} else if (!money_is_currency(currency) || !money_parse(pgmqd_result_value(r, 0, 1), currency, &c->minor)) {
		pgmqd_fail(m, "the amount or the currency of payment %s is none", c->id);
		check_free(c);
	} else if (!*c->provider_id && c->left_ms > 0 && strcmp(c->status, "pending") == 0) {
		check_wait(c, 0, "the payment has no provider_payment_id yet");
	} else if (!*c->provider_id) {
		check_settle(c, strcmp(c->status, "pending") == 0 ? "failed" : NULL, NULL,
			"it never reached the provider", NULL);
	} else if (!c->h->way->id_is_good(c->provider_id)) {
		pgmqd_fail(m, "provider_payment_id of payment %s is no id of %s", c->id, c->h->way->name);
		check_free(c);
	} else {
		memcpy(c->currency, currency, sizeof(c->currency));
		check_ask(c);
	}
}

/* A message: {"payment_id": ..., "action": "verify"}. */
static void payment_deliver(void *handle, struct pgmqd_msg *m)
{
	struct payment_handle *h = handle;
	const cJSON *json = pgmqd_msg_json(m), *id = cJSON_GetObjectItemCaseSensitive(json, "payment_id"),
		    *action = cJSON_GetObjectItemCaseSensitive(json, "action");
	const char *params[1];
	struct check *c;

	if (!cJSON_IsString(id) || !*id->valuestring || strlen(id->valuestring) > 128) {
		pgmqd_fail(m, "payment_id is missing, or is no text of 1 to 128 characters");
		return;
	}
	if (!cJSON_IsString(action) || strcmp(action->valuestring, "verify") != 0) {
		const char *word = cJSON_IsString(action) ? action->valuestring : "";

		pgmqd_fail(m, "action \"%.64s\" is not known: the only one is verify",
			word[strspn(word, "abcdefghijklmnopqrstuvwxyz_")] ? "…" : word);
		return;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		abort();
	c->h = h;
	c->msg = m;
	c->id = copy(id->valuestring);
	c->next = h->checks;
	c->prev = &h->checks;
	if (c->next)
		c->next->prev = &c->next;
	h->checks = c;
	params[0] = c->id;
	if (pgmqd_query(m,
		    "SELECT status, amount, currency, provider_payment_id, age_ms FROM pgmqd.payment_to_verify($1)", 1,
		    params, on_row, c) != 0) {
		pgmqd_retry(m, 0, "the payment could not be asked for");
		check_free(c);
	}
}

/* Frees the check of a message that the host takes back; the host has ended its transfer and its query. */
static void payment_cancel(void *handle, struct pgmqd_msg *m)
{
	struct payment_handle *h = handle;

	for (struct check *c = h->checks; c; c = c->next)
		if (c->msg == m) {
			check_free(c);
			return;
		}
}

static struct pgmqd_plugin plugin = {
	.name = "payment",
	.version = PACKAGE_VERSION,
	.summary = "asks the payment provider, and settles what it says",
	.options = payment_options,
	.handle_size = sizeof(struct payment_handle),
	.config_complete = payment_config_complete,
	.start = payment_start,
	.deliver = payment_deliver,
	.cancel = payment_cancel,
};

PGMQD_REGISTER_PLUGIN(plugin);
