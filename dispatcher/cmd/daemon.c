/* daemon.c: asks a running daemon over its HTTP how its queues do. */
#include "config.h"

#include "cmd/daemon.h"

#include "base/xalloc.h"

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

/* One GET. The body, malloc'd, or NULL and *problem. */
static char *get(const char *where, const char *token, const char *path, char **problem)
{
	struct answer a = { 0 };
	struct curl_slist *headers = NULL;
	bool is_unix = strncmp(where, "unix:", 5) == 0;
	/* what listens everywhere is asked here */
	const char *port = strncmp(where, "0.0.0.0:", 8) == 0 ? where + 8
	                   : strncmp(where, "[::]:", 5) == 0  ? where + 5
	                                                      : NULL;
	char *url = is_unix ? xasprintf("http://localhost%s", path)
	            : port  ? xasprintf("http://127.0.0.1:%s%s", port, path)
	                    : xasprintf("http://%s%s", where, path);
	CURL *e = curl_easy_init();
	CURLcode code = CURLE_OUT_OF_MEMORY;
	long status = 0;

	if (e && *token) {
		char *line = xasprintf("Authorization: Bearer %s", token);

		headers = curl_slist_append(NULL, line);
		free(line);
	}
	if (e && curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK &&
		(!is_unix || curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, where + 5) == CURLE_OK) &&
		curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_data) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_WRITEDATA, &a) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, TIMEOUT_MS) == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_NOPROXY, "*") == CURLE_OK &&
		curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK)
		code = curl_easy_perform(e);
	if (code == CURLE_OK)
		curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK)
		*problem = xasprintf("no daemon answers at %s (%s)", where, curl_easy_strerror(code));
	else if (status != 200)
		*problem = xasprintf("the daemon at %s answers %s with %ld", where, path, status);
	curl_easy_cleanup(e);
	curl_slist_free_all(headers);
	free(url);
	if (*problem) {
		free(a.text);
		return NULL;
	}
	return a.text ? a.text : xstrdup("");
}

/* ---- the text of /metrics ---- */

/* The value of a label inside {...}; "" when it has none. `buf` is returned. */
static char *label(const char *labels, const char *name, char *buf, size_t size)
{
	size_t n = strlen(name), len = 0;
	const char *p = labels;

	*buf = '\0';
	while ((p = strstr(p, name)) != NULL && !((p[-1] == '{' || p[-1] == ',') && p[n] == '=' && p[n + 1] == '"'))
		p += n;
	if (p == NULL)
		return buf;
	for (p += n + 2; *p && *p != '"' && len + 1 < size; p++) {
		if (*p == '\\' && p[1])
			p++;
		buf[len++] = *p;
	}
	buf[len] = '\0';
	return buf;
}

/* The queue of that name, made when it is new. */
static struct live_queue *queue_of(struct live *l, const char *name)
{
	struct live_queue *q;

	for (size_t i = 0; i < l->n; i++)
		if (strcmp(l->queues[i].name, name) == 0)
			return &l->queues[i];
	l->queues = xrealloc(l->queues, l->n + 1, sizeof(*l->queues));
	q = &l->queues[l->n++];
	memset(q, 0, sizeof(*q));
	snprintf(q->name, sizeof(q->name), "%s", name);
	return q;
}

/* A number that belongs to a field of struct live_queue. */
static const struct {
	const char *metric;
	size_t offset;
} numbers[] = {
	{ "pgmqd_running", offsetof(struct live_queue, running) },
	{ "pgmqd_prefetched", offsetof(struct live_queue, prefetched) },
	{ "pgmqd_done_total", offsetof(struct live_queue, done) },
	{ "pgmqd_retried_total", offsetof(struct live_queue, retried) },
	{ "pgmqd_dead_lettered_total", offsetof(struct live_queue, dead) },
	{ "pgmqd_lease_lost_total", offsetof(struct live_queue, lost) },
};

static const char *const buckets[LIVE_NSTAGES] = { "pgmqd_wake_seconds_bucket", "pgmqd_wait_seconds_bucket",
	"pgmqd_run_seconds_bucket" };

/* One line: NAME{LABELS} VALUE. */
static void take_line(struct live *l, const char *line)
{
	const char *brace = strchr(line, '{'), *value = strrchr(line, ' ');
	char name[64], text[64];
	struct live_queue *q;
	size_t len;

	if (!brace || !value || *line == '#' || strncmp(line, "pgmqd_queue_", 12) == 0) /* those are the database's */
		return;
	len = (size_t)(brace - line);
	if (*label(brace, "queue", name, sizeof(name)) == '\0')
		return;
	q = queue_of(l, name);
	label(brace, "plugin", text, sizeof(text));
	if (*text)
		snprintf(q->plugin, sizeof(q->plugin), "%s", text);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		if (strlen(numbers[i].metric) == len && memcmp(numbers[i].metric, line, len) == 0)
			*(double *)(void *)((char *)q + numbers[i].offset) += atof(value);
	if (len == strlen("pgmqd_process_state") && memcmp(line, "pgmqd_process_state", len) == 0 && atof(value) > 0) {
		label(brace, "state", text, sizeof(text));
		q->processes++;
		if (!*q->state || strcmp(text, "ready") != 0) /* of the process that is worst off */
			snprintf(q->state, sizeof(q->state), "%.23s", text);
	}
	for (int s = 0; s < LIVE_NSTAGES; s++)
		if (strlen(buckets[s]) == len && memcmp(buckets[s], line, len) == 0 &&
			q->stages[s].size < LIVE_BOUNDS) {
			struct live_histogram *h = &q->stages[s];

			label(brace, "le", text, sizeof(text));
			h->le[h->size] = strcmp(text, "+Inf") == 0 ? INFINITY : atof(text);
			h->n[h->size++] = atof(value);
		}
}

/* The errors, the restarts and the plugins' own numbers of /api/queues. */
static void take_queues(struct live *l, const char *text)
{
	cJSON *json = cJSON_Parse(text), *worker;
	const cJSON *q;

	cJSON_ArrayForEach(q, cJSON_GetObjectItemCaseSensitive(json, "queues"))
	{
		const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(q, "queue")), *error;
		struct live_queue *mine;

		worker = cJSON_GetObjectItemCaseSensitive(q, "worker");
		if (!name || !cJSON_IsObject(worker))
			continue;
		mine = queue_of(l, name);
		error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(worker, "last_error"));
		snprintf(mine->error, sizeof(mine->error), "%s", error ? error : "");
		if (cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(worker, "restarts")))
			mine->restarts = cJSON_GetObjectItemCaseSensitive(worker, "restarts")->valuedouble;
		if (!mine->numbers)
			mine->numbers = cJSON_DetachItemFromObjectCaseSensitive(worker, "numbers");
	}
	cJSON_Delete(json);
}

void live_fetch(struct live *l, const char *where, const char *token)
{
	char *text, *rest, *line, *ignored = NULL;

	memset(l, 0, sizeof(*l));
	if (strcmp(where, "off") == 0) {
		l->problem = xstrdup("the daemon has no HTTP (http_listen = off)");
		return;
	}
	text = get(where, token, "/metrics", &l->problem);
	if (!text)
		return;
	rest = text;
	while ((line = strsep(&rest, "\n")) != NULL)
		take_line(l, line);
	free(text);
	text = get(where, token, "/api/queues",
		&ignored); /* it has the last error and the names of numbers, which /metrics has not */
	if (text)
		take_queues(l, text);
	free(text);
	free(ignored);
}

void live_free(struct live *l)
{
	for (size_t i = 0; i < l->n; i++)
		cJSON_Delete(l->queues[i].numbers);
	free(l->queues);
	free(l->problem);
	memset(l, 0, sizeof(*l));
}

const struct live_queue *live_find(const struct live *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (strcasecmp(l->queues[i].name, name) == 0)
			return &l->queues[i];
	return NULL;
}

double live_quantile(const struct live_histogram *h, double q)
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
