/* trace.c: reads and writes "traceparent", as W3C Trace Context has it: 00-TRACE-SPAN-FLAGS in lower-case hexadecimal.
 */
#include "config.h"

#include "base/trace.h"

#include "base/backoff.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HEX "0123456789abcdef"

/* Whether `n` hexadecimal digits follow, not all of them zero unless that may be. */
static bool is_hex(const char *p, size_t n, bool zero)
{
	return strspn(p, HEX) >= n && (zero || strspn(p, "0") < n);
}

void trace_read(struct trace *t, const char *headers)
{
	cJSON *json;
	const char *p;

	memset(t, 0, sizeof(*t));
	if (!headers || !strstr(headers, "\"traceparent\"")) /* nearly always */
		return;
	json = cJSON_Parse(headers);
	p = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "traceparent"));
	/* a later version may be longer, and must begin like this one */
	if (p && strlen(p) >= 55 && is_hex(p, 2, true) && strncmp(p, "ff", 2) != 0 &&
		(strncmp(p, "00", 2) != 0 || strlen(p) == 55) && p[2] == '-' && is_hex(p + 3, 32, false) &&
		p[35] == '-' && is_hex(p + 36, 16, false) && p[52] == '-' && is_hex(p + 53, 2, true) &&
		(!p[55] || p[55] == '-')) {
		memcpy(t->id, p + 3, 32);
		memcpy(t->flags, p + 53, 2);
		memcpy(t->parent, p + 36, 16);
	}
	cJSON_Delete(json);
}

void trace_child(const struct trace *t, char buf[TRACE_PARENT_SIZE])
{
	snprintf(buf, TRACE_PARENT_SIZE, "00-%s-%016" PRIx64 "-%s", t->id, t->child ? t->child : backoff_random() | 1,
		t->flags);
}
