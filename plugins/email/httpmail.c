/* httpmail.c: a mail over HTTP: the provider's request goes out through the host, its answer comes back as an outcome.
 */
#include "config.h"

#include "route.h"
#include "sending.h"

#include <cjson/cJSON.h>
#include <string.h>

void httpmail_clear(struct sending *s)
{
	struct provider_request *q = &s->request;

	if (q->url != NULL)
		g_string_free(q->url, TRUE);
	if (q->body != NULL)
		g_string_free(q->body, TRUE);
	curl_slist_free_all(q->headers);
	g_free(q->sigv4);
	memset(q, 0, sizeof(*q));
}

/* Whether the other side may have the whole request. What was cut off in the middle is no request to anybody. */
static bool all_sent(const struct sending *s, CURL *easy)
{
	curl_off_t uploaded = 0;
	long request = 0;

	curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
	return request > 0 && uploaded >= (curl_off_t)s->request.body->len;
}

/* The answer, or the lack of one. */
static void on_answer(void *arg, const struct pgmqd_http_answer *a)
{
	struct sending *s = arg;
	const struct provider *p = s->way->provider;
	struct provider_reply reply = { .easy = s->request.easy, .status = a->status, .recipient = s->parsed.to };
	struct mail_result result;
	long os_errno = 0;

	s->under_way = false;
	/* An answer that breaks off after its status has still said what matters. */
	if (a->curl_code == CURLE_OK || (a->status >= 200 && a->status <= 299)) {
		cJSON *json = cJSON_Parse(a->body);

		reply.json = json;
		provider_judge(p, &reply, a->body, a->retry_after_ms, &result);
		cJSON_Delete(json);
	} else {
		char *error = g_strdup(a->error);

		curl_easy_getinfo(reply.easy, CURLINFO_OS_ERRNO, &os_errno);
		provider_judge_failure(p, a->curl_code, os_errno, error, all_sent(s, reply.easy), &result);
		g_free(error);
	}
	httpmail_clear(s);
	outcome_of(s, &result);
	g_free(result.text);
	g_free(result.id);
}

/* Puts the request on the handle. */
static bool set_up(CURL *easy, const struct sending *s, const struct provider_request *q)
{
	bool ok = provider_set_up(easy, s->email, q) == CURLE_OK;

#define SET(opt, value) (ok = ok && curl_easy_setopt(easy, opt, value) == CURLE_OK)
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body->len);
	SET(CURLOPT_POSTFIELDS, q->body->str);
	SET(CURLOPT_ACCEPT_ENCODING, "");
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)s->email->connect_timeout);
	SET(CURLOPT_TIMEOUT_MS, (long)s->email->http_timeout);
#undef SET
	return ok;
}

void httpmail_send(struct sending *s)
{
	struct provider_mail mail = { .parts = &s->parts, .bytes = s->bytes, .len = s->len, .key = s->key };
	CURL *easy = pgmqd_http_new(s->email->worker);
	struct mail_result result = { .is = MAIL_CONFIG, .unreached = true };

	httpmail_clear(s);
	s->request.url = g_string_new(NULL);
	s->request.body = g_string_new(NULL);
	s->way->provider->request(s->email, &mail, &s->request);
	s->request.easy = easy;
	pgmqd_http_body_max(easy, 256 * 1024);
	if (!set_up(easy, s, &s->request)) {
		pgmqd_http_discard(easy);
	} else if (pgmqd_http_submit(s->msg, easy, on_answer, s) == 0) {
		s->under_way = true;
		return;
	}
	httpmail_clear(s);
	result.text = g_strdup_printf("%s: libcurl does not take the request", s->way->provider->name);
	outcome_of(s, &result);
	g_free(result.text);
}
