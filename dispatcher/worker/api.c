/* api.c: what a plugin may do with a message: settle it, read it, log about it, render a template; thin, and checked
 * against misuse. */
#include "config.h"

#include "base/utf8.h"
#include "base/xalloc.h"
#include "template/template.h"
#include "settings/settings.h"
#include "worker/api.h"
#include "worker/delivery.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- misuse ---- */

/* A delay that PostgreSQL can add to a time. */
int64_t api_delay(int64_t ms)
{
	return ms < 0 ? 0 : ms > API_DELAY_MAX_MS ? API_DELAY_MAX_MS : ms;
}

/* Whether something may be started for a message. */
bool api_may_start(const struct pgmqd_msg *m, const char *function)
{
	if (m && m->state == MSG_RUNNING && !m->cancelling)
		return true;
	if (!m)
		plugin_call_misuse(NULL, 0, "%s() without a message", function);
	else
		plugin_call_misuse(m->worker, m->id, "%s() for a message that is %s: ignored", function,
			m->state == MSG_FREE            ? "gone"
			: m->cancelling || m->cancelled ? "cancelled"
							: "settled");
	return false;
}

/* Whether a message can be read: it is the plugin's, or was settled in this very call. */
static bool api_may_read(const struct pgmqd_msg *m, const char *function)
{
	if (m && (m->state == MSG_RUNNING || m->state == MSG_WAITING ||
			 (m->state != MSG_FREE && m->settled_in == plugin_call_serial)))
		return true;
	if (!m)
		plugin_call_misuse(NULL, 0, "%s() without a message", function);
	else
		plugin_call_misuse(m->worker, m->id, "%s() of a message that is %s: it is not valid any more", function,
			m->state == MSG_FREE ? "gone"
			: m->cancelled       ? "cancelled"
					     : "settled");
	return m && m->state != MSG_FREE;
}

/* Whether there is a message to settle; whether it may be settled flow_settle() knows. */
static bool api_may_settle(const struct pgmqd_msg *m, const char *function)
{
	if (!m)
		plugin_call_misuse(NULL, 0, "%s() without a message", function);
	return m != NULL;
}

/* ---- outcomes ---- */

#define REASON_MAX 8000 /* bytes */

/* A plugin's reason as the database takes it: it may quote any bytes of a program or server. */
static char *api_reason(const char *fmt, va_list ap)
{
	char *reason = xvasprintf(fmt, ap);

	utf8_clean(reason, REASON_MAX);
	return reason;
}

PGMQD_EXPORT void pgmqd_retry(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...)
{
	va_list ap;

	if (!api_may_settle(m, "pgmqd_retry"))
		return;
	va_start(ap, fmt);
	flow_settle(m, OUT_RETRY, api_delay(delay_ms), api_reason(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_fail(struct pgmqd_msg *m, const char *fmt, ...)
{
	va_list ap;

	if (!api_may_settle(m, "pgmqd_fail"))
		return;
	va_start(ap, fmt);
	flow_settle(m, OUT_FAIL, 0, api_reason(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_fail_as(struct pgmqd_msg *m, const char *kind, const char *fmt, ...)
{
	va_list ap;

	if (!api_may_settle(m, "pgmqd_fail_as"))
		return;
	if (m->state == MSG_RUNNING && !m->cancelling)
		snprintf(m->own_class, sizeof(m->own_class), "%s", kind);
	va_start(ap, fmt);
	flow_settle(m, OUT_FAIL, 0, api_reason(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_config_error(struct pgmqd_msg *m, const char *fmt, ...)
{
	va_list ap;

	if (!api_may_settle(m, "pgmqd_config_error"))
		return;
	va_start(ap, fmt);
	flow_settle(m, OUT_CONFIG, 0, api_reason(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_unavailable(struct pgmqd_msg *m, int64_t pause_ms, const char *fmt, ...)
{
	va_list ap;

	if (!api_may_settle(m, "pgmqd_unavailable"))
		return;
	va_start(ap, fmt);
	flow_settle(m, OUT_CONFIG, pause_ms > 0 ? api_delay(pause_ms) : UNAVAILABLE_MS, api_reason(fmt, ap));
	va_end(ap);
}

/* Puts the texts of replace and done_with into a message that can still be settled. */
static void set_statement(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params)
{
	if (m->state != MSG_RUNNING || m->cancelling)
		return;
	m->sql = xstrdup(sql);
	m->nparams = nparams;
	m->params = nparams ? xcalloc((size_t)nparams, sizeof(*m->params)) : NULL;
	for (int i = 0; i < nparams; i++)
		m->params[i] = xstrdup(params[i]);
}

/* Done; with a statement that does nothing, where messages go out with it: those of done_with are sent in one way. */
static void settle_done(struct pgmqd_msg *m, const char *result)
{
	if (m->state == MSG_RUNNING && !m->cancelling)
		m->result = xstrdup(result);
	if (m->sends)
		set_statement(m, "SELECT 1", 0, NULL);
	flow_settle(m, m->sends ? OUT_DONE_WITH : OUT_DONE, 0, NULL);
}

PGMQD_EXPORT void pgmqd_done(struct pgmqd_msg *m)
{
	if (api_may_settle(m, "pgmqd_done"))
		settle_done(m, NULL);
}

PGMQD_EXPORT void pgmqd_done_result(struct pgmqd_msg *m, const char *json_text)
{
	if (api_may_settle(m, "pgmqd_done_result"))
		settle_done(m, json_text);
}

PGMQD_EXPORT void pgmqd_send(
	struct pgmqd_msg *m, const char *queue, const char *json_text, const char *headers, int64_t delay_ms)
{
	cJSON *name;
	char *text, *sends;

	if (!api_may_start(m, "pgmqd_send"))
		return;
	name = cJSON_CreateString(queue ? queue : "");
	text = cJSON_PrintUnformatted(name);
	sends = xasprintf("%s%s{\"queue\":%s,\"message\":%s,\"headers\":%s,\"delay\":%.3f}", m->sends ? m->sends : "",
		m->sends ? "," : "", text ? text : "\"\"", json_text ? json_text : "null", headers ? headers : "null",
		(double)api_delay(delay_ms) / 1000);
	cJSON_free(text);
	cJSON_Delete(name);
	free(m->sends);
	m->sends = sends;
}

PGMQD_EXPORT void pgmqd_replace(struct pgmqd_msg *m, const char *json_text, int64_t delay_ms)
{
	if (!api_may_settle(m, "pgmqd_replace"))
		return;
	set_statement(m, json_text, 0, NULL);
	flow_settle(m, OUT_REPLACE, api_delay(delay_ms), NULL);
}

PGMQD_EXPORT void pgmqd_done_with(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params)
{
	if (!api_may_settle(m, "pgmqd_done_with"))
		return;
	set_statement(m, sql, nparams, params);
	flow_settle(m, OUT_DONE_WITH, 0, NULL);
}

PGMQD_EXPORT void pgmqd_done_batch(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params)
{
	if (!api_may_settle(m, "pgmqd_done_batch"))
		return;
	set_statement(m, sql, nparams, params);
	m->shared = true;
	flow_settle(m, OUT_DONE_WITH, 0, NULL);
}

PGMQD_EXPORT void pgmqd_postpone(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...)
{
	va_list ap;

	if (!api_may_settle(m, "pgmqd_postpone"))
		return;
	va_start(ap, fmt);
	flow_settle(m, OUT_RELEASE, delay_ms < 0 ? -1 : api_delay(delay_ms), api_reason(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_apart(struct pgmqd_msg *m, const char *fmt, ...)
{
	struct log_context former;
	char *reason;
	va_list ap;

	if (!api_may_settle(m, "pgmqd_apart"))
		return;
	va_start(ap, fmt);
	reason = api_reason(fmt, ap);
	va_end(ap);
	if (m->state != MSG_RUNNING || m->cancelling || !m->together) {
		flow_settle(m, OUT_RETRY, 0, reason);
		return;
	}
	former = plugin_call_enter_msg(m);
	log_info("goes again, alone: %s", reason);
	plugin_call_leave(former);
	free(reason);
	delivery_apart(m);
	flow_tick(m->worker->flow);
}

/* ---- the message ---- */

PGMQD_EXPORT int64_t pgmqd_msg_id(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_id") ? m->id : 0;
}

PGMQD_EXPORT unsigned pgmqd_msg_attempt(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_attempt") ? m->attempt : 0;
}

PGMQD_EXPORT int64_t pgmqd_msg_enqueued_us(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_enqueued_us") ? m->enqueued_us : 0;
}

PGMQD_EXPORT int64_t pgmqd_msg_due_us(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_due_us") ? m->first_due_us : 0;
}

PGMQD_EXPORT const char *pgmqd_msg_queue(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_queue") && m->worker ? m->worker->qs->name : "";
}

PGMQD_EXPORT const char *pgmqd_msg_text(const struct pgmqd_msg *m, size_t *len)
{
	bool ok = api_may_read(m, "pgmqd_msg_text") && m->text;

	if (len)
		*len = ok ? m->text_len : 0;
	return ok ? m->text : "";
}

PGMQD_EXPORT const char *pgmqd_msg_headers(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_headers") ? m->headers : NULL;
}

PGMQD_EXPORT const struct cJSON *pgmqd_msg_json(struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_json") ? message_json(m) : NULL;
}

PGMQD_EXPORT const char *pgmqd_msg_traceparent(struct pgmqd_msg *m)
{
	if (!api_may_read(m, "pgmqd_msg_traceparent") || !*m->trace.id)
		return NULL;
	trace_child(&m->trace, m->span);
	return m->span;
}

PGMQD_EXPORT void pgmqd_msg_data_set(struct pgmqd_msg *m, void *data)
{
	if (api_may_read(m, "pgmqd_msg_data_set"))
		m->data = data;
}

PGMQD_EXPORT void *pgmqd_msg_data(const struct pgmqd_msg *m)
{
	return api_may_read(m, "pgmqd_msg_data") ? m->data : NULL;
}

/* One step of a JSON Pointer: the member or element that the part names; ~1 is / and ~0 is ~. */
static const cJSON *pointer_step(const cJSON *at, const char *part, size_t len)
{
	char *key = xstrndup(part, len), *out = key;
	const cJSON *found = NULL;

	for (const char *in = key; *in; in++) {
		bool tilde = *in == '~' && (in[1] == '0' || in[1] == '1');

		*out++ = !tilde ? *in : in[1] == '1' ? '/' : '~';
		in += tilde;
	}
	*out = 0;
	if (cJSON_IsObject(at))
		found = cJSON_GetObjectItemCaseSensitive(at, key);
	else if (cJSON_IsArray(at) && *key && strspn(key, "0123456789") == strlen(key) && strlen(key) < 9)
		found = cJSON_GetArrayItem(at, atoi(key));
	free(key);
	return found;
}

PGMQD_EXPORT const char *pgmqd_msg_str(struct pgmqd_msg *m, const char *pointer)
{
	const cJSON *at = api_may_read(m, "pgmqd_msg_str") ? message_json(m) : NULL;

	while (at && *pointer == '/') {
		size_t len = strcspn(++pointer, "/");

		at = pointer_step(at, pointer, len);
		pointer += len;
	}
	return at && !*pointer && cJSON_IsString(at) ? at->valuestring : NULL;
}

/* ---- logging ---- */

PGMQD_EXPORT void pgmqd_log(int level, const char *fmt, ...)
{
	va_list ap;

	level = level < PGMQD_ERROR ? PGMQD_ERROR : level > PGMQD_DEBUG ? PGMQD_DEBUG : level;
	if ((int)log_threshold < level)
		return;
	va_start(ap, fmt);
	log_vwrite((enum log_level)level, NULL, fmt, ap);
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_msg_log(const struct pgmqd_msg *m, int level, const char *fmt, ...)
{
	struct log_context former;
	va_list ap;

	if (!api_may_read(m, "pgmqd_msg_log") || !m->worker || (int)log_threshold < level)
		return;
	level = level < PGMQD_ERROR ? PGMQD_ERROR : level > PGMQD_DEBUG ? PGMQD_DEBUG : level;
	former = plugin_call_enter_msg(m);
	va_start(ap, fmt);
	log_vwrite((enum log_level)level, NULL, fmt, ap);
	va_end(ap);
	plugin_call_leave(former);
}

/* ---- templates ---- */

PGMQD_EXPORT int pgmqd_render(struct pgmqd_worker *w, const char *name, const char *lang, const struct cJSON *vars,
	struct pgmqd_rendered *out)
{
	struct template_result r = { .error = NULL };
	struct template_set *set;
	int rc;

	memset(out, 0, sizeof(*out));
	if ((set = plugin_call_templates(w, &out->error)) == NULL)
		return -2;
	rc = template_render(set, name, lang, vars, &r);
	out->subject = r.part[TEMPLATE_SUBJECT];
	out->text = r.part[TEMPLATE_TEXT];
	out->html = r.part[TEMPLATE_HTML];
	out->lang = r.lang;
	out->error = r.error;
	return rc;
}

PGMQD_EXPORT int pgmqd_has_template(struct pgmqd_worker *w, const char *name)
{
	char *error;
	struct template_set *set = plugin_call_templates(w, &error);

	free(error);
	return set && template_exists(set, name);
}

PGMQD_EXPORT const char *pgmqd_brand(struct pgmqd_worker *w, const char *name)
{
	return settings_brand_value(w->settings, name);
}

PGMQD_EXPORT void pgmqd_rendered_free(struct pgmqd_rendered *r)
{
	free(r->subject);
	free(r->text);
	free(r->html);
	free(r->lang);
	free(r->error);
	memset(r, 0, sizeof(*r));
}
