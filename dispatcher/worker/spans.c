/* spans.c: what happens to messages as spans of traces, sent to an OpenTelemetry collector (OTLP over HTTP, as JSON).
 *
 * A message is one span from its enqueue to its last outcome; the claim, the plugin's work and the settling of each
 * attempt are its children. The numbers of spans and of traces that no header names are hashes of the message, so that
 * the attempts of several dispatchers belong together. Spans wait in a bounded list, one request is under way at a
 * time, and what does not fit or is refused is dropped and counted: no message waits for a collector.
 */
#include "config.h"

#include "worker/spans.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/xalloc.h"
#include "process/proc.h"
#include "worker/plugin_call.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPANS_MAX 4096      /* that wait */
#define SPANS_BATCH 256     /* in one request */
#define SPANS_EVERY_MS 1000 /* a span waits so long for others */
#define SPANS_TIMEOUT_S 10L /* of a request */
#define SPANS_WARN_MS 60000 /* between two complaints */
#define SPANS_FLUSH_MS 1000

/* OTLP's numbers. */
enum span_kind { SPAN_INTERNAL = 1, SPAN_CONSUMER = 5 };

struct span {
	char trace[33], id[17], parent[17]; /* parent "": the span is the root of its trace */
	const char *name;
	enum span_kind kind;
	int64_t start_us, end_us;
	char queue[64], plugin[64], class[32];
	const char *outcome;
	int64_t msg_id;
	unsigned attempt;
	bool failed;
};

static struct {
	struct transfers *transfers; /* NULL: no spans are sent */
	const struct settings *settings;
	struct stats_slot *slot;
	struct event_base *base;
	struct event *timer;
	struct span *list; /* SPANS_MAX of them, as a ring */
	size_t first, n;
	CURL *easy; /* the request under way, or NULL */
	struct curl_slist *headers;
	char *body;
	size_t sent; /* spans in it */
	int64_t warned_ms;
} spans;

/* ---- the numbers ---- */

/* A number of a message that is the same in every dispatcher. `what` tells its numbers apart. */
static uint64_t spans_number(const struct pgmqd_msg *m, const char *queue, const char *what, int attempt)
{
	uint64_t hash = hash_add(HASH_START, what, strlen(what) + 1);

	hash = hash_add(hash, queue, strlen(queue) + 1);
	hash = hash_add(hash, &m->id, sizeof m->id);
	hash = hash_add(hash, &m->born_us, sizeof m->born_us);
	return hash_add(hash, &attempt, sizeof attempt) | 1;
}

/* Writes such a number as 16 digits. */
static void spans_digits(char *buf, const struct pgmqd_msg *m, const char *queue, const char *what, int attempt)
{
	snprintf(buf, 17, "%016" PRIx64, spans_number(m, queue, what, attempt));
}

void spans_claimed(struct pgmqd_msg *m, int64_t asked_ms)
{
	const char *queue = m->worker->qs->name;

	trace_read(&m->trace, m->headers);
	if (spans.transfers == NULL)
		return;
	m->claimed_us = clock_realtime_us();
	m->asked_us = m->claimed_us - (clock_boottime_ms() - asked_ms) * 1000;
	if (*m->trace.id == '\0') {
		spans_digits(m->trace.id, m, queue, "trace", 0);
		spans_digits(m->trace.id + 16, m, queue, "trace, second half", 0);
		strcpy(m->trace.flags, "01");
	}
	m->trace.child = spans_number(m, queue, "plugin", m->read_ct);
}

/* ---- sending ---- */

/* Adds an attribute whose value is of that kind. */
static void spans_attribute_of(cJSON *list, const char *key, const char *kind, const char *text)
{
	cJSON *item = cJSON_CreateObject();

	cJSON_AddStringToObject(item, "key", key);
	cJSON_AddStringToObject(cJSON_AddObjectToObject(item, "value"), kind, text);
	cJSON_AddItemToArray(list, item);
}

/* Adds an attribute. */
static void spans_attribute(cJSON *list, const char *key, const char *text)
{
	spans_attribute_of(list, key, "stringValue", text);
}

/* Adds an attribute that is a number: OTLP has 64 bits as text. */
static void spans_attribute_int(cJSON *list, const char *key, int64_t n)
{
	char buf[24];

	snprintf(buf, sizeof buf, "%" PRId64, n);
	spans_attribute_of(list, key, "intValue", buf);
}

/* A time, in nanoseconds since 1970. */
static void spans_time(cJSON *json, const char *name, int64_t us)
{
	char buf[32];

	snprintf(buf, sizeof buf, "%" PRId64 "000", us);
	cJSON_AddStringToObject(json, name, buf);
}

/* One span. A reason may name people, so that only the class of a failure is told. */
static cJSON *spans_json(const struct span *s)
{
	cJSON *json = cJSON_CreateObject(), *list, *status;

	cJSON_AddStringToObject(json, "traceId", s->trace);
	cJSON_AddStringToObject(json, "spanId", s->id);
	if (s->parent[0] != '\0')
		cJSON_AddStringToObject(json, "parentSpanId", s->parent);
	cJSON_AddStringToObject(json, "name", s->name);
	cJSON_AddNumberToObject(json, "kind", s->kind);
	spans_time(json, "startTimeUnixNano", s->start_us);
	spans_time(json, "endTimeUnixNano", s->end_us > s->start_us ? s->end_us : s->start_us);
	list = cJSON_AddArrayToObject(json, "attributes");
	spans_attribute(list, "messaging.system", "pgmq");
	spans_attribute(list, "messaging.destination.name", s->queue);
	spans_attribute_int(list, "messaging.message.id", s->msg_id);
	spans_attribute(list, "pgmqd.plugin", s->plugin);
	spans_attribute_int(list, "pgmqd.attempt", s->attempt);
	spans_attribute(list, "pgmqd.outcome", s->outcome);
	if (s->failed) {
		status = cJSON_AddObjectToObject(json, "status");
		cJSON_AddNumberToObject(status, "code", 2);
		cJSON_AddStringToObject(status, "message", s->class[0] != '\0' ? s->class : s->outcome);
	}
	return json;
}

/* The body of a request with the first n spans, which leave the list. */
static char *spans_body(size_t n)
{
	cJSON *json = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(json, "resourceSpans");
	cJSON *part = cJSON_CreateObject(), *resource, *scope;
	char *text;

	cJSON_AddItemToArray(list, part);
	resource = cJSON_AddArrayToObject(cJSON_AddObjectToObject(part, "resource"), "attributes");
	spans_attribute(resource, "service.name", "pgmqd");
	spans_attribute(resource, "service.version", PACKAGE_VERSION);
	spans_attribute(resource, "host.name", proc_host());
	spans_attribute_int(resource, "process.pid", getpid());
	list = cJSON_AddArrayToObject(part, "scopeSpans");
	part = cJSON_CreateObject();
	cJSON_AddItemToArray(list, part);
	scope = cJSON_AddObjectToObject(part, "scope");
	cJSON_AddStringToObject(scope, "name", "pgmqd");
	list = cJSON_AddArrayToObject(part, "spans");
	for (; n > 0; n--, spans.n--) {
		cJSON_AddItemToArray(list, spans_json(&spans.list[spans.first]));
		spans.first = (spans.first + 1) % SPANS_MAX;
	}
	text = cJSON_PrintUnformatted(json);
	cJSON_Delete(json);
	return text;
}

/* Spans are lost; it is said now and then. */
static void spans_drop(size_t n, const char *why)
{
	int64_t now = clock_monotonic_ms();

	stats_add(spans.slot, STAT_SPANS_DROPPED, n);
	if (spans.warned_ms == 0 || now - spans.warned_ms >= SPANS_WARN_MS) {
		spans.warned_ms = now;
		log_warn("%zu spans of traces were dropped: %s", n, why);
	}
}

/* Frees the request. */
static void spans_free_request(void)
{
	curl_easy_cleanup(spans.easy);
	curl_slist_free_all(spans.headers);
	free(spans.body);
	spans.easy = NULL;
	spans.headers = NULL;
	spans.body = NULL;
}

/* Ends the request under way. */
static void spans_end(void)
{
	transfer_remove(spans.transfers, spans.easy);
	spans_free_request();
}

/* The collector has answered, or not. */
static void spans_answered(void *arg, CURL *easy, CURLcode code)
{
	char why[64];
	long status = 0;

	(void)arg;
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	snprintf(why, sizeof why, "the collector answered with status %ld", status);
	if (code == CURLE_OK && status >= 200 && status < 300)
		stats_add(spans.slot, STAT_SPANS, spans.sent);
	else
		spans_drop(spans.sent, code == CURLE_OK ? why : curl_easy_strerror(code));
	spans_end();
	if (spans.n > 0)
		loop_timer(spans.timer, spans.n >= SPANS_BATCH ? 1 : SPANS_EVERY_MS);
}

/* The answer's body says nothing that we need. */
static size_t spans_ignore(char *data, size_t size, size_t n, void *user)
{
	(void)data, (void)user;
	return size * n;
}

/* The headers of a request: those of otlp_headers, "NAME=VALUE,NAME=VALUE", too. */
static struct curl_slist *spans_headers(void)
{
	struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
	char *copy = xstrdup(spans.settings->otlp_headers), *rest, *word;

	for (word = strtok_r(copy, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
		char *equals = strchr(word, '='), *line;

		word += strspn(word, " ");
		if (equals == NULL)
			continue;
		line = xasprintf("%.*s: %s", (int)(equals - word), word, equals + 1);
		list = curl_slist_append(list, line);
		free(line);
	}
	free(copy);
	return list;
}

/* Sends what waits, if no request is under way. */
static void spans_send(evutil_socket_t fd, short what, void *arg)
{
	CURL *easy;
	bool good;

	(void)fd, (void)what, (void)arg;
	if (spans.n == 0 || spans.easy != NULL)
		return;
	spans.sent = spans.n < SPANS_BATCH ? spans.n : SPANS_BATCH;
	spans.body = spans_body(spans.sent);
	spans.headers = spans_headers();
	easy = spans.easy = curl_easy_init();
	if (easy == NULL)
		xalloc_die("a libcurl handle");
	good = curl_easy_setopt(easy, CURLOPT_URL, spans.settings->otlp_endpoint) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_HTTPHEADER, spans.headers) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_POSTFIELDS, spans.body) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(spans.body)) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, spans_ignore) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
	       curl_easy_setopt(easy, CURLOPT_TIMEOUT, SPANS_TIMEOUT_S) == CURLE_OK;
	if (!good || transfer_add(spans.transfers, easy, spans_answered, NULL) != 0) {
		spans_drop(spans.sent, "libcurl refuses the request");
		spans_free_request();
	}
}

/* ---- what happened ---- */

/* A new span of a message at the end of the list, or NULL when the list is full. */
static struct span *spans_add(const struct pgmqd_msg *m, const char *name, int64_t start_us, int64_t end_us)
{
	const struct queue_settings *qs = m->worker->qs;
	struct span *s;

	if (spans.n == SPANS_MAX) {
		spans_drop(1, "too many wait for the collector");
		return NULL;
	}
	s = &spans.list[(spans.first + spans.n++) % SPANS_MAX];
	*s = (struct span){ .name = name,
		.kind = SPAN_INTERNAL,
		.start_us = start_us,
		.end_us = end_us,
		.outcome = outcome_name(m->outcome),
		.msg_id = m->id,
		.attempt = m->attempt };
	memcpy(s->trace, m->trace.id, sizeof s->trace);
	snprintf(s->queue, sizeof s->queue, "%s", qs->name);
	snprintf(s->plugin, sizeof s->plugin, "%s", m->worker->log->plugin);
	snprintf(s->class, sizeof s->class, "%s", m->outcome == OUT_FAIL && m->class ? m->class : "");
	spans_digits(s->parent, m, qs->name, "message", 0);
	spans_digits(s->id, m, qs->name, name, m->read_ct);
	return s;
}

void spans_settled(const struct pgmqd_msg *m)
{
	int64_t now = clock_realtime_us();
	bool over = m->outcome != OUT_RETRY && m->outcome != OUT_RELEASE && m->outcome != OUT_CONFIG;
	struct span *s;

	if (spans.transfers == NULL || !(m->trace.flags[1] & 1))
		return; /* the producer has decided that this trace is not recorded */
	spans_add(m, "claim", m->asked_us, m->claimed_us);
	if (m->run_ms != 0 && (s = spans_add(m, "plugin", m->started_us, m->ended_us)) != NULL)
		s->failed = m->outcome == OUT_RETRY || m->outcome == OUT_FAIL;
	spans_add(m, "settle", m->ended_us, now);
	if (over && (s = spans_add(m, "message", m->enqueued_us, now)) != NULL) {
		memcpy(s->id, s->parent, sizeof s->id);
		memcpy(s->parent, m->trace.parent, sizeof s->parent);
		s->kind = SPAN_CONSUMER;
		s->failed = m->outcome == OUT_FAIL;
	}
	if (spans.easy == NULL && (spans.n >= SPANS_BATCH || !evtimer_pending(spans.timer, NULL)))
		loop_timer(spans.timer, spans.n >= SPANS_BATCH ? 1 : SPANS_EVERY_MS);
}

/* ---- life ---- */

void spans_open(
	struct event_base *base, struct transfers *transfers, const struct settings *settings, struct stats_slot *slot)
{
	if (settings->otlp_endpoint == NULL || *settings->otlp_endpoint == '\0')
		return;
	spans.timer = loop_timer_new(base, spans_send, NULL);
	spans.list = xcalloc(SPANS_MAX, sizeof *spans.list);
	spans.base = base;
	spans.settings = settings;
	spans.slot = slot;
	spans.transfers = transfers;
}

/* The time for the last spans is over. */
static void spans_flushed(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	*(bool *)arg = true;
}

void spans_flush(void)
{
	bool over = false;
	struct event *end;

	if (spans.transfers == NULL || (spans.n == 0 && spans.easy == NULL))
		return;
	end = loop_timer_new(spans.base, spans_flushed, &over);
	loop_timer(end, SPANS_FLUSH_MS);
	while (!over && (spans.n > 0 || spans.easy != NULL)) {
		spans_send(-1, 0, NULL);
		event_base_loop(spans.base, EVLOOP_ONCE);
	}
	event_free(end);
}

void spans_close(void)
{
	if (spans.transfers == NULL)
		return;
	if (spans.n > 0)
		spans_drop(spans.n, "the process ends");
	if (spans.easy != NULL)
		spans_end();
	event_free(spans.timer);
	free(spans.list);
	memset(&spans, 0, sizeof spans);
}
