/* api_http.c: transfers of plugins through the worker's one curl multi: requests for a message, and handles of the
 * plugin's own. */
#include "config.h"

#include "worker/api.h"

#include "base/netguard.h"
#include "base/xalloc.h"
#include "worker/transfer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BODY_MAX (1024 * 1024)

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
	struct plugin_call call = plugin_call_begin(mine.w, 0);

	(void)easy;
	free(r);
	mine.cb(mine.arg, (int)code);
	plugin_call_end(call);
}

PGMQD_EXPORT int pgmqd_curl_add(struct pgmqd_worker *w, void *easy, pgmqd_curl_cb cb, void *arg)
{
	struct raw *r = xcalloc(1, sizeof(*r));

	r->w = w;
	r->cb = cb;
	r->arg = arg;
	if (transfer_add(w->transfers, easy, raw_done, r) == 0) {
		w->handles++;
		return 0;
	}
	free(r);
	return -1;
}

PGMQD_EXPORT void pgmqd_curl_remove(struct pgmqd_worker *w, void *easy)
{
	char *ours = NULL;

	if (easy)
		curl_easy_getinfo((CURL *)easy, CURLINFO_PRIVATE, &ours);
	if (!ours) {
		plugin_call_misuse(w, 0, "pgmqd_curl_remove() of a handle that was not added: ignored");
		return;
	}
	w->handles--;
	free(transfer_remove(w->transfers, easy)); /* the raw record, if its callback has not run */
}

/* ---- HTTP for a message ---- */

struct request {
	struct msg_resource res; /* must be first; without a message when the request is the plugin's own */
	TAILQ_ENTRY(request) link;
	struct pgmqd_worker *own; /* the plugin's own request is under way in this worker */
	struct transfers *http;
	CURL *easy;
	pgmqd_http_cb cb;
	void *arg;
	char *body, error[CURL_ERROR_SIZE];
	size_t len, room, max;
	bool too_long, public_only;
	bool refused, allowed; /* public_only: addresses that it was kept from, and that it could try */
};

/* Handles that pgmqd_http_new() gave away and that were not submitted yet, and the plugin's own requests. */
TAILQ_HEAD(request_list, request);
static struct request_list fresh = TAILQ_HEAD_INITIALIZER(fresh), under_way = TAILQ_HEAD_INITIALIZER(under_way);

/* The handle's record on that list, or NULL. */
static struct request *request_on(const struct request_list *list, const void *easy)
{
	struct request *q;

	TAILQ_FOREACH(q, list, link)
	if (q->easy == easy)
		return q;
	return NULL;
}

/* The fresh handle's record, or NULL. */
static struct request *request_find(const void *easy)
{
	return request_on(&fresh, easy);
}

/* Frees a request with its handle. */
static void request_free(struct request *q)
{
	curl_easy_cleanup(q->easy);
	free(q->body);
	free(q);
}

/* The plugin's own request is not under way any more. */
static void request_own_over(struct request *q)
{
	TAILQ_REMOVE(&under_way, q, link);
	q->own->handles--;
	transfer_remove(q->http, q->easy);
}

/* Ends a transfer that is not through. */
static void request_end(struct msg_resource *r)
{
	struct request *q = (struct request *)(void *)r;

	TAILQ_REMOVE(&r->msg->resources, r, link);
	transfer_remove(q->http, q->easy);
	request_free(q);
}

/* Collects the answer's body up to the limit. */
static size_t request_body(char *data, size_t size, size_t n, void *user)
{
	struct request *q = user;

	n *= size;
	if (n > q->max - q->len) {
		q->too_long = true;
		return 0;
	}
	if (q->len + n + 1 > q->room) {
		q->room = (q->len + n + 1) * 2;
		q->body = xrealloc(q->body, q->room, 1);
	}
	memcpy(q->body + q->len, data, n);
	q->len += n;
	q->body[q->len] = 0;
	return n;
}

/* Whether the request failed because it may go to public addresses only. A private address beside a public one is
 * passed over, and says nothing about how the public one did. */
static bool request_refused(const struct request *q, CURLcode code)
{
	return code != CURLE_OK && q->refused && !q->allowed;
}

/* The fault, in words. */
static const char *request_error(struct request *q, CURLcode code)
{
	if (request_refused(q, code))
		return "the address is not on the public Internet, and this request may go nowhere else";
	if (q->too_long) {
		snprintf(q->error, sizeof(q->error), "the answer is longer than %zu bytes", q->max);
		return q->error;
	}
	return q->error[0] ? q->error : curl_easy_strerror(code);
}

/* The transfer is through. */
static void request_done(void *arg, CURL *easy, CURLcode code)
{
	struct request *q = arg;
	struct pgmqd_msg *m = q->res.msg;
	struct pgmqd_http_answer a = { .curl_code = (int)code,
		.body = q->body ? q->body : "",
		.body_len = q->len,
		.refused = request_refused(q, code) };
	struct plugin_call call;
	curl_off_t retry = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &a.status);
	curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry);
	a.retry_after_ms = api_delay(
		(int64_t)(retry > API_DELAY_MAX_MS / 1000 ? API_DELAY_MAX_MS / 1000 : retry) * 1000);
	if (code != CURLE_OK)
		a.error = request_error(q, code);
	/* out of the list first, so that a settling inside the callback does not end it under our feet */
	if (q->own) {
		request_own_over(q);
		call = plugin_call_begin(q->own, 0);
	} else {
		TAILQ_REMOVE(&m->resources, &q->res, link);
		transfer_remove(q->http, easy);
		call = plugin_call_begin_msg(m);
	}
	q->cb(q->arg, &a);
	plugin_call_end(call);
	request_free(q);
}

/* A socket of a guarded request: only to a public address. */
static curl_socket_t request_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct request *q = user;

	(void)purpose;
	if (!netguard_is_public(&a->addr)) {
		q->refused = true;
		return CURL_SOCKET_BAD;
	}
	q->allowed = true;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Before a guarded request goes out, also on a connection that another request has opened: where does it lead? */
static int request_prereq(void *user, char *ip, char *local_ip, int port, int local_port)
{
	struct request *q = user;

	(void)local_ip, (void)port, (void)local_port;
	/* Each request of the handle is judged by itself, and by the address that it uses. */
	q->allowed = netguard_text_is_public(ip);
	q->refused = !q->allowed;
	if (q->allowed)
		return CURL_PREREQFUNC_OK;
	return CURL_PREREQFUNC_ABORT;
}

/* Options that every transfer needs, also when the plugin has set others. */
static bool request_setup(struct request *q)
{
	CURL *e = q->easy;
	bool ok = true;

#define SET(opt, value) (ok = ok && curl_easy_setopt(e, opt, value) == CURLE_OK)
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_ERRORBUFFER, q->error);
	SET(CURLOPT_WRITEFUNCTION, request_body);
	SET(CURLOPT_WRITEDATA, q);
	if (q->public_only) {
		SET(CURLOPT_OPENSOCKETFUNCTION, request_socket);
		SET(CURLOPT_OPENSOCKETDATA, q);
		SET(CURLOPT_PREREQFUNCTION, request_prereq);
		SET(CURLOPT_PREREQDATA, q);
		SET(CURLOPT_PROXY, "");
		SET(CURLOPT_UNIX_SOCKET_PATH, NULL);
	}
	return ok;
}

/* Options of a safe transfer, which the plugin may change. */
static bool request_defaults(CURL *e)
{
	bool ok = true;

	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	/* On a kept connection that dies without an answer libcurl would send the request once more. */
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	return ok;
}

PGMQD_EXPORT void *pgmqd_http_new(struct pgmqd_worker *w)
{
	struct request *q = xcalloc(1, sizeof(*q));
	CURL *e = q->easy = curl_easy_init();
	bool ok = e && request_defaults(e);

	(void)w;
	SET(CURLOPT_CONNECTTIMEOUT_MS, 10000L);
	SET(CURLOPT_TIMEOUT_MS, 30000L);
	SET(CURLOPT_USERAGENT, "pgmqd/" PACKAGE_VERSION);
	SET(CURLOPT_NOSIGNAL, 1L);
#undef SET
	if (!ok)
		abort(); /* out of memory, or a libcurl that is too old */
	q->max = BODY_MAX;
	TAILQ_INSERT_HEAD(&fresh, q, link);
	return e;
}

PGMQD_EXPORT void pgmqd_http_discard(void *easy)
{
	struct request *q = request_find(easy), *own = request_on(&under_way, easy);

	if (!q && !own) {
		plugin_call_misuse(NULL, 0,
			"pgmqd_http_discard() of a handle that is neither fresh nor the plugin's own request: ignored");
		return;
	}
	if (q)
		TAILQ_REMOVE(&fresh, q, link);
	else
		request_own_over(own);
	request_free(q ? q : own);
}

PGMQD_EXPORT void pgmqd_http_public_only(void *easy)
{
	struct request *q = request_find(easy);

	if (q)
		q->public_only = true;
	else
		plugin_call_misuse(
			NULL, 0, "pgmqd_http_public_only() of a handle that is not from pgmqd_http_new(): ignored");
}

PGMQD_EXPORT int pgmqd_http_private_host(const char *url)
{
	CURLU *u = curl_url();
	char *host = NULL;
	const char *ip;
	bool refused = false;

	if (u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		ip = *host == '[' ? host + 1 : host;
		host[strcspn(host, "]")] = '\0';
		refused = netguard_text_is_private(ip);
	}
	curl_free(host);
	curl_url_cleanup(u);
	return refused;
}

PGMQD_EXPORT void pgmqd_http_body_max(void *easy, size_t bytes)
{
	struct request *q = request_find(easy);

	if (q)
		q->max = bytes;
	else
		plugin_call_misuse(
			NULL, 0, "pgmqd_http_body_max() of a handle that is not from pgmqd_http_new(): ignored");
}

/* Takes a handle for a transfer: a fresh one, or one from elsewhere. NULL: it is none, or is freed already. */
static struct request *request_take(void *easy, pgmqd_http_cb cb, void *arg)
{
	struct request *q = request_find(easy);
	bool ok = true;

	if (q) {
		TAILQ_REMOVE(&fresh, q, link);
	} else {
		q = xcalloc(1, sizeof(*q));
		q->easy = easy;
		q->max = BODY_MAX;
		ok = request_defaults(easy);
	}
	q->cb = cb;
	q->arg = arg;
	if (ok)
		return q;
	request_free(q);
	return NULL;
}

/* Begins the transfer. False: the handle is freed. */
static bool request_begin(struct request *q, struct pgmqd_worker *w)
{
	q->http = w->transfers;
	if (request_setup(q) && transfer_add(q->http, q->easy, request_done, q) == 0)
		return true;
	request_free(q);
	return false;
}

PGMQD_EXPORT int pgmqd_http_submit(struct pgmqd_msg *m, void *easy, pgmqd_http_cb cb, void *arg)
{
	struct request *q;

	if (!easy || !cb) {
		plugin_call_misuse(NULL, m ? m->id : 0, "pgmqd_http_submit() without a handle or a callback");
		return -1;
	}
	if ((q = request_take(easy, cb, arg)) == NULL)
		return -1;
	if (!api_may_start(m, "pgmqd_http_submit")) {
		request_free(q);
		return -1;
	}
	q->res.end = request_end;
	q->res.msg = m;
	if (!request_begin(q, m->worker))
		return -1;
	TAILQ_INSERT_TAIL(&m->resources, &q->res, link);
	return 0;
}

PGMQD_EXPORT int pgmqd_http_start(struct pgmqd_worker *w, void *easy, pgmqd_http_cb cb, void *arg)
{
	struct request *q;

	if (!easy || !cb) {
		plugin_call_misuse(w, 0, "pgmqd_http_start() without a handle or a callback");
		return -1;
	}
	if ((q = request_take(easy, cb, arg)) == NULL || !request_begin(q, w))
		return -1;
	q->own = w;
	w->handles++;
	TAILQ_INSERT_TAIL(&under_way, q, link);
	return 0;
}
