/* webhook.c: the plugin that posts messages to a URL, an Edge Function for instance, signed in the Standard Webhooks
 * shape. */
#include "config.h"

#include "pgmqd-plugin.h"
#include "sign.h"

#include <curl/curl.h>
#include <string.h>
#include <time.h>

struct webhook {
	/* options */
	const char *url, *secret, *authorization, *ca_file;
	int64_t timeout, connect_timeout;
	int allow_private;
	uint64_t max_answer;
	/* while running */
	struct pgmqd_worker *worker;
	guint8 *key;
	gsize key_len;
};

#define AT(field) offsetof(struct webhook, field)

static const struct pgmqd_option webhook_options[] = {
	{ "url", PGMQD_URL, 1, AT(url), NULL, "Where messages are posted to.", "WEBHOOK_URL", NULL },
	{ "secret", PGMQD_SECRET, 0, AT(secret), NULL,
		"Key of the signature: whsec_ and base64, or any text; without it nothing is signed.", "WEBHOOK_SECRET",
		NULL },
	{ "authorization", PGMQD_SECRET, 0, AT(authorization), NULL, "Value of the header Authorization.",
		"WEBHOOK_AUTHORIZATION", NULL },
	{ "timeout", PGMQD_DURATION, 0, AT(timeout), "30s", "Time for a request and its answer.", NULL, NULL },
	{ "connect_timeout", PGMQD_DURATION, 0, AT(connect_timeout), "10s", "Time for a connection to stand.", NULL,
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

	if (h->secret && *h->secret && !key)
		pgmqd_log(PGMQD_ERROR, "secret: what follows whsec_ is not base64");
	else if (h->authorization && !is_header_value(h->authorization))
		pgmqd_log(PGMQD_ERROR, "authorization: there is a control character in it");
	else if (h->timeout <= 0 || h->connect_timeout <= 0)
		pgmqd_log(PGMQD_ERROR, "timeout, connect_timeout: each must be longer than 0");
	else {
		g_free(key);
		return 0;
	}
	g_free(key);
	return -1;
}

/* Gets the key ready. */
static int webhook_start(void *handle, struct pgmqd_worker *w)
{
	struct webhook *h = handle;

	h->worker = w;
	if (h->secret && *h->secret)
		h->key = sign_key(h->secret, &h->key_len);
	return 0;
}

/* The answer is there, or there will be none. */
static void on_answer(void *arg, const struct pgmqd_http_answer *a)
{
	struct pgmqd_msg *m = arg;

	curl_slist_free_all(pgmqd_msg_data(m));
	if (a->refused)
		pgmqd_config_error(m, "url: %s (allow_private = yes lets it)", a->error);
	else if (a->error && a->status == 0)
		pgmqd_retry(m, 0, "%s", a->error);
	else if (a->status >= 200 &&
		 a->status < 300) /* also when the body was not read to its end: it has been taken */
		pgmqd_done(m);
	else if (a->status == 408 || a->status == 429 || a->status >= 500)
		pgmqd_retry(m, a->retry_after_ms, "HTTP %ld", a->status);
	else
		pgmqd_fail(m, "HTTP %ld%s", a->status,
			a->status >= 300 && a->status < 400 ? " (redirects are not followed)" : "");
}

/* Adds a header. */
static struct curl_slist *header(struct curl_slist *list, char *line)
{
	list = curl_slist_append(list, line);
	g_free(line);
	return list;
}

/* Posts a message. */
static void webhook_deliver(void *handle, struct pgmqd_msg *m)
{
	struct webhook *h = handle;
	CURL *easy = pgmqd_http_new(h->worker);
	gint64 now = (gint64)time(NULL);
	size_t len;
	const char *body = pgmqd_msg_text(m, &len), *trace;
	/* the same for every attempt, so that the receiver can tell a second copy */
	char *id = g_strdup_printf("%s_%" G_GINT64_FORMAT, pgmqd_msg_queue(m), pgmqd_msg_id(m));
	struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
	gboolean ok;

	list = curl_slist_append(list, "Expect:");
	list = header(list, g_strdup_printf("webhook-id: %s", id));
	list = header(list, g_strdup_printf("webhook-timestamp: %" G_GINT64_FORMAT, now));
	list = header(list, g_strdup_printf("pgmqd-attempt: %u", pgmqd_msg_attempt(m)));
	if (h->key) {
		char *signature = sign(h->key, h->key_len, id, now, body, len);

		list = header(list, g_strdup_printf("webhook-signature: %s", signature));
		g_free(signature);
	}
	if (h->authorization && *h->authorization)
		list = header(list, g_strdup_printf("Authorization: %s", h->authorization));
	if ((trace = pgmqd_msg_traceparent(m)) != NULL)
		list = header(list, g_strdup_printf("traceparent: %s", trace));
	g_free(id);
	ok = curl_easy_setopt(easy, CURLOPT_URL, h->url) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)h->timeout) == CURLE_OK &&
	     curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_timeout) == CURLE_OK &&
	     (!h->ca_file || !*h->ca_file || curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_file) == CURLE_OK);
	pgmqd_http_body_max(easy, h->max_answer);
	if (!h->allow_private)
		pgmqd_http_public_only(easy);
	pgmqd_msg_data_set(m, list);
	if (!ok)
		pgmqd_http_discard(easy);
	if (!ok || pgmqd_http_submit(m, easy, on_answer, m) != 0) {
		curl_slist_free_all(list);
		pgmqd_retry(m, 0, "libcurl refuses the request");
	}
}

/* Lets go of a message; the host has ended its transfer. */
static void webhook_cancel(void *handle, struct pgmqd_msg *m)
{
	(void)handle;
	curl_slist_free_all(pgmqd_msg_data(m));
}

/* The end. */
static void webhook_stop(void *handle)
{
	g_free(((struct webhook *)handle)->key);
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
	.cancel = webhook_cancel,
	.stop = webhook_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
