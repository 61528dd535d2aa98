/* httpmail.c: a mail over HTTP: the provider's request goes out through the host, its answer comes back as an outcome.
 */
#include "config.h"

#include "httpmail.h"

#include "options.h"
#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <string.h>

#define ANSWER_MAX (256 * 1024)

void httpmail_clear(struct provider_request *q)
{
	if (q->url != NULL)
		g_string_free(q->url, TRUE);
	if (q->body != NULL)
		g_string_free(q->body, TRUE);
	curl_slist_free_all(q->headers);
	g_free(q->sigv4);
	memset(q, 0, sizeof(*q));
}

/* Whether the other side may have the whole request. What was cut off in the middle is no request to anybody. */
static bool all_sent(const struct provider_request *q)
{
	curl_off_t uploaded = 0;
	long request = 0;

	curl_easy_getinfo(q->easy, CURLINFO_REQUEST_SIZE, &request);
	curl_easy_getinfo(q->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
	return request > 0 && uploaded >= (curl_off_t)q->body->len;
}

/* The answer, or the lack of one. */
static void on_answer(void *arg, const struct pgmqd_http_answer *a)
{
	struct provider_request *q = arg, mine = *q;
	struct provider_reply reply = { .easy = q->easy, .status = a->status, .recipient = q->recipient };
	struct mail_result result;
	long os_errno = 0;

	/* An answer that breaks off after its status has still said what matters. */
	if (a->curl_code == CURLE_OK || (a->status >= 200 && a->status <= 299)) {
		cJSON *json = cJSON_Parse(a->body);

		reply.json = json;
		provider_judge(q->provider, &reply, a->body, a->retry_after_ms, &result);
		cJSON_Delete(json);
	} else {
		char *error = g_strdup(a->error);

		curl_easy_getinfo(reply.easy, CURLINFO_OS_ERRNO, &os_errno);
		provider_judge_failure(q->provider, a->curl_code, os_errno, error, all_sent(q), &result);
		g_free(error);
	}
	httpmail_clear(q);
	mine.done(mine.arg, &result);
	g_free(result.text);
	g_free(result.id);
}

/* Puts the request on the handle. */
static bool set_up(const struct email *h, const struct provider_request *q)
{
	CURL *easy = q->easy;
	bool ok = provider_set_up(easy, h, q) == CURLE_OK;
	/* A provider that knows a mail by its key may get the request twice, as libcurl does when a kept connection
	 * dies. To the others each request has a connection of its own. */
	long once = !q->provider->idempotent;

#define SET(opt, value) (ok = ok && curl_easy_setopt(easy, opt, value) == CURLE_OK)
	SET(CURLOPT_FRESH_CONNECT, once);
	SET(CURLOPT_FORBID_REUSE, once);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body->len);
	SET(CURLOPT_POSTFIELDS, q->body->str);
	SET(CURLOPT_ACCEPT_ENCODING, "");
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_timeout);
	SET(CURLOPT_TIMEOUT_MS, (long)h->http_timeout);
#undef SET
	return ok;
}

void httpmail_send(const struct email *h, struct pgmqd_msg *m, const struct provider *p,
	const struct provider_mail *mail, struct provider_request *q,
	void (*done)(void *arg, const struct mail_result *r), void *arg)
{
	struct mail_result result = { .is = MAIL_CONFIG };

	httpmail_clear(q);
	q->url = g_string_new(NULL);
	q->body = g_string_new(NULL);
	q->provider = p;
	q->recipient = mail->parts->rcpt->list[0].mailbox.address;
	q->done = done;
	q->arg = arg;
	p->request(h, mail, q);
	q->easy = pgmqd_http_new(h->worker);
	pgmqd_http_body_max(q->easy, ANSWER_MAX);
	if (!set_up(h, q))
		pgmqd_http_discard(q->easy);
	else if (pgmqd_http_submit(m, q->easy, on_answer, q) == 0)
		return;
	httpmail_clear(q);
	result.text = g_strdup_printf("%s: libcurl does not take the request", p->name);
	done(arg, &result);
	g_free(result.text);
}
