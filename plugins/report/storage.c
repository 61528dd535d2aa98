/* storage.c: PDF files in Supabase Storage: upload over whatever is there, signed links that expire, and deletion. */
#include "config.h"

#include "storage.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

struct storage_call {
	const struct report *report;
	struct curl_slist *headers;
	bool signing, erasing;
	char *body;
	storage_cb cb;
	void *arg;
};

void storage_call_free(struct storage_call *c)
{
	if (c == NULL)
		return;
	curl_slist_free_all(c->headers);
	g_free(c->body);
	g_free(c);
}

/* The number that Storage hides in the body of a 400: {"statusCode": "404", ...}. */
static long inner_status(const char *body)
{
	cJSON *json = cJSON_Parse(body);
	const cJSON *code = cJSON_GetObjectItemCaseSensitive(json, "statusCode");
	long status = cJSON_IsString(code)   ? strtol(code->valuestring, NULL, 10)
	              : cJSON_IsNumber(code) ? (long)code->valuedouble
	                                     : 0;

	cJSON_Delete(json);
	return status;
}

enum storage_result storage_judge(int curl_code, long status, const char *body)
{
	if (curl_code == CURLE_SSL_CACERT_BADFILE || curl_code == CURLE_PEER_FAILED_VERIFICATION)
		return STORAGE_SETTINGS;
	if (curl_code != CURLE_OK)
		return STORAGE_LATER;
	if (status == 400 && inner_status(body) >= 400)
		status = inner_status(body);
	if (status >= 200 && status < 300)
		return STORAGE_OK;
	if (status == 408 || status == 425 || status == 429 || status >= 500)
		return STORAGE_LATER;
	/* no such bucket or project, a wrong key, an address that leads elsewhere */
	if (status == 401 || status == 403 || status == 404 || (status >= 300 && status < 400))
		return STORAGE_SETTINGS;
	return STORAGE_NEVER;
}

/* The link out of an answer {"signedURL": "/object/sign/..."}; NULL when it has none. */
static char *signed_link(const struct report *h, const char *body)
{
	cJSON *json = cJSON_Parse(body);
	const cJSON *url = cJSON_GetObjectItemCaseSensitive(json, "signedURL");
	char *link = NULL;

	if (cJSON_IsString(url) && url->valuestring[0] == '/' && strpbrk(url->valuestring, " \r\n\"<>") == NULL) {
		size_t n = strlen(h->supabase_url);

		while (n > 0 && h->supabase_url[n - 1] == '/')
			n--;
		link = g_strdup_printf("%.*s/storage/v1%s", (int)n, h->supabase_url, url->valuestring);
	}
	cJSON_Delete(json);
	return link;
}

/* An answer, or none. */
static void on_answer(void *arg, const struct pgmqd_http_answer *answer)
{
	struct storage_call *c = arg;
	struct storage_end end = { .result = storage_judge(answer->curl_code, answer->status, answer->body),
		.retry_after_ms = answer->retry_after_ms };
	const char *what = c->signing ? "signing a link" : c->erasing ? "the deletion" : "the upload";

	if (c->erasing && answer->curl_code == CURLE_OK &&
		(answer->status == 404 || (answer->status == 400 && inner_status(answer->body) == 404)))
		end.result = STORAGE_OK;
	if (end.result == STORAGE_OK && c->signing && (end.text = signed_link(c->report, answer->body)) == NULL) {
		end.result = STORAGE_NEVER;
		end.text = g_strdup_printf("storage: %s: the answer has no signedURL", what);
	} else if (end.result != STORAGE_OK && answer->curl_code != CURLE_OK) {
		end.text = g_strdup_printf("storage: %s: %s", what, answer->error);
	} else if (end.result != STORAGE_OK) {
		long status = answer->status == 400 && inner_status(answer->body) >= 400 ? inner_status(answer->body)
		                                                                         : answer->status;

		end.text = g_strdup_printf("storage: %s was answered with status %ld%s", what, status,
			status == 404                    ? " (does the bucket exist?)"
			: status == 401 || status == 403 ? " (is service_key the right one?)"
							 : "");
	}
	c->cb(c->arg, end);
}

/* BUCKET/PATH. */
static char *object_name(const struct report *h, const char *path)
{
	return g_strconcat(h->bucket, "/", path, NULL);
}

/* Adds "name: value" to a list of headers. */
static void add_header(struct storage_call *c, const char *name, const char *value)
{
	char *line = g_strconcat(name, ": ", value, NULL);

	c->headers = curl_slist_append(c->headers, line);
	g_free(line);
}

/* POST, or DELETE, to /storage/v1/WHERE/OBJECT. NULL: libcurl could not begin. */
static struct storage_call *post(struct storage_call *c, struct pgmqd_msg *m, const char *where, const char *object,
	const char *type, const void *data, size_t len)
{
	const struct report *h = c->report;
	const char *trace;
	CURL *e = curl_easy_init();
	size_t n = strlen(h->supabase_url);
	char *url, *bearer = g_strconcat("Bearer ", h->service_key, NULL);
	bool ok = e != NULL;

	while (n > 0 && h->supabase_url[n - 1] == '/')
		n--;
	url = g_strdup_printf("%.*s/storage/v1/%s/%s", (int)n, h->supabase_url, where, object);
	add_header(c, "Authorization", bearer);
	add_header(c, "apikey", h->service_key);
	if (type)
		add_header(c, "Content-Type", type);
	if (!c->signing && !c->erasing)
		add_header(c, "x-upsert", "true");
	add_header(c, "Expect", "");
	if ((trace = pgmqd_msg_traceparent(m)) != NULL)
		add_header(c, "traceparent", trace);
#define SET(opt, value) (ok = ok && curl_easy_setopt(e, opt, value) == CURLE_OK)
	SET(CURLOPT_URL, url);
	SET(CURLOPT_HTTPHEADER, c->headers);
	if (c->erasing) {
		SET(CURLOPT_CUSTOMREQUEST, "DELETE");
	} else {
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
		SET(CURLOPT_POSTFIELDS, data);
	}
#undef SET
	g_free(url);
	g_free(bearer);
	if (ok && pgmqd_http_submit(m, e, on_answer, c) == 0)
		return c;
	if (!ok)
		curl_easy_cleanup(e);
	storage_call_free(c);
	return NULL;
}

struct storage_call *storage_upload(const struct report *h, struct pgmqd_msg *m, const char *path, const void *data,
	size_t len, storage_cb cb, void *arg)
{
	struct storage_call *c = g_new0(struct storage_call, 1);
	char *object = object_name(h, path);

	c->report = h;
	c->cb = cb;
	c->arg = arg;
	c = post(c, m, "object", object, "application/pdf", data, len);
	g_free(object);
	return c;
}

struct storage_call *storage_sign(
	const struct report *h, struct pgmqd_msg *m, const char *path, storage_cb cb, void *arg)
{
	struct storage_call *c = g_new0(struct storage_call, 1);
	char *object = object_name(h, path);

	c->report = h;
	c->cb = cb;
	c->arg = arg;
	c->signing = true;
	c->body = g_strdup_printf("{\"expiresIn\": %lld}", (long long)(h->link_expires / 1000));
	c = post(c, m, "object/sign", object, "application/json", c->body, strlen(c->body));
	g_free(object);
	return c;
}

struct storage_call *storage_erase(
	const struct report *h, struct pgmqd_msg *m, const char *object, storage_cb cb, void *arg)
{
	struct storage_call *c = g_new0(struct storage_call, 1);

	c->report = h;
	c->cb = cb;
	c->arg = arg;
	c->erasing = true;
	return post(c, m, "object", object, NULL, NULL, 0);
}
