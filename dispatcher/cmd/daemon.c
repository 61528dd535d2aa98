/* daemon.c: asks a running daemon over its HTTP how its queues do. */
#include "config.h"

#include "cmd/daemon.h"

#include "base/xalloc.h"
#include "cmd/peer.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ANSWER_MAX (16 * 1024 * 1024)
#define TIMEOUT_MS 3000L

/* An answer so far. */
struct answer {
	char *text;
	size_t len;
};

/* Takes what came. */
static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct answer *a = arg;

	if (a->len + size * n > ANSWER_MAX)
		return 0;
	a->text = xrealloc(a->text, a->len + size * n + 1, 1);
	memcpy(a->text + a->len, data, size * n);
	a->len += size * n;
	a->text[a->len] = '\0';
	return size * n;
}

/* libcurl: no other connection than the one there is. */
static curl_socket_t on_open(void *arg, curlsocktype what, struct curl_sockaddr *address)
{
	(void)arg;
	(void)what;
	(void)address;
	return CURL_SOCKET_BAD;
}

/* Asks without the token first, and has it shown over the same connection if the process there is known: with the
 * daemon away, any user may listen on its port. */
static CURLcode show_token(CURL *e, const char *url, const char *livez, struct curl_slist *token, bool *known)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	CURLcode code = curl_easy_setopt(e, CURLOPT_URL, livez);

	if (code == CURLE_OK)
		code = curl_easy_perform(e);
	*known = code == CURLE_OK && curl_easy_getinfo(e, CURLINFO_ACTIVESOCKET, &fd) == CURLE_OK &&
	         fd != CURL_SOCKET_BAD && peer_is_known(fd);
	if (!*known)
		return code;
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, token);
	return curl_easy_setopt(e, CURLOPT_URL, url);
}

/* One GET. The body, malloc'd, or NULL and *problem. */
static char *get(const char *where, const char *token, const char *path, char **problem)
{
	struct answer a = { 0 };
	struct curl_slist *headers = NULL;
	bool is_unix = strncmp(where, "unix:", 5) == 0, known = true;
	/* a loopback port shows its figures to anybody: no token for it */
	bool is_local = is_unix || strncmp(where, "127.", 4) == 0 || strncmp(where, "localhost:", 10) == 0 ||
	                strncmp(where, "[::1]:", 6) == 0;
	/* what listens everywhere is asked here */
	const char *port = strncmp(where, "0.0.0.0:", 8) == 0 ? where + 8
	                   : strncmp(where, "[::]:", 5) == 0  ? where + 5
	                                                      : NULL;
	char *base = is_unix ? xstrdup("http://localhost")
	             : port  ? xasprintf("http://127.0.0.1:%s", port)
	                     : xasprintf("http://%s", where);
	char *url = xasprintf("%s%s", base, path), *livez = xasprintf("%s/livez", base);
	CURL *e = curl_easy_init();
	CURLcode code = CURLE_OUT_OF_MEMORY;
	long status = 0;

	if (e && curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
		(!is_unix || curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, where + 5) == CURLE_OK) &&
		curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_WRITEDATA, &a) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, TIMEOUT_MS) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_NOPROXY, "*") == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK)
		code = CURLE_OK;
	if (code == CURLE_OK && *token && !is_local) {
		char *line = xasprintf("Authorization: Bearer %s", token);

		headers = curl_slist_append(NULL, line);
		free(line);
		code = show_token(e, url, livez, headers, &known);
		a.len = 0;
	}
	if (code == CURLE_OK && known)
		code = curl_easy_perform(e);
	if (code == CURLE_OK)
		curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK)
		*problem = xasprintf("no daemon answers at %s (%s)", where, curl_easy_strerror(code));
	else if (!known)
		*problem = xasprintf(
			"the token is kept from what listens at %s: it runs neither as root, nor as pgmqd, "
			"nor as this user",
			where);
	else if (status != 200)
		*problem = xasprintf("the daemon at %s answers %s with %ld", where, path, status);
	curl_easy_cleanup(e);
	curl_slist_free_all(headers);
	free(base);
	free(url);
	free(livez);
	if (*problem) {
		free(a.text);
		return NULL;
	}
	return a.text ? a.text : xstrdup("");
}

/* A number of an object; 0 when it is not there. */
static double number_of(const cJSON *o, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, name);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

/* A text of an object; "" when it is not there. */
static const char *text_of(const cJSON *o, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));

	return text ? text : "";
}

/* One histogram, made cumulative. */
static void take_histogram(struct daemon_histogram *h, const cJSON *bounds, const cJSON *counts)
{
	const cJSON *count;
	double sum = 0;

	cJSON_ArrayForEach(count, counts)
	{
		const cJSON *bound = cJSON_GetArrayItem(bounds, (int)h->size);

		if (h->size == DAEMON_BOUNDS)
			break;
		sum += count->valuedouble;
		h->le[h->size] = bound ? bound->valuedouble : INFINITY;
		h->n[h->size++] = sum;
	}
}

/* One queue of /api/queues that a worker serves. */
static void take_queue(struct daemon_queue *q, const cJSON *json, cJSON *worker)
{
	static const char *const stages[DAEMON_NSTAGES] = { "wake", "wait", "run" };
	const cJSON *settled = cJSON_GetObjectItemCaseSensitive(worker, "settled");
	const cJSON *histograms = cJSON_GetObjectItemCaseSensitive(json, "histograms");

	snprintf(q->name, sizeof(q->name), "%s", text_of(json, "queue"));
	snprintf(q->plugin, sizeof(q->plugin), "%s", text_of(worker, "plugin"));
	snprintf(q->state, sizeof(q->state), "%s", text_of(worker, "state"));
	snprintf(q->error, sizeof(q->error), "%s", text_of(worker, "last_error"));
	q->processes = number_of(worker, "processes");
	q->restarts = number_of(worker, "restarts");
	q->in_flight = number_of(json, "in_flight");
	q->done = number_of(settled, "done");
	q->retried = number_of(settled, "retried");
	q->dead = number_of(settled, "failed");
	q->lost = number_of(settled, "lease_lost");
	for (int i = 0; i < DAEMON_NSTAGES; i++)
		take_histogram(&q->stages[i], cJSON_GetObjectItemCaseSensitive(histograms, "bounds_seconds"),
			cJSON_GetObjectItemCaseSensitive(histograms, stages[i]));
	q->numbers = cJSON_DetachItemFromObjectCaseSensitive(worker, "numbers");
}

void daemon_fetch(struct daemon *l, const char *where, const char *token)
{
	const cJSON *q;
	cJSON *json, *worker;
	char *text;

	memset(l, 0, sizeof(*l));
	if (strcmp(where, "off") == 0) {
		l->problem = xstrdup("the daemon has no HTTP (http_listen = off)");
		return;
	}
	text = get(where, token, "/api/queues", &l->problem);
	if (!text)
		return;
	json = cJSON_Parse(text);
	free(text);
	cJSON_ArrayForEach(q, cJSON_GetObjectItemCaseSensitive(json, "queues"))
	{
		worker = cJSON_GetObjectItemCaseSensitive(q, "worker");
		if (!cJSON_IsObject(worker))
			continue;
		l->queues = xrealloc(l->queues, l->n + 1, sizeof(*l->queues));
		memset(&l->queues[l->n], 0, sizeof(*l->queues));
		take_queue(&l->queues[l->n++], q, worker);
	}
	cJSON_Delete(json);
}

void daemon_free(struct daemon *l)
{
	for (size_t i = 0; i < l->n; i++)
		cJSON_Delete(l->queues[i].numbers);
	free(l->queues);
	free(l->problem);
	memset(l, 0, sizeof(*l));
}

const struct daemon_queue *daemon_find(const struct daemon *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcasecmp(l->queues[i].name, name) == 0)
			return &l->queues[i];
	return NULL;
}

double daemon_quantile(const struct daemon_histogram *h, double q)
{
	double total = h->size ? h->n[h->size - 1] : 0, rank = q * total;

	if (total <= 0)
		return -1;
	for (size_t i = 0; i < h->size; i++) {
		double below = i ? h->n[i - 1] : 0, low = i ? h->le[i - 1] : 0;

		if (h->n[i] < rank)
			continue;
		if (isinf(h->le[i]) || h->n[i] <= below)
			return low;
		return low + (h->le[i] - low) * (rank - below) / (h->n[i] - below);
	}
	return h->size > 1 ? h->le[h->size - 2] : -1;
}
