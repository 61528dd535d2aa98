/* fetch.c: fetches attachments by URL, from the public Internet only, or out of Supabase Storage, from the buckets that
 * the settings name. */
#include "config.h"

#include "fetch.h"

#include "safety.h"
#include "sending.h"

#include <curl/curl.h>
#include <string.h>

struct fetch {
	struct sending *sending;
	void (*done)(struct sending *s);
	size_t at;   /* the attachment that is being fetched */
	size_t room; /* what contents may still take */
	CURL *easy;
	struct curl_slist *headers;
};

static void next(struct fetch *f);

void fetch_free(struct fetch *f)
{
	if (f == NULL)
		return;
	curl_slist_free_all(f->headers);
	g_free(f);
}

/* Ends the sending. `text` follows the attachment's place; no URL is repeated, since a signed one is a key. */
static void give_up(struct fetch *f, enum sending_end how, int64_t delay_ms, const char *text)
{
	sending_stop(f->sending, how, NULL, delay_ms, "attachments[%zu]: %s", f->at, text);
}

/* The meaning of an answer other than 2xx. */
static void on_refusal(struct fetch *f, const struct email_attachment *a, long status, int64_t retry_after_ms)
{
	char *text = g_strdup_printf("%s was answered with status %ld%s", a->url != NULL ? "url" : "path", status,
		status >= 300 && status < 400 ? " (redirects are not followed)" : "");

	if (status == 408 || status == 425 || status == 429 || status >= 500)
		give_up(f, END_LATER, retry_after_ms > 0 ? retry_after_ms : -1, text);
	else if (a->path != NULL && (status == 401 || status == 403))
		give_up(f, END_CONFIG, 0, text);
	else
		give_up(f, END_FAILED, 0, text);
	g_free(text);
}

/* The content, or what is there instead. */
static void on_answer(void *arg, const struct pgmqd_http_answer *answer)
{
	struct fetch *f = arg;
	struct email_attachment *a = &f->sending->parsed.attachments[f->at];
	const char *type = NULL;

	if (answer->refused)
		give_up(f, END_FAILED, 0, "url: its address is not on the public Internet");
	else if (answer->curl_code == CURLE_FILESIZE_EXCEEDED || answer->curl_code == CURLE_WRITE_ERROR)
		give_up(f, END_FAILED, 0, "the attachments are larger than max_message_bytes allows");
	else if (answer->curl_code == CURLE_URL_MALFORMAT || answer->curl_code == CURLE_UNSUPPORTED_PROTOCOL)
		give_up(f, END_FAILED, 0, "url: it is no https URL");
	else if (answer->curl_code != CURLE_OK) {
		char *text = g_strdup_printf(
			"it cannot be fetched: %s", curl_easy_strerror((CURLcode)answer->curl_code));

		give_up(f, END_LATER, -1, text);
		g_free(text);
	} else if (answer->status < 200 || answer->status > 299) {
		on_refusal(f, a, answer->status, answer->retry_after_ms);
	} else {
		curl_easy_getinfo(f->easy, CURLINFO_CONTENT_TYPE, &type);
		attachment_fill(a, answer->body, answer->body_len, type != NULL ? type : "");
		f->room -= MIN(f->room, answer->body_len);
		f->at++;
		next(f);
	}
}

/* Whether the settings allow this URL's host; *https: its scheme. */
static bool host_allowed(const struct email *h, const char *url, bool *https)
{
	CURLU *u = curl_url();
	char *scheme = NULL, *host = NULL, *user = NULL;
	bool ok = u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
	          curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	          curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	          curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_NO_USER;

	*https = ok && strcmp(scheme, "https") == 0;
	if (ok && h->attachment_hosts != NULL && h->attachment_hosts[0] != '\0')
		ok = safety_listed(h->attachment_hosts, host);
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	curl_url_cleanup(u);
	return ok;
}

/* The URL of a file in Storage, its name escaped; NULL when its bucket is none of those that are allowed. */
static char *storage_url(const struct email *h, const char *path)
{
	const char *slash = strchr(path, '/');
	char *bucket = g_strndup(path, (gsize)(slash - path)), *name = g_uri_escape_string(slash + 1, "/", FALSE),
	     *url = NULL;
	size_t n = h->supabase_url != NULL ? strlen(h->supabase_url) : 0;

	while (n > 0 && h->supabase_url[n - 1] == '/')
		n--;
	if (h->attachment_buckets != NULL && safety_listed(h->attachment_buckets, bucket))
		url = g_strdup_printf(
			"%.*s/storage/v1/object/authenticated/%s/%s", (int)n, h->supabase_url, bucket, name);
	g_free(bucket);
	g_free(name);
	return url;
}

/* The headers by which Storage knows us. */
static void add_key(struct fetch *f)
{
	const char *key = f->sending->email->service_key;
	char *bearer = g_strconcat("Authorization: Bearer ", key, NULL), *apikey = g_strconcat("apikey: ", key, NULL);

	if (f->headers == NULL) {
		f->headers = curl_slist_append(NULL, bearer);
		f->headers = curl_slist_append(f->headers, apikey);
	}
	g_free(bearer);
	g_free(apikey);
}

/* Sends the request. */
static void request(struct fetch *f, const char *url, bool guarded)
{
	const struct email *h = f->sending->email;
	bool ok = true;

	f->easy = pgmqd_http_new(h->worker);
	pgmqd_http_body_max(f->easy, f->room);
	if (guarded)
		pgmqd_http_public_only(f->easy);
#define SET(opt, value) (ok = ok && curl_easy_setopt(f->easy, opt, value) == CURLE_OK)
	SET(CURLOPT_URL, url);
	SET(CURLOPT_TIMEOUT_MS, (long)h->attachment_timeout);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)MIN(h->connect_timeout, h->attachment_timeout));
	if (h->smtp_ca_file != NULL && h->smtp_ca_file[0] != '\0')
		SET(CURLOPT_CAINFO, h->smtp_ca_file);
	if (f->headers != NULL && f->sending->parsed.attachments[f->at].path != NULL)
		SET(CURLOPT_HTTPHEADER, f->headers);
#undef SET
	if (!ok)
		pgmqd_http_discard(f->easy);
	if (!ok || pgmqd_http_submit(f->sending->msg, f->easy, on_answer, f) != 0)
		give_up(f, END_FAILED, 0, "libcurl does not take the request");
}

/* Fetches the next one that lacks its content; there is none: that is all. */
static void next(struct fetch *f)
{
	struct sending *s = f->sending;
	const struct email *h = s->email;
	const struct email_attachment *a;
	bool https = false;
	char *url;

	while (f->at < s->parsed.nattachments && s->parsed.attachments[f->at].content != NULL)
		f->at++;
	if (f->at == s->parsed.nattachments) {
		f->done(s);
		return;
	}
	a = &s->parsed.attachments[f->at];
	if (f->room == 0) {
		give_up(f, END_FAILED, 0, "the attachments are larger than max_message_bytes allows");
	} else if (a->url != NULL && !host_allowed(h, a->url, &https)) {
		give_up(f, END_FAILED, 0,
			"url: it is no URL, has a login in it, or its host is not among attachment_hosts");
	} else if (a->url != NULL && !https && !h->attachment_private) {
		give_up(f, END_FAILED, 0, "url: it must begin with https://");
	} else if (a->url != NULL) {
		request(f, a->url, !h->attachment_private);
	} else if ((url = storage_url(h, a->path)) == NULL) {
		give_up(f, END_FAILED, 0, "path: its bucket is not among attachment_buckets");
	} else {
		add_key(f);
		request(f, url, false);
		g_free(url);
	}
}

void fetch_begin(struct sending *s, void (*done)(struct sending *s))
{
	struct fetch *f;
	size_t missing = 0;

	for (size_t i = 0; i < s->parsed.nattachments; i++)
		missing += s->parsed.attachments[i].content == NULL;
	if (missing == 0) {
		done(s);
		return;
	}
	f = s->fetch = g_new0(struct fetch, 1);
	f->sending = s;
	f->done = done;
	f->room = s->email->max_message_bytes;
	for (size_t i = 0; i < s->parsed.nattachments; i++)
		f->room -= MIN(f->room, s->parsed.attachments[i].len);
	next(f);
}
