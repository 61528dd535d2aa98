/* webhook.c: the plugin that posts messages to a URL, an Edge Function for instance, signed in the Standard Webhooks
 * shape. */
#include "config.h"

#include "away.h"
#include "batch/batch.h"
#include "pgmqd-plugin.h"
#include "sign.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIVE_UP_LEAST_MS 600000
#define ANSWER_SHOWN 500 /* bytes of an answer that become part of a reason */

struct webhook {
	/* options */
	const char *url, *secret, *authorization, *headers, *body, *on_missing, *ca_file;
	int64_t timeout, connect_timeout, give_up_after, circuit_open;
	int allow_private;
	uint64_t max_answer;
	/* while running */
	struct pgmqd_worker *worker;
	struct pgmqd_metric *away_metric;
	struct away away;
	guint8 *key;
	gsize key_len;
	char **own_headers; /* "Name: value"; ends with NULL */
};

/* What a receiver may answer for a message of a batch. */
#define OUTCOMES                                                                                                       \
	(ANSWER_BIT(ANSWER_DONE) | ANSWER_BIT(ANSWER_RETRY) | ANSWER_BIT(ANSWER_FAIL) | ANSWER_BIT(ANSWER_POSTPONE) |  \
		ANSWER_BIT(ANSWER_RETRY_KEY))

/* A request under way. */
struct post {
	struct webhook *hook;
	struct batch *batch; /* one message, or those that are an `array` */
	bool array;
	CURL *easy;
	struct curl_slist *headers;
	char *made; /* the body, when it is not the message itself */
	const char *body;
	size_t len, sent;
	int64_t began_ms;
};

#define AT(field) offsetof(struct webhook, field)

static const struct pgmqd_option webhook_options[] = {
	{ "url", PGMQD_URL, 1, AT(url), NULL, "Where messages are posted to.", "WEBHOOK_URL", NULL },
	{ "secret", PGMQD_SECRET, 0, AT(secret), NULL,
		"Key of the signature: whsec_ and base64, or any text; without it nothing is signed.", "WEBHOOK_SECRET",
		NULL },
	{ "authorization", PGMQD_SECRET, 0, AT(authorization), NULL, "Value of the header Authorization.",
		"WEBHOOK_AUTHORIZATION", NULL },
	{ "headers", PGMQD_SECRET, 0, AT(headers), NULL,
		"More headers, with | between them: apikey: KEY | X-Source: pgmqd.", "WEBHOOK_HEADERS", NULL },
	{ "body", PGMQD_ENUM, 0, AT(body), "message",
		"What is posted: the message as it is, or an envelope with its number, queue, attempt and headers.",
		NULL, "message|envelope" },
	{ "on_missing", PGMQD_ENUM, 0, AT(on_missing), "fail",
		"What 404 and 410 mean: the message fails, is tried again, or the queue pauses.", NULL,
		"fail|retry|pause" },
	{ "give_up_after", PGMQD_DURATION, 0, AT(give_up_after), "24h",
		"A message that a receiver which is away has kept waiting so long fails; 0: never.", NULL, NULL },
	{ "circuit_open", PGMQD_DURATION, 0, AT(circuit_open), "5min",
		"Longest time for which a receiver that is away is left alone before a message tries it again.", NULL,
		NULL },
	{ "timeout", PGMQD_DURATION, 0, AT(timeout), "30s", "Time for a request and its answer.", NULL, NULL },
	{ "connect_timeout", PGMQD_DURATION, 0, AT(connect_timeout), "10s", "Time for a connection to be made.", NULL,
		NULL },
	{ "allow_private", PGMQD_BOOL, 0, AT(allow_private), "no",
		"Allow addresses that are not on the public Internet.", NULL, NULL },
	{ "ca_file", PGMQD_STRING, 0, AT(ca_file), NULL,
		"File of the authorities (PEM) that the server's certificate is checked against, instead of the "
		"system's.",
		NULL, NULL },
	{ "max_answer", PGMQD_BYTES, 0, AT(max_answer), "64kB", "Longest answer that is read.", NULL, NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* Splits "Name: value | Name: value"; NULL when one of them is no header, or is one that the plugin sets. */
static char **headers_split(const char *text)
{
	static const char *const ours[] = { "content-type", "content-length", "host", "transfer-encoding", "expect",
		"webhook-id", "webhook-timestamp", "webhook-signature", "pgmqd-attempt" };
	static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
	char **list = g_strsplit(text != NULL ? text : "", "|", 0);

	for (size_t i = 0; list[i] != NULL; i++) {
		size_t n;

		g_strstrip(list[i]);
		n = strspn(list[i], name_bytes);
		for (const char *p = list[i]; *p != '\0'; p++)
			if ((unsigned char)*p < 32 || *p == 127)
				n = 0;
		for (size_t k = 0; k < G_N_ELEMENTS(ours); k++)
			if (strlen(ours[k]) == n && g_ascii_strncasecmp(list[i], ours[k], n) == 0)
				n = 0;
		if (n == 0 || list[i][n] != ':') {
			g_strfreev(list);
			return NULL;
		}
	}
	return list;
}

/* Whether a text can be the value of a header. */
static gboolean is_header_value(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 32 || *text == 127)
			return FALSE;
	return TRUE;
}

/* Cross-checks of the options. */
static int webhook_config_complete(void *handle)
{
	struct webhook *h = handle;
	gsize len;
	guint8 *key = h->secret && *h->secret ? sign_key(h->secret, &len) : NULL;
	char **headers = headers_split(h->headers);
	int good = -1;

	if (h->secret && *h->secret && !key)
		pgmqd_log(PGMQD_ERROR, "secret: what follows whsec_ is not base64");
	else if (h->authorization && !is_header_value(h->authorization))
		pgmqd_log(PGMQD_ERROR, "authorization: there is a control character in it");
	else if (headers == NULL)
		pgmqd_log(PGMQD_ERROR,
			"headers: they are written \"Name: value | Name: value\"; Content-Type, Host and "
			"the headers of the signature are set by the plugin");
	else if (!h->allow_private && pgmqd_http_private_host(h->url))
		pgmqd_log(PGMQD_ERROR, "url: its host is an address that is not on the public Internet; "
				       "allow_private = yes allows it");
	else if (h->timeout <= 0 || h->connect_timeout <= 0 || h->circuit_open <= 0)
		pgmqd_log(PGMQD_ERROR, "timeout, connect_timeout, circuit_open: each must be longer than 0");
	else
		good = 0;
	g_strfreev(headers);
	g_free(key);
	return good;
}

/* Gets the key and the headers ready. */
static int webhook_start(void *handle, struct pgmqd_worker *w)
{
	struct webhook *h = handle;

	h->worker = w;
	h->away.longest_ms = h->circuit_open;
	if (h->secret && *h->secret)
		h->key = sign_key(h->secret, &h->key_len);
	h->own_headers = headers_split(h->headers);
	h->away_metric = pgmqd_metric(w, PGMQD_GAUGE, "webhook_away",
		"1 while the receiver does not answer, and messages wait for it.", NULL, NULL);
	return 0;
}

/* Milliseconds of a clock that never jumps. */
static int64_t now_ms(void)
{
	return g_get_monotonic_time() / 1000;
}

/* Frees a request. */
static void post_free(struct post *p)
{
	curl_slist_free_all(p->headers);
	g_free(p->made);
	free(p->batch);
	g_free(p);
}

/* Gives every message of the request that outcome. */
static void post_all(struct post *p, enum answer_kind kind, const char *reason)
{
	batch_settle(p->batch, &(struct answer){ .kind = kind, .reason = reason });
}

/* The request failed, and not for the receiver's state: of many messages one may be the cause. */
static void post_failed(struct post *p, enum answer_kind kind, const char *reason)
{
	batch_failed(p->batch, &(struct answer){ .kind = kind, .reason = reason });
}

/* The beginning of an answer for a reason, "" when there is none: on one line, with addresses of people masked. */
static char *answer_text(const struct pgmqd_http_answer *a)
{
	char *valid = g_utf8_make_valid(a->body, (gssize)MIN(a->body_len, ANSWER_SHOWN)), *masked, *text;
	GRegex *address = g_regex_new("[^\\s<>\"'(),;:]+@[^\\s<>\"'(),;:]+", 0, 0, NULL);

	masked = g_regex_replace_literal(address, valid, -1, 0, "…@…", 0, NULL);
	g_regex_unref(address);
	for (char *p = masked; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = ' ';
	text = masked != NULL && *g_strstrip(masked) != '\0' ? g_strconcat(": ", masked, NULL) : g_strdup("");
	g_free(masked);
	g_free(valid);
	return text;
}

/* One message waits for a receiver that is away, or has waited for too long. */
static void message_wait(const struct webhook *h, struct pgmqd_msg *m, int64_t wait, const char *reason)
{
	gint64 real = g_get_real_time();
	int64_t age_ms = (real - pgmqd_msg_due_us(m)) / 1000;
	GDateTime *since;
	char *when;

	/* a message that was delayed for days is not given up at the first hiccup */
	if (h->give_up_after > 0 && age_ms > h->give_up_after &&
		(real - h->away.since_us) / 1000 >= MIN(h->give_up_after, GIVE_UP_LEAST_MS)) {
		pgmqd_fail_as(
			m, "expired", "given up after %" G_GINT64_FORMAT " h: %s", (gint64)(age_ms / 3600000), reason);
		return;
	}
	since = g_date_time_new_from_unix_utc(h->away.since_us / G_USEC_PER_SEC);
	when = g_date_time_format_iso8601(since);
	pgmqd_unavailable(m, wait, "the receiver is away since %s: %s", when, reason);
	g_free(when);
	g_date_time_unref(since);
}

/* The receiver is away or asks for a pause: the queue waits, which costs no attempt. */
static void post_wait(struct post *p, int64_t after_ms, const char *reason)
{
	struct webhook *h = p->hook;
	int64_t wait = away_failed(&h->away, p->began_ms, now_ms(), g_get_real_time(), after_ms);

	pgmqd_metric_set(h->away_metric, 1);
	for (size_t i = 0; i < p->batch->n; i++)
		if (p->batch->msgs[i] != NULL)
			message_wait(h, p->batch->msgs[i], wait, reason);
}

/* The receiver has answered. */
static void receiver_is_back(struct webhook *h)
{
	if (away_over(&h->away))
		pgmqd_log(PGMQD_INFO, "the receiver answers again");
	pgmqd_metric_set(h->away_metric, 0);
}

/* The receiver wants none of it. */
static void post_refused(struct post *p, long status, const char *reason)
{
	const char *missing = status == 404 || status == 410 ? p->hook->on_missing : "fail";
	char *text;

	if (strcmp(missing, "pause") == 0) {
		text = g_strdup_printf("%s (on_missing = pause)", reason);
		post_all(p, ANSWER_CONFIG, text);
		g_free(text);
	} else {
		post_failed(p, strcmp(missing, "retry") == 0 ? ANSWER_RETRY : ANSWER_FAIL, reason);
	}
}

/* The receiver has taken the messages: each of a batch as its answer says; without a body all are done. */
static void post_taken(struct post *p, const struct pgmqd_http_answer *a)
{
	if (!p->array || (a->curl_code == 0 && a->body_len == 0)) /* also when the body was not read to its end */
		post_all(p, ANSWER_DONE, NULL);
	else if (a->curl_code != 0)
		post_failed(p, ANSWER_RETRY, a->error);
	else if (strlen(a->body) < a->body_len || !batch_answer(p->batch, a->body, OUTCOMES))
		post_failed(p, ANSWER_RETRY, "the receiver's answer to the batch is no array of outcomes");
}

/* Whether a status says that the receiver cannot be reached or wants a pause, and nothing of the message. From 520 on
 * they are those of Cloudflare, which stands before many receivers: 520 to 524 and 530 for a server behind it that does
 * not answer, 529 for one that has too much to do. */
static bool says_away(long status)
{
	return status == 408 || status == 425 || status == 429 || (status >= 502 && status <= 504) ||
	       (status >= 520 && status <= 524) || status == 529 || status == 530;
}

/* Settles messages by the status of an answer. */
static void post_settle(struct post *p, const struct pgmqd_http_answer *a, const char *reason)
{
	long status = a->status;
	char *text;

	/* 500 may be about this one message, unless the receiver answers nothing else */
	if (says_away(status) || (status >= 500 && p->hook->away.since_us != 0)) {
		post_wait(p, a->retry_after_ms, reason);
		return;
	}
	receiver_is_back(p->hook);
	if (status >= 200 && status < 300) {
		post_taken(p, a);
	} else if (status >= 500 && a->retry_after_ms > 0) {
		batch_retry(p->batch, a->retry_after_ms, reason);
	} else if (status >= 500) {
		post_failed(p, ANSWER_RETRY, reason);
	} else if (status == 401 || status == 403 || status == 407) {
		text = g_strdup_printf("the receiver refuses us, see authorization and headers: %s", reason);
		post_all(p, ANSWER_CONFIG, text);
		g_free(text);
	} else {
		post_refused(p, status, reason);
	}
}

/* There is an answer, or there will be none. */
static void on_answer(void *arg, const struct pgmqd_http_answer *a)
{
	struct post *p = arg;
	char *text = answer_text(a), *reason;

	if (a->refused || a->curl_code == CURLE_PEER_FAILED_VERIFICATION || a->curl_code == CURLE_SSL_CACERT_BADFILE) {
		reason = g_strdup_printf("url: %s%s", a->error, a->refused ? " (allow_private = yes allows it)" : "");
		post_all(p, ANSWER_CONFIG, reason);
		g_free(reason);
	} else if (a->status == 0) {
		post_wait(p, 0, a->error != NULL ? a->error : "no answer");
	} else {
		reason = g_strdup_printf("HTTP %ld%s%s", a->status,
			a->status >= 300 && a->status < 400 ? " (redirects are not followed)" : "", text);
		post_settle(p, a, reason);
		g_free(reason);
	}
	g_free(text);
	post_free(p);
}

/* libcurl takes more of the body. It cannot go back: so it never posts a message twice by itself, when a kept
 * connection ends without an answer. */
static size_t post_read(char *buffer, size_t size, size_t n, void *arg)
{
	struct post *p = arg;

	n = MIN(size * n, p->len - p->sent);
	memcpy(buffer, p->body + p->sent, n);
	p->sent += n;
	return n;
}

/* Adds a header. */
static void post_header(struct post *p, char *line)
{
	p->headers = curl_slist_append(p->headers, line);
	g_free(line);
}

/* The body as `body` says; a batch is an array of envelopes. */
static void post_body(struct post *p)
{
	struct pgmqd_msg *m = p->batch->msgs[0];

	if (!p->array && strcmp(p->hook->body, "envelope") != 0) {
		p->body = pgmqd_msg_text(m, &p->len);
		return;
	}
	p->made = p->array ? batch_array(p->batch) : batch_message(m);
	p->body = p->made;
	p->len = strlen(p->made);
}

/* The name by which the receiver recognises a second copy: the same for every attempt. */
static char *post_id(const struct post *p)
{
	const char *queue = pgmqd_msg_queue(p->batch->msgs[0]);
	GString *numbers;
	char *sum, *id;

	if (p->batch->n == 1)
		return g_strdup_printf("%s_%" G_GINT64_FORMAT, queue, (gint64)pgmqd_msg_id(p->batch->msgs[0]));
	numbers = g_string_new(NULL);
	for (size_t i = 0; i < p->batch->n; i++)
		g_string_append_printf(numbers, "%" G_GINT64_FORMAT " ", (gint64)pgmqd_msg_id(p->batch->msgs[i]));
	sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, numbers->str, -1);
	id = g_strdup_printf("%s_batch_%.16s", queue, sum);
	g_string_free(numbers, TRUE);
	g_free(sum);
	return id;
}

/* The headers of a request. */
static void post_headers(struct post *p)
{
	struct webhook *h = p->hook;
	struct pgmqd_msg *m = p->batch->msgs[0];
	gint64 now = (gint64)time(NULL);
	const char *trace = p->batch->n > 1 ? NULL : pgmqd_msg_traceparent(m);
	char *id = post_id(p);

	post_header(p, g_strdup("Content-Type: application/json"));
	post_header(p, g_strdup("Expect:"));
	post_header(p, g_strdup_printf("webhook-id: %s", id));
	post_header(p, g_strdup_printf("webhook-timestamp: %" G_GINT64_FORMAT, now));
	post_header(p, g_strdup_printf("pgmqd-attempt: %u", pgmqd_msg_attempt(m)));
	if (h->key) {
		char *signature = sign(h->key, h->key_len, id, now, p->body, p->len);

		post_header(p, g_strdup_printf("webhook-signature: %s", signature));
		g_free(signature);
	}
	if (h->authorization && *h->authorization)
		post_header(p, g_strdup_printf("Authorization: %s", h->authorization));
	for (size_t i = 0; h->own_headers[i] != NULL; i++)
		post_header(p, g_strdup(h->own_headers[i]));
	if (trace != NULL)
		post_header(p, g_strdup_printf("traceparent: %s", trace));
	g_free(id);
}

/* Fills the request in. Connections may be kept: post_read() gives the body once, so libcurl cannot send it once more.
 */
static bool post_prepare(struct post *p, CURL *easy)
{
	const struct webhook *h = p->hook;

	return curl_easy_setopt(easy, CURLOPT_URL, h->url) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_HTTPHEADER, p->headers) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_POST, 1L) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_READFUNCTION, post_read) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_READDATA, p) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 0L) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 0L) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->len) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)h->timeout) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_timeout) == CURLE_OK &&
	       (!h->ca_file || !*h->ca_file || curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_file) == CURLE_OK);
}

/* Posts a message, or an array of them. */
static void post_start(struct webhook *h, struct pgmqd_msg *const *msgs, size_t n, bool array)
{
	struct post *p = g_new0(struct post, 1);
	bool ok;

	p->hook = h;
	p->array = array;
	p->batch = batch_new(msgs, n, p);
	p->began_ms = now_ms();
	post_body(p);
	post_headers(p);
	p->easy = pgmqd_http_new(h->worker);
	pgmqd_http_body_max(p->easy, h->max_answer);
	if (!h->allow_private)
		pgmqd_http_public_only(p->easy);
	ok = post_prepare(p, p->easy);
	if (!ok)
		pgmqd_http_discard(p->easy);
	/* the transfer of a batch goes on when one of its messages is taken back */
	else if (array)
		ok = pgmqd_http_start(h->worker, p->easy, on_answer, p) == 0;
	else
		ok = pgmqd_http_submit(msgs[0], p->easy, on_answer, p) == 0;
	if (ok)
		return;
	post_all(p, ANSWER_RETRY, "libcurl refuses the request");
	post_free(p);
}

/* Posts a message. */
static void webhook_deliver(void *handle, struct pgmqd_msg *m)
{
	post_start(handle, &m, 1, false);
}

/* Posts a batch. */
static void webhook_deliver_batch(void *handle, struct pgmqd_msg *const *msgs, size_t n)
{
	post_start(handle, msgs, n, true);
}

/* Frees the request of a message that the host takes back, when nothing else is left of it; the host has ended the
 * transfer of a single one. */
static void webhook_cancel(void *handle, struct pgmqd_msg *m)
{
	struct post *p = pgmqd_msg_data(m);

	(void)handle;
	if (batch_drop(p->batch, m))
		return;
	if (p->array)
		pgmqd_http_discard(p->easy);
	post_free(p);
}

/* The end. */
static void webhook_stop(void *handle)
{
	struct webhook *h = handle;

	g_strfreev(h->own_headers);
	g_free(h->key);
}

static struct pgmqd_plugin plugin = {
	.name = "webhook",
	.version = PACKAGE_VERSION,
	.summary = "posts messages to a URL, signed",
	.options = webhook_options,
	.handle_size = sizeof(struct webhook),
	.config_complete = webhook_config_complete,
	.start = webhook_start,
	.deliver = webhook_deliver,
	.deliver_batch = webhook_deliver_batch,
	.cancel = webhook_cancel,
	.stop = webhook_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
