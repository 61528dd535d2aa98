/* analytics.c: the plugin that records events: one row of pgmqd.analytics_events for each message, exactly once.
 *
 * It only checks the message. The rows are written, and counted by day, in the transaction that archives the messages:
 * one statement for up to 500 of them.
 */
#include "config.h"

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define EVENT_MAX 100
#define RECORD "SELECT pgmqd.record_events($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])"

/* There are no options; a handle must not be empty. */
struct analytics_handle {
	int nothing;
};

static const struct pgmqd_option analytics_options[] = { { .name = NULL } };

/* Reads n digits. */
static int digits(const char *p, int n)
{
	int value = 0;

	while (n-- > 0)
		value = value * 10 + (*p++ - '0');
	return value;
}

/* Whether a text is a time as in RFC 3339: 2026-11-21T10:30:00Z, with a fraction or another offset if you like. */
static bool is_time(const char *s)
{
	static const char form[] = "0000-00-00T00:00:00";
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int year, month, day;
	size_t i;

	for (i = 0; form[i]; i++)
		if (form[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != form[i])
			return false;
	year = digits(s, 4);
	month = digits(s + 5, 2);
	day = digits(s + 8, 2);
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days[month - 1])
		return false;
	if (month == 2 && day == 29 && (year % 4 != 0 || (year % 100 == 0 && year % 400 != 0)))
		return false;
	if (digits(s + 11, 2) > 23 || digits(s + 14, 2) > 59 || digits(s + 17, 2) > 59)
		return false;
	s += i;
	if (*s == '.') {
		i = strspn(s + 1, "0123456789");
		if (i < 1 || i > 9)
			return false;
		s += 1 + i;
	}
	if (strcmp(s, "Z") == 0)
		return true;
	return (*s == '+' || *s == '-') && strlen(s) == 6 && strspn(s + 1, "0123456789") == 2 && s[3] == ':' &&
	       strspn(s + 4, "0123456789") == 2 && digits(s + 1, 2) <= 14 && digits(s + 4, 2) <= 59;
}

/* The time at which a message was enqueued, for an event that does not say when it happened. */
static void enqueued_at(const struct pgmqd_msg *m, char *buf, size_t size)
{
	int64_t us = pgmqd_msg_enqueued_us(m);
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, size - n, ".%06" PRId64 "Z", us % 1000000);
}

/* A message: {"event": ..., "occurred_at": ..., "properties": {...}}; only the first is needed. */
static void analytics_deliver(void *h, struct pgmqd_msg *m)
{
	const cJSON *json = pgmqd_msg_json(m), *event = cJSON_GetObjectItemCaseSensitive(json, "event"),
		    *at = cJSON_GetObjectItemCaseSensitive(json, "occurred_at"),
		    *more = cJSON_GetObjectItemCaseSensitive(json, "properties");
	char id[24], when[48];
	const char *params[] = { pgmqd_msg_queue(m), id, NULL, when, pgmqd_msg_text(m, NULL) };

	(void)h;
	if (!cJSON_IsString(event) || !*event->valuestring || strlen(event->valuestring) > EVENT_MAX) {
		pgmqd_fail(m, "event is missing, or is no text of 1 to %d bytes", EVENT_MAX);
		return;
	}
	if (more && !cJSON_IsObject(more) && !cJSON_IsNull(more)) {
		pgmqd_fail(m, "properties is no object");
		return;
	}
	if (at && !cJSON_IsNull(at) &&
		(!cJSON_IsString(at) || strlen(at->valuestring) >= sizeof(when) || !is_time(at->valuestring))) {
		pgmqd_fail(m, "occurred_at is no time such as 2026-11-21T10:30:00Z");
		return;
	}
	if (cJSON_IsString(at))
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): cJSON_IsString() is false for NULL */
		memcpy(when, at->valuestring, strlen(at->valuestring) + 1);
	else
		enqueued_at(m, when, sizeof(when));
	snprintf(id, sizeof(id), "%" PRId64, pgmqd_msg_id(m));
	params[2] = event->valuestring;
	pgmqd_done_batch(m, RECORD, 5, params);
}

static struct pgmqd_plugin plugin = {
	.name = "analytics",
	.version = PACKAGE_VERSION,
	.summary = "records events, and counts them by day",
	.options = analytics_options,
	.handle_size = sizeof(struct analytics_handle),
	.deliver = analytics_deliver,
};

PGMQD_REGISTER_PLUGIN(plugin);
