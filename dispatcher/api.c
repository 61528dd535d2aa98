/* api.c: every function that a plugin may call; thin, and checked against misuse. */
#include "config.h"

#include "flow.h"
#include "http.h"
#include "pgmqd-plugin.h"
#include "template.h"
#include "xalloc.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODY_MAX (1024 * 1024)
#define DELAY_MAX_MS ((int64_t)365 * 86400 * 1000)

/* ---- outcomes ---- */

/* A delay that PostgreSQL can add to a time. */
static int64_t clamp_delay(int64_t ms)
{
	return ms < 0 ? 0 : ms > DELAY_MAX_MS ? DELAY_MAX_MS : ms;
}

PGMQD_EXPORT void pgmqd_done(struct pgmqd_msg *m)
{
	flow_settle(m, OUT_DONE, 0, NULL);
}

PGMQD_EXPORT void pgmqd_retry(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flow_settle(m, OUT_RETRY, clamp_delay(delay_ms), xvasprintf(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_fail(struct pgmqd_msg *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flow_settle(m, OUT_FAIL, 0, xvasprintf(fmt, ap));
	va_end(ap);
}

PGMQD_EXPORT void pgmqd_config_error(struct pgmqd_msg *m, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flow_settle(m, OUT_CONFIG, 0, xvasprintf(fmt, ap));
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

PGMQD_EXPORT void pgmqd_replace(struct pgmqd_msg *m, const char *json_text, int64_t delay_ms)
{
	set_statement(m, json_text, 0, NULL);
	flow_settle(m, OUT_REPLACE, clamp_delay(delay_ms), NULL);
}

PGMQD_EXPORT void pgmqd_done_with(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params)
{
	set_statement(m, sql, nparams, params);
	flow_settle(m, OUT_DONE_WITH, 0, NULL);
}

PGMQD_EXPORT void pgmqd_done_batch(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params)
{
	set_statement(m, sql, nparams, params);
	if (m->state == MSG_RUNNING)
		m->shared = true;
	flow_settle(m, OUT_DONE_WITH, 0, NULL);
}

PGMQD_EXPORT void pgmqd_postpone(struct pgmqd_msg *m, int64_t delay_ms, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flow_settle(m, OUT_RELEASE, clamp_delay(delay_ms), xvasprintf(fmt, ap));
	va_end(ap);
}

/* ---- the message ---- */

PGMQD_EXPORT int64_t pgmqd_msg_id(const struct pgmqd_msg *m)
{
	return m->id;
}

PGMQD_EXPORT unsigned pgmqd_msg_attempt(const struct pgmqd_msg *m)
{
	return m->attempt;
}

PGMQD_EXPORT int64_t pgmqd_msg_enqueued_us(const struct pgmqd_msg *m)
{
	return m->enqueued_us;
}

PGMQD_EXPORT const char *pgmqd_msg_queue(const struct pgmqd_msg *m)
{
	return m->flow ? m->flow->qs->name : "";
}

PGMQD_EXPORT const char *pgmqd_msg_text(const struct pgmqd_msg *m, size_t *len)
{
	if (len)
		*len = m->text_len;
	return m->text ? m->text : "";
}

PGMQD_EXPORT const char *pgmqd_msg_headers(const struct pgmqd_msg *m)
{
	return m->headers;
}

PGMQD_EXPORT const struct cJSON *pgmqd_msg_json(struct pgmqd_msg *m)
{
	return message_json(m);
}

/* ---- logging ---- */

PGMQD_EXPORT void pgmqd_log(int level, const char *fmt, ...)
{
	va_list ap;

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

	if ((int)log_threshold < level || !m->flow)
		return;
	former = host_enter(&m->flow->host, m->id);
	va_start(ap, fmt);
	log_vwrite((enum log_level)level, NULL, fmt, ap);
	va_end(ap);
	host_leave(former);
}

/* ---- loop and timers ---- */

PGMQD_EXPORT struct event_base *pgmqd_event_base(struct pgmqd_worker *w)
{
	return w->base;
}

struct pgmqd_timer {
	struct event *ev;
	struct pgmqd_worker *w;
	pgmqd_timer_cb cb;
	void *arg;
};

/* A timer's time has come. */
static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
	struct pgmqd_timer *t = arg, mine = *t;
	struct log_context former = host_enter(mine.w, 0);

	(void)fd, (void)what;
	event_free(t->ev);
	free(t);
	mine.cb(mine.arg);
	host_leave(former);
}

PGMQD_EXPORT struct pgmqd_timer *pgmqd_timer(struct pgmqd_worker *w, int64_t ms, pgmqd_timer_cb cb, void *arg)
{
	struct pgmqd_timer *t = xcalloc(1, sizeof(*t));

	t->w = w;
	t->cb = cb;
	t->arg = arg;
	t->ev = evtimer_new(w->base, timer_fired, t);
	if (!t->ev)
		abort();
	flow_timer(t->ev, clamp_delay(ms));
	return t;
}

PGMQD_EXPORT void pgmqd_timer_cancel(struct pgmqd_timer *t)
{
	if (!t)
		return;
	event_free(t->ev);
	free(t);
}

/* ---- raw transfers ---- */

/* A handle that stays the plugin's own. */
struct raw {
	struct pgmqd_worker *w;
	pgmqd_curl_cb cb;
	void *arg;
};

/* libcurl is done with a raw handle. */
static void raw_done(void *arg, CURL *easy, CURLcode code)
{
	struct raw *r = arg, mine = *r;
	struct log_context former = host_enter(mine.w, 0);

	(void)easy;
	free(r);
	mine.cb(mine.arg, (int)code);
	host_leave(former);
}

PGMQD_EXPORT int pgmqd_curl_add(struct pgmqd_worker *w, void *easy, pgmqd_curl_cb cb, void *arg)
{
	struct raw *r = xcalloc(1, sizeof(*r));

	r->w = w;
	r->cb = cb;
	r->arg = arg;
	if (http_add(w->http, easy, raw_done, r) == 0)
		return 0;
	free(r);
	return -1;
}

PGMQD_EXPORT void pgmqd_curl_remove(struct pgmqd_worker *w, void *easy)
{
	free(http_remove(w->http, easy)); /* the raw record, if its callback has not run */
}

/* ---- HTTP for a message ---- */

struct request {
	struct msg_resource res;
	struct http *http;
	CURL *easy;
	pgmqd_http_cb cb;
	void *arg;
	char *body, error[CURL_ERROR_SIZE];
	size_t len;
	bool too_long;
};

/* Ends a transfer, whether it is through or not. */
static void request_end(struct msg_resource *r)
{
	struct request *q = (struct request *)(void *)r;

	TAILQ_REMOVE(&r->msg->resources, r, link);
	http_remove(q->http, q->easy);
	curl_easy_cleanup(q->easy);
	free(q->body);
	free(q);
}

/* Collects the answer's body up to the limit. */
static size_t request_body(char *data, size_t size, size_t n, void *user)
{
	struct request *q = user;

	n *= size;
	if (q->len + n > BODY_MAX) {
		q->too_long = true;
		return 0;
	}
	q->body = xrealloc(q->body, q->len + n + 1, 1);
	memcpy(q->body + q->len, data, n);
	q->len += n;
	q->body[q->len] = 0;
	return n;
}

/* The transfer is through. */
static void request_done(void *arg, CURL *easy, CURLcode code)
{
	struct request *q = arg;
	struct pgmqd_msg *m = q->res.msg;
	struct pgmqd_http_answer a = { .curl_code = (int)code, .body = q->body ? q->body : "", .body_len = q->len };
	struct log_context former;
	curl_off_t retry = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &a.status);
	curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry);
	a.retry_after_ms = clamp_delay((int64_t)(retry > DELAY_MAX_MS / 1000 ? DELAY_MAX_MS / 1000 : retry) * 1000);
	if (code != CURLE_OK)
		a.error = q->too_long ? "the answer is longer than 1 MiB" : q->error[0] ? q->error : curl_easy_strerror(code);
	/* out of the message's list first, so that a settling inside the callback does not end it under our feet */
	TAILQ_REMOVE(&m->resources, &q->res, link);
	http_remove(q->http, easy);
	former = host_enter(&m->flow->host, m->id);
	q->cb(q->arg, &a);
	host_leave(former);
	curl_easy_cleanup(easy);
	free(q->body);
	free(q);
}

/* What a safe transfer needs, unless the plugin has set it itself before. */
static bool request_setup(struct request *q)
{
	CURL *e = q->easy;
	bool ok = true;

#define SET(opt, value) (ok = ok && curl_easy_setopt(e, opt, value) == CURLE_OK)
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_ERRORBUFFER, q->error);
	SET(CURLOPT_WRITEFUNCTION, request_body);
	SET(CURLOPT_WRITEDATA, q);
#undef SET
	return ok;
}

PGMQD_EXPORT int pgmqd_http_submit(struct pgmqd_msg *m, void *easy, pgmqd_http_cb cb, void *arg)
{
	struct request *q;

	if (m->state != MSG_RUNNING || m->cancelling) {
		log_error("plugin misuse: a transfer for a message that is settled");
		curl_easy_cleanup(easy);
		return -1;
	}
	q = xcalloc(1, sizeof(*q));
	q->res.end = request_end;
	q->res.msg = m;
	q->http = m->flow->host.http;
	q->easy = easy;
	q->cb = cb;
	q->arg = arg;
	if (!request_setup(q) || http_add(q->http, easy, request_done, q) != 0) {
		curl_easy_cleanup(easy);
		free(q);
		return -1;
	}
	TAILQ_INSERT_TAIL(&m->resources, &q->res, link);
	return 0;
}

/* ---- the database ---- */

struct pgmqd_result {
	const struct pgresult *r;
};

struct query {
	struct msg_resource res;
	pgmqd_query_cb cb; /* NULL when the message no longer wants it */
	void *arg;
};

/* The statement goes on, its answer is dropped. */
static void query_end(struct msg_resource *r)
{
	TAILQ_REMOVE(&r->msg->resources, r, link);
	((struct query *)(void *)r)->cb = NULL;
}

/* The answer of a plugin's statement. */
static void query_answered(void *arg, const struct pgresult *r)
{
	struct query *q = arg;

	if (q->cb) {
		struct pgmqd_msg *m = q->res.msg;
		struct pgmqd_result result = { .r = r };
		struct log_context former = host_enter(&m->flow->host, m->id);

		TAILQ_REMOVE(&m->resources, &q->res, link);
		q->cb(q->arg, &result);
		host_leave(former);
	}
	free(q);
}

PGMQD_EXPORT int pgmqd_query(struct pgmqd_msg *m, const char *sql, int nparams, const char *const *params, pgmqd_query_cb cb, void *arg)
{
	struct query *q;

	if (m->state != MSG_RUNNING || m->cancelling) {
		log_error("plugin misuse: a query for a message that is settled");
		return -1;
	}
	q = xcalloc(1, sizeof(*q));
	q->res.end = query_end;
	q->res.msg = m;
	q->cb = cb;
	q->arg = arg;
	TAILQ_INSERT_TAIL(&m->resources, &q->res, link);
	pgconn_query(m->flow->pg, NULL, sql, nparams, params, query_answered, q);
	return 0;
}

PGMQD_EXPORT const char *pgmqd_result_error(const struct pgmqd_result *r)
{
	return r->r->error;
}

PGMQD_EXPORT const char *pgmqd_result_sqlstate(const struct pgmqd_result *r)
{
	return r->r->sqlstate;
}

PGMQD_EXPORT int pgmqd_result_rows(const struct pgmqd_result *r)
{
	return r->r->error ? 0 : PQntuples(r->r->res);
}

PGMQD_EXPORT int pgmqd_result_affected(const struct pgmqd_result *r)
{
	return r->r->error ? 0 : atoi(PQcmdTuples(r->r->res));
}

PGMQD_EXPORT const char *pgmqd_result_value(const struct pgmqd_result *r, int row, int col)
{
	if (r->r->error || row >= PQntuples(r->r->res) || col >= PQnfields(r->r->res) || PQgetisnull(r->r->res, row, col))
		return NULL;
	return PQgetvalue(r->r->res, row, col);
}

/* ---- templates ---- */

PGMQD_EXPORT int pgmqd_render(struct pgmqd_worker *w, const char *name, const char *lang, const struct cJSON *vars, struct pgmqd_rendered *out)
{
	struct template_result r = { .error = NULL };
	struct template_set *set;
	int rc;

	memset(out, 0, sizeof(*out));
	if ((set = host_templates(w, &out->error)) == NULL)
		return -1;
	rc = template_render(set, name, lang, vars, &r);
	out->subject = r.part[TEMPLATE_SUBJECT];
	out->text = r.part[TEMPLATE_TEXT];
	out->html = r.part[TEMPLATE_HTML];
	out->lang = r.lang;
	out->error = r.error;
	return rc;
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
