/* provider.c: the table of providers, and what the HTTP ones have in common: requests, answers, what a status means. */
#include "config.h"

#include "provider.h"

#include "address.h"
#include "options.h"
#include "reply.h"

#include <cjson/cJSON.h>
#include <string.h>

#define DELAY_MAX_MS (15 * 60 * 1000)
#define DAY_MS (24 * 60 * 60 * 1000)

static const struct provider *const providers[] = { &provider_smtp, &provider_resend, &provider_sendgrid,
	&provider_mailgun, &provider_ses };

/* Looks a provider up. */
static const struct provider *find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(providers); i++)
		if (g_ascii_strcasecmp(name, providers[i]->name) == 0)
			return providers[i];
	return NULL;
}

char *provider_list(const char *text, const struct provider *list[PROVIDERS_MAX], unsigned *n)
{
	char **words = g_strsplit_set(text != NULL ? text : "", ", \t", -1), *reason = NULL;

	*n = 0;
	for (char **w = words; *w != NULL && reason == NULL; w++) {
		const struct provider *p = find(*w);

		if (**w == '\0')
			continue;
		for (unsigned i = 0; i < *n && p != NULL; i++)
			if (list[i] == p)
				reason = g_strdup_printf("%s stands there twice", *w);
		if (p == NULL)
			reason = g_strdup_printf("%s is none of smtp, resend, sendgrid, mailgun, ses", *w);
		else if (reason == NULL)
			list[(*n)++] = p;
	}
	if (reason == NULL && *n == 0)
		reason = g_strdup("it names no provider");
	g_strfreev(words);
	return reason;
}

char *provider_check_url(const char *option, const char *url)
{
	CURLU *u;
	char *host = NULL;
	bool here = false;

	if (url == NULL || g_ascii_strncasecmp(url, "http://", 7) != 0)
		return NULL;
	u = curl_url();
	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK)
		here = address_is_loopback(host);
	curl_free(host);
	curl_url_cleanup(u);
	if (here)
		return NULL;
	return g_strdup_printf(
		"%s: http would send the key and the mails readable over the network; use https", option);
}

const char *provider_text(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

const char *provider_header(const struct provider_reply *reply, const char *name)
{
	struct curl_header *h;

	return curl_easy_header(reply->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : "";
}

void provider_by_name(const struct provider_error *rows, size_t n, const char *name, struct mail_result *result)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(name, rows[i].name) == 0) {
			result->is = rows[i].is;
			return;
		}
}

/* The meaning of a status where the provider says nothing else. */
static enum mail_class class_of(long status)
{
	if (status >= 200 && status <= 299)
		return MAIL_SENT;
	if (status == 429)
		return MAIL_SLOWER;
	/* A gateway that waited in vain for the service has passed the mail on. 524 is Cloudflare's word for it. */
	if (status == 504 || status == 524)
		return MAIL_UNKNOWN;
	if (status == 408 || status == 425 || status >= 500)
		return MAIL_AWAY;
	/* Keys, rights, and a bill that is not paid. Redirects, too: there is something else at that address. */
	if (status < 400 || status == 401 || status == 402 || status == 403)
		return MAIL_CONFIG;
	return MAIL_PERMANENT;
}

/* The provider's own words: the places where the four of them have them. */
static char *words_of(const struct provider_reply *reply, const char *body)
{
	const cJSON *errors = cJSON_GetObjectItemCaseSensitive(reply->json, "errors");
	const char *name = provider_text(reply->json, "name"), *message = provider_text(reply->json, "message");
	char *text, *clean;

	if (message[0] == '\0')
		message = provider_text(reply->json, "Message");
	if (message[0] == '\0' && cJSON_IsArray(errors))
		message = provider_text(cJSON_GetArrayItem(errors, 0), "message");
	if (name[0] == '\0')
		name = provider_header(reply, "x-amzn-ErrorType");
	if (message[0] == '\0' && reply->json == NULL && g_utf8_validate(body, -1, NULL))
		message = body;
	text = g_strdup_printf("%.*s%s%.300s", (int)strcspn(name, ":"), name,
		name[0] != '\0' && message[0] != '\0' ? ": " : "", message);
	clean = reply_redact(text, reply->recipient);
	g_free(text);
	return clean;
}

void provider_judge(const struct provider *p, const struct provider_reply *reply, const char *body,
	int64_t retry_after_ms, struct mail_result *result)
{
	char *words;

	memset(result, 0, sizeof(*result));
	result->is = class_of(reply->status);
	p->judge(reply, result);
	result->delay_ms = CLAMP(MAX(result->delay_ms, retry_after_ms), 0,
		result->is == MAIL_QUOTA ? (int64_t)DAY_MS : (int64_t)DELAY_MAX_MS);
	if (result->is == MAIL_SENT) {
		result->text = g_strdup_printf("%ld id=%s", reply->status, result->id != NULL ? result->id : "-");
		return;
	}
	words = words_of(reply, body);
	/* Services tell of a quota with 429, and with 400, 401 or 403, too. */
	if ((result->is == MAIL_SLOWER && verdict_says_quota(words)) ||
		((result->is == MAIL_PERMANENT || result->is == MAIL_CONFIG) && verdict_says_allowance(words)))
		result->is = MAIL_QUOTA;
	result->text = g_strdup_printf(
		"%s answered %ld%s%s", p->name, reply->status, words[0] != '\0' ? " " : "", words);
	g_free(words);
}

void provider_judge_failure(const struct provider *p, int curl_code, long os_errno, const char *error, bool all_sent,
	struct mail_result *result)
{
	memset(result, 0, sizeof(*result));
	if (all_sent) {
		result->is = MAIL_UNKNOWN;
		result->text = g_strdup_printf(
			"%s: %s after the whole mail was sent: it may have been taken or not", p->name, error);
		return;
	}
	result->is = verdict_connect(curl_code, 0, os_errno, error);
	result->text = g_strdup_printf("%s: %s", p->name, error);
}

void provider_add_header(struct provider_request *q, const char *name, const char *value)
{
	char *line = g_strdup_printf("%s: %s", name, value);

	q->headers = curl_slist_append(q->headers, line);
	if (q->headers == NULL)
		g_error("curl_slist_append: out of memory");
	g_free(line);
}

void provider_bearer(struct provider_request *q, const char *key)
{
	char *bearer = g_strdup_printf("Bearer %s", key);

	provider_add_header(q, "Authorization", bearer);
	g_free(bearer);
}

CURLcode provider_set_up(CURL *easy, const struct email *h, const struct provider_request *q)
{
	CURLcode rc = CURLE_OK;

#define SET(opt, value) (rc = rc == CURLE_OK ? curl_easy_setopt(easy, opt, value) : rc)
	SET(CURLOPT_URL, q->url->str);
	SET(CURLOPT_HTTPHEADER, q->headers);
	if (h->smtp_ca_file != NULL && h->smtp_ca_file[0] != '\0')
		SET(CURLOPT_CAINFO, h->smtp_ca_file);
	if (q->user != NULL) {
		SET(CURLOPT_USERNAME, q->user);
		SET(CURLOPT_PASSWORD, q->pass);
	}
	if (q->sigv4 != NULL)
		SET(CURLOPT_AWS_SIGV4, q->sigv4);
	else if (q->user != NULL)
		SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
#undef SET
	return rc;
}

void provider_url(struct provider_request *q, const char *base)
{
	g_string_assign(q->url, base);
	while (q->url->len > 0 && q->url->str[q->url->len - 1] == '/')
		g_string_truncate(q->url, q->url->len - 1);
}

char *provider_mailbox(const char *name, const char *address)
{
	GString *s;
	bool quote = false;

	if (name == NULL || name[0] == '\0')
		return g_strdup(address);
	for (const char *p = name; *p != '\0'; p++)
		quote = quote || strchr("()<>[]:;@\\,.\"", *p) != NULL;
	s = g_string_new(quote ? "\"" : "");
	for (const char *p = name; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			g_string_append_c(s, '\\');
		g_string_append_c(s, *p);
	}
	g_string_append_printf(s, "%s <%s>", quote ? "\"" : "", address);
	return g_string_free(s, FALSE);
}

char *provider_base64(const void *data, size_t len)
{
	return g_base64_encode(len > 0 ? data : (const void *)"", len);
}
