/* httpcheck.c: for pgmqd doctor: whether a mail service takes the key, asked without sending a mail. */
#include "config.h"

#include "httpcheck.h"

#include "options.h"

#include <cjson/cJSON.h>
#include <string.h>

#define TRY_MAX_MS 30000
#define ANSWER_MAX 65536

/* Keeps the beginning of the answer. */
static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	GString *body = arg;

	if (body->len < ANSWER_MAX)
		g_string_append_len(body, data, (gssize)MIN(size * n, ANSWER_MAX - body->len));
	return size * n;
}

/* Puts the request on the handle. */
static CURLcode set_up(CURL *easy, const struct email *h, const struct provider_request *q, GString *body)
{
	CURLcode rc = provider_set_up(easy, h, q);

#define SET(opt, value)                                                                                                \
	do {                                                                                                           \
		if (rc == CURLE_OK)                                                                                    \
			rc = curl_easy_setopt(easy, opt, value);                                                       \
	} while (0)
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_TIMEOUT_MS, (long)MIN(h->http_timeout, TRY_MAX_MS));
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, body);
#undef SET
	return rc;
}

/* Tells what an answer means. */
static void tell(struct pgmqd_check *c, const char *name, long status, const char *body)
{
	cJSON *json = cJSON_Parse(body);

	if (status >= 200 && status <= 299)
		pgmqd_check_tell(c, PGMQD_CHECK_OK, NULL, "mail service %s takes the key", name);
	else if (strcmp(provider_text(json, "name"), "restricted_api_key") == 0)
		pgmqd_check_tell(c, PGMQD_CHECK_OK, NULL, "mail service %s takes the key, which may only send", name);
	else if (status == 403)
		pgmqd_check_tell(c, PGMQD_CHECK_WARN,
			"send a mail to see whether the key may send, or allow it to read the account",
			"mail service %s: the key could not be checked, since it may not read the account (403)", name);
	else if (status == 401 || status == 400)
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL, "set the service's key to one that is valid, then reload pgmqd",
			"mail service %s does not take the key (%ld)", name, status);
	else if (status == 404)
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL,
			"set the service's domain, region and URL as they are in its control panel",
			"mail service %s does not know what it was asked for (404)", name);
	else
		pgmqd_check_tell(c, PGMQD_CHECK_WARN, "look at the service's status page, and try again",
			"mail service %s: the key could not be checked, the service answered %ld", name, status);
	cJSON_Delete(json);
}

void httpcheck_tell(const struct email *h, const struct provider *p, struct pgmqd_check *c)
{
	struct provider_request q = { .url = g_string_new(NULL) };
	GString *body = g_string_new(NULL);
	CURL *easy = curl_easy_init();
	CURLcode rc = CURLE_OUT_OF_MEMORY;
	long status = 0;

	p->probe(h, &q);
	if (easy != NULL && (rc = set_up(easy, h, &q, body)) == CURLE_OK)
		rc = curl_easy_perform(easy);
	if (rc == CURLE_OK) {
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		tell(c, p->name, status, body->str);
	} else {
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL,
			"let this machine reach the service by HTTPS, or set the service's URL",
			"mail service %s cannot be reached: %s", p->name, curl_easy_strerror(rc));
	}
	curl_easy_cleanup(easy);
	curl_slist_free_all(q.headers);
	g_free(q.sigv4);
	g_string_free(q.url, TRUE);
	g_string_free(body, TRUE);
}
