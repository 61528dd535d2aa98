/* mailevents.c: the plugin itself: events of mail services, as the HTTP server has put them into a queue: verified,
 * read, recorded. */
#include "config.h"

#include "events.h"
#include "pgmqd-plugin.h"
#include "verify.h"

#include <curl/curl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#define CERTS_MAX 16
#define FORGED "forged"

/* The handle: the options, and certificates of SNS by their address. */
struct mailevents {
	struct verify_keys keys; /* first: verify_options fills it in */
	struct pgmqd_worker *worker;
	GHashTable *certs; /* URL → PEM */
};

/* An event that waits for a certificate, or for the database. */
struct waiting {
	struct mailevents *h;
	struct pgmqd_msg *msg;
	char *url; /* NULL: the database */
};

/* Cross-checks of the options. */
static int mailevents_config_complete(void *handle)
{
	const char *wrong = verify_keys_wrong(&((struct mailevents *)handle)->keys);

	if (wrong != NULL)
		pgmqd_log(PGMQD_ERROR, "%s", wrong);
	return wrong != NULL ? -1 : 0;
}

/* Gets ready. */
static int mailevents_start(void *handle, struct pgmqd_worker *w)
{
	struct mailevents *h = handle;

	h->worker = w;
	h->certs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	return 0;
}

/* Ends. */
static void mailevents_stop(void *handle)
{
	g_hash_table_destroy(((struct mailevents *)handle)->certs);
}

/* Records the events together with the archive of the message. Takes the list. */
static void record(struct pgmqd_msg *m, cJSON *list)
{
	char *text = cJSON_PrintUnformatted(list);
	const char *const params[] = { text };

	pgmqd_msg_log(m, PGMQD_INFO, "%d events", cJSON_GetArraySize(list));
	pgmqd_done_with(m,
		"SELECT count(*) FROM jsonb_to_recordset($1::jsonb) AS e (provider text, event_id text, kind text, "
		"address text, key text, provider_id text,"
		" detail text, at double precision), LATERAL pgmqd.record_mail_event(e.provider, e.event_id, e.kind, "
		"e.address, e.key, e.provider_id,"
		" e.detail, to_timestamp(e.at))",
		1, params);
	cJSON_free(text);
	cJSON_Delete(list);
}

/* ---- Amazon: a notification of SNS, signed by a certificate that is at an address ---- */

static void mailevents_deliver(void *handle, struct pgmqd_msg *m);

/* Frees what waited. */
static void waiting_free(struct waiting *w)
{
	g_free(w->url);
	g_free(w);
}

/* The certificate, or not. */
static void on_cert(void *arg, const struct pgmqd_http_answer *a)
{
	struct waiting *w = arg;
	struct mailevents *h = w->h;
	struct pgmqd_msg *m = w->msg;

	pgmqd_msg_data_set(m, NULL);
	if (a->curl_code != 0 || a->status != 200) {
		pgmqd_retry(m, 0, "the certificate of the signature cannot be had: %s",
			a->curl_code != 0 ? a->error : "no status 200");
	} else {
		if (g_hash_table_size(h->certs) >= CERTS_MAX)
			g_hash_table_remove_all(h->certs);
		g_hash_table_insert(h->certs, g_strdup(w->url), g_strdup(a->body));
		mailevents_deliver(h, m);
	}
	waiting_free(w);
}

/* The subscription has been confirmed, or not. */
static void on_confirmed(void *arg, const struct pgmqd_http_answer *a)
{
	struct waiting *w = arg;
	struct pgmqd_msg *m = w->msg;

	pgmqd_msg_data_set(m, NULL);
	if (a->curl_code != 0 || a->status != 200) {
		pgmqd_retry(m, 0, "the subscription cannot be confirmed: %s",
			a->curl_code != 0 ? a->error : "no status 200");
	} else {
		pgmqd_msg_log(m, PGMQD_INFO, "subscription to the topic confirmed");
		pgmqd_done(m);
	}
	waiting_free(w);
}

/* Has a message wait. */
static struct waiting *waiting_new(struct mailevents *h, struct pgmqd_msg *m, const char *url)
{
	struct waiting *w = g_new0(struct waiting, 1);

	w->h = h;
	w->msg = m;
	w->url = g_strdup(url);
	pgmqd_msg_data_set(m, w);
	return w;
}

/* GET. */
static void get(struct mailevents *h, struct pgmqd_msg *m, const char *url, pgmqd_http_cb cb)
{
	CURL *easy = pgmqd_http_new(h->worker);
	struct waiting *w = waiting_new(h, m, url);

	curl_easy_setopt(easy, CURLOPT_URL, url);
	if (pgmqd_http_submit(m, easy, cb, w) != 0) {
		pgmqd_msg_data_set(m, NULL);
		waiting_free(w);
		pgmqd_fail(m, "libcurl does not take the address of the event");
	}
}

/* A notification that is signed: the event is inside, as text. */
static void take_sns(struct mailevents *h, struct pgmqd_msg *m, const cJSON *body)
{
	const char *type = events_text(body, "Type");
	cJSON *inner;

	if (strcmp(type, "SubscriptionConfirmation") == 0) {
		if (verify_is_sns(&h->keys, events_text(body, "SubscribeURL")))
			get(h, m, events_text(body, "SubscribeURL"), on_confirmed);
		else
			pgmqd_fail_as(m, FORGED, "the confirmation's address is not Amazon's");
		return;
	}
	inner = strcmp(type, "Notification") == 0 ? cJSON_Parse(events_text(body, "Message")) : NULL;
	if (!cJSON_IsObject(inner))
		pgmqd_done(m); /* an unsubscription, or the line with which a topic greets */
	else
		record(m, events_of_ses(inner, events_text(body, "MessageId")));
	cJSON_Delete(inner);
}

/* ---- what is genuine ---- */

/* The certificate at an address, if it was fetched. */
static const char *certificate(void *arg, const char *url)
{
	return g_hash_table_lookup(((struct mailevents *)arg)->certs, url);
}

/* Records an event that is genuine. */
static void take(struct mailevents *h, struct pgmqd_msg *m)
{
	const cJSON *json = pgmqd_msg_json(m), *headers = cJSON_GetObjectItemCaseSensitive(json, "headers");
	const char *service = events_text(json, "provider");
	cJSON *body = cJSON_Parse(events_text(json, "body"));

	if (strcmp(service, "ses") == 0)
		take_sns(h, m, body);
	else if (strcmp(service, "resend") == 0)
		record(m, events_of_resend(body, events_text(headers, "svix-id")));
	else if (strcmp(service, "sendgrid") == 0)
		record(m, events_of_sendgrid(body));
	else
		record(m, events_of_mailgun(body));
	cJSON_Delete(body);
}

/* The database knows the token of an event now, unless it came with another event before. */
static void on_token(void *arg, const struct pgmqd_result *r)
{
	struct waiting *w = arg;
	struct mailevents *h = w->h;
	struct pgmqd_msg *m = w->msg;

	pgmqd_msg_data_set(m, NULL);
	waiting_free(w);
	if (pgmqd_result_error(r) != NULL)
		pgmqd_retry(m, 0, "the token of the event cannot be looked up: %s", pgmqd_result_error(r));
	else if (pgmqd_result_value(r, 0, 0) == NULL)
		pgmqd_fail_as(m, FORGED, "its token came with another event before");
	else
		take(h, m);
}

/* Takes an event whose signature is genuine; the signature may be that of another event, if it is of a token only. */
static void take_signed(struct mailevents *h, struct pgmqd_msg *m, const char *service, const char *text)
{
	cJSON *body = cJSON_Parse(text);
	const char *token = verify_token(service, body);
	char *name = token != NULL ? g_strdup_printf("%s %s", service, token) : NULL;
	const char *const params[] = { name, text };

	if (token == NULL)
		take(h, m);
	else
		pgmqd_query(
			m, "SELECT pgmqd.use_mail_event_token($1, $2)", 2, params, on_token, waiting_new(h, m, NULL));
	g_free(name);
	cJSON_Delete(body);
}

/* Takes a message. The HTTP server has verified what it stored; but others may put messages into a queue. */
static void mailevents_deliver(void *handle, struct pgmqd_msg *m)
{
	struct mailevents *h = handle;
	const cJSON *json = pgmqd_msg_json(m), *headers = cJSON_GetObjectItemCaseSensitive(json, "headers");
	const char *service = events_text(json, "provider"), *text = events_text(json, "body");
	char *why;

	switch (verify_event(
		&h->keys, service, headers, text, pgmqd_msg_enqueued_us(m) / G_USEC_PER_SEC, certificate, h, &why)) {
	case VERIFY_GOOD:
		take_signed(h, m, service, text);
		break;
	case VERIFY_CERTIFICATE:
		get(h, m, why, on_cert);
		break;
	case VERIFY_NO_KEY:
		pgmqd_fail(m, "%s", why);
		break;
	default:
		pgmqd_fail_as(m, FORGED, "%s", why);
	}
	free(why);
}

/* Lets go of a message. */
static void mailevents_cancel(void *handle, struct pgmqd_msg *m)
{
	struct waiting *w = pgmqd_msg_data(m);

	(void)handle;
	if (w != NULL)
		waiting_free(w);
}

static struct pgmqd_plugin plugin = {
	.name = "mailevents",
	.version = PACKAGE_VERSION,
	.summary = "verifies and records what mail services tell of mails that were sent",
	.options = verify_options,
	.handle_size = sizeof(struct mailevents),
	.config_complete = mailevents_config_complete,
	.start = mailevents_start,
	.deliver = mailevents_deliver,
	.cancel = mailevents_cancel,
	.stop = mailevents_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
