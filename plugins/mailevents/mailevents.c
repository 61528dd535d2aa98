/* mailevents.c: the plugin itself: events of mail services, as the HTTP server has put them into a queue: verified,
 * read, recorded. */
#include "config.h"

#include "events.h"
#include "pgmqd-plugin.h"
#include "verify.h"

#include <curl/curl.h>
#include <string.h>

#define SKEW_S 300
#define CERTS_MAX 16
#define FORGED "forged"

/* The handle: the options, and certificates of SNS by their address. */
struct mailevents {
	const char *resend_secret, *sendgrid_key, *mailgun_key, *ses_topic, *sns_url;
	struct pgmqd_worker *worker;
	GHashTable *certs; /* URL → PEM */
};

/* An event that waits for a certificate. */
struct waiting {
	struct mailevents *h;
	struct pgmqd_msg *msg;
	char *url;
};

#define AT(field) offsetof(struct mailevents, field)

static const struct pgmqd_option mailevents_options[] = {
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
static bool given(const char *s)
{
	return s != NULL && s[0] != '\0';
}

/* Cross-checks of the options. */
static int mailevents_config_complete(void *handle)
{
	struct mailevents *h = handle;

	if (given(h->resend_secret) && !verify_svix_secret_ok(h->resend_secret)) {
		pgmqd_log(PGMQD_ERROR, "resend_webhook_secret (RESEND_WEBHOOK_SECRET): it must be whsec_ and base64");
		return -1;
	}
	if (given(h->sendgrid_key) && !verify_sendgrid_key_ok(h->sendgrid_key)) {
		pgmqd_log(PGMQD_ERROR,
			"sendgrid_webhook_key (SENDGRID_WEBHOOK_KEY): it must be a public EC key, DER in base64");
		return -1;
	}
	return 0;
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

/* Whether a signed time fits the moment at which the event came: one that was recorded cannot be played again next
 * week. */
static bool is_fresh(const struct pgmqd_msg *m, const char *timestamp)
{
	gint64 at = g_ascii_strtoll(timestamp, NULL, 10), came = pgmqd_msg_enqueued_us(m) / G_USEC_PER_SEC;

	return at > came - SKEW_S && at < came + SKEW_S;
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

/* Whether an address is Amazon's own, or below sns_url. */
static bool url_ok(const struct mailevents *h, const char *url)
{
	const char *host, *end;

	if (given(h->sns_url))
		return g_str_has_prefix(url, h->sns_url);
	if (!g_str_has_prefix(url, "https://sns."))
		return false;
	host = url + strlen("https://sns.");
	end = host + strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-");
	return end > host && (g_str_has_prefix(end, ".amazonaws.com/") || g_str_has_prefix(end, ".amazonaws.com.cn/"));
}

/* What SNS signs: names and values of these members. */
static char *sns_text(const cJSON *body)
{
	static const char *const notification[] = { "Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type",
		NULL };
	static const char *const confirmation[] = { "Message", "MessageId", "SubscribeURL", "Timestamp", "Token",
		"TopicArn", "Type", NULL };
	const char *const *names = strcmp(events_text(body, "Type"), "Notification") == 0 ? notification : confirmation;
	GString *s = g_string_new(NULL);

	for (; *names != NULL; names++)
		if (cJSON_IsString(cJSON_GetObjectItemCaseSensitive(body, *names)))
			g_string_append_printf(s, "%s\n%s\n", *names, events_text(body, *names));
	return g_string_free(s, FALSE);
}

static void deliver_ses(struct mailevents *h, struct pgmqd_msg *m, const char *text);

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
		deliver_ses(h, m, events_text(pgmqd_msg_json(m), "body"));
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

/* GET. */
static void get(struct mailevents *h, struct pgmqd_msg *m, const char *url, pgmqd_http_cb cb)
{
	CURL *easy = pgmqd_http_new(h->worker);
	struct waiting *w = g_new0(struct waiting, 1);

	w->h = h;
	w->msg = m;
	w->url = g_strdup(url);
	pgmqd_msg_data_set(m, w);
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
		if (url_ok(h, events_text(body, "SubscribeURL")))
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

/* An event of Amazon's. */
static void deliver_ses(struct mailevents *h, struct pgmqd_msg *m, const char *text)
{
	cJSON *body = cJSON_Parse(text);
	const char *url = events_text(body, "SigningCertURL"), *pem, *version = events_text(body, "SignatureVersion");
	char *string = sns_text(body);

	if (!given(h->ses_topic))
		pgmqd_fail(m, "ses_topic_arn (SES_TOPIC_ARN) is not set: nothing can be verified");
	else if (strcmp(events_text(body, "TopicArn"), h->ses_topic) != 0)
		pgmqd_fail_as(m, FORGED, "it is of another topic than ses_topic_arn");
	else if (!url_ok(h, url) || !g_str_has_suffix(url, ".pem"))
		pgmqd_fail_as(m, FORGED, "the certificate's address is not Amazon's");
	else if ((pem = g_hash_table_lookup(h->certs, url)) == NULL)
		get(h, m, url, on_cert);
	else if (!verify_sns(pem, version, string, events_text(body, "Signature")))
		pgmqd_fail_as(m, FORGED, "the signature is not good");
	else
		take_sns(h, m, body);
	g_free(string);
	cJSON_Delete(body);
}

/* ---- the others ---- */

/* An event whose signature is complete in the request. */
static void deliver_signed(
	struct mailevents *h, struct pgmqd_msg *m, const char *provider, const cJSON *headers, const char *text)
{
	cJSON *body = cJSON_Parse(text), *list = NULL;
	const char *key, *timestamp;
	bool good;

	if (strcmp(provider, "resend") == 0) {
		key = h->resend_secret;
		timestamp = events_text(headers, "svix-timestamp");
		good = given(key) && verify_svix(key, events_text(headers, "svix-id"), timestamp, text,
					     events_text(headers, "svix-signature"));
		list = events_of_resend(body, events_text(headers, "svix-id"));
	} else if (strcmp(provider, "sendgrid") == 0) {
		key = h->sendgrid_key;
		timestamp = events_text(headers, "X-Twilio-Email-Event-Webhook-Timestamp");
		good = given(key) && verify_sendgrid(key, timestamp, text,
					     events_text(headers, "X-Twilio-Email-Event-Webhook-Signature"));
		list = events_of_sendgrid(body);
	} else {
		const cJSON *signature = cJSON_GetObjectItemCaseSensitive(body, "signature");

		key = h->mailgun_key;
		timestamp = events_text(signature, "timestamp");
		good = given(key) && verify_mailgun(key, timestamp, events_text(signature, "token"),
					     events_text(signature, "signature"));
		list = events_of_mailgun(body);
	}
	if (!given(key))
		pgmqd_fail(m, "there is no key in the settings to verify events of %s with", provider);
	else if (!good)
		pgmqd_fail_as(m, FORGED, "the signature is not good");
	else if (!is_fresh(m, timestamp))
		pgmqd_fail_as(m, FORGED, "the signature's time is not the time at which it came");
	else {
		record(m, list);
		list = NULL;
	}
	cJSON_Delete(list);
	cJSON_Delete(body);
}

/* Takes a message. */
static void mailevents_deliver(void *handle, struct pgmqd_msg *m)
{
	const cJSON *json = pgmqd_msg_json(m);
	const char *provider = events_text(json, "provider"), *body = events_text(json, "body");

	if (strcmp(provider, "ses") == 0)
		deliver_ses(handle, m, body);
	else if (strcmp(provider, "resend") == 0 || strcmp(provider, "sendgrid") == 0 ||
		 strcmp(provider, "mailgun") == 0)
		deliver_signed(handle, m, provider, cJSON_GetObjectItemCaseSensitive(json, "headers"), body);
	else
		pgmqd_fail(m, "provider: it is none of resend, sendgrid, mailgun, ses");
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
	.options = mailevents_options,
	.handle_size = sizeof(struct mailevents),
	.config_complete = mailevents_config_complete,
	.start = mailevents_start,
	.deliver = mailevents_deliver,
	.cancel = mailevents_cancel,
	.stop = mailevents_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
