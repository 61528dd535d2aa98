/* stub.c: the stub's connections. libcurl is made to take one end of a socket pair instead of a connection, so nothing
 * has to be listened on and no name is looked up; the other end is served here, in the same loop.
 */
#include "config.h"

#include "cmd/replay/stub_private.h"

#include "base/loop.h"
#include "base/utf8.h"
#include "base/xalloc.h"
#include "cmd/plugin/answers.h"
#include "cmd/replay/base64.h"
#include "worker/transfer.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A handle of libcurl, which opens connections. */
struct door {
	LIST_ENTRY(door) link;
	struct stub *stub;
	CURL *easy;
};

struct stub {
	struct event_base *base;
	struct transfers *transfers;
	const cJSON *answers;
	void (*effect)(void *arg, cJSON *effect);
	void *arg;
	struct curl_slist *here; /* where all names lead */
	struct stub_tls *tls;
	LIST_HEAD(, stub_conn) conns;
	LIST_HEAD(, door) doors;
};

/* ---- bytes ---- */

void bytes_add(struct bytes *b, const void *data, size_t len)
{
	if (b->len + len + 1 > b->room) {
		b->room = (b->len + len + 1) * 2;
		b->data = xrealloc(b->data, b->room, 1);
	}
	memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void bytes_drop(struct bytes *b, size_t len)
{
	if (!b->len)
		return;
	memmove(b->data, b->data + len, b->len - len + 1);
	b->len -= len;
}

void bytes_free(struct bytes *b)
{
	free(b->data);
	*b = (struct bytes){ 0 };
}

cJSON *stub_text(const char *data, size_t len, bool *is_text)
{
	char *text = NULL;
	cJSON *string;

	*is_text = !memchr(data, '\0', len) && utf8_is_valid(data, len);
	text = *is_text ? xstrndup(data, len) : base64_encode(data, len);
	string = cJSON_CreateString(text);
	free(text);
	return string;
}

/* ---- connections ---- */

/* Frees a connection. */
static void conn_free(struct stub_conn *c)
{
	LIST_REMOVE(c, link);
	event_free(c->readable);
	event_free(c->writable);
	stub_tls_end(c);
	close(c->fd);
	bytes_free(&c->in);
	bytes_free(&c->out);
	bytes_free(&c->mail);
	free(c->from);
	cJSON_Delete(c->to);
	free(c);
}

/* Writes what goes. False: the connection is gone. */
static bool conn_flush(struct stub_conn *c)
{
	while (c->sent < c->out.len) {
		long n = c->tls ? stub_tls_write(c, c->out.data + c->sent, c->out.len - c->sent)
		                : send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			event_add(c->writable, NULL);
			return true;
		}
		if (n <= 0) {
			conn_free(c);
			return false;
		}
		c->sent += (size_t)n;
	}
	c->out.len = c->sent = 0;
	if (c->closing || (c->upgrade && !stub_tls_begin(c->stub->tls, c))) {
		conn_free(c);
		return false;
	}
	c->upgrade = false;
	return true;
}

/* Reads what there is. */
static void conn_readable(evutil_socket_t fd, short what, void *arg)
{
	struct stub_conn *c = arg;
	char buf[65536];

	(void)what;
	for (;;) {
		bool greeted = !c->tls || c->accepted;
		long n = c->tls ? stub_tls_read(c, buf, sizeof(buf)) : recv(fd, buf, sizeof(buf), 0);

		if (!greeted && c->accepted && strcmp(c->scheme, "smtps") == 0) {
			strcpy(c->scheme, "smtp");
			stub_smtp_begin(c);
		}
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			conn_free(c);
			return;
		}
		bytes_add(&c->in, buf, (size_t)n);
		c->feed(c);
		if (c->upgrade)
			break;
	}
	conn_flush(c);
}

/* Goes on writing. */
static void conn_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	conn_flush(arg);
}

/* A new connection to a server of `scheme`; libcurl's end, or -1. */
static int conn_new(struct stub *s, const char *scheme)
{
	bool smtp = strncmp(scheme, "smtp", 4) == 0, tls = scheme[0] && scheme[strlen(scheme) - 1] == 's';
	struct stub_conn *c;
	int ends[2];

	if ((!smtp && strncmp(scheme, "http", 4) != 0) ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
		return -1;
	c = xcalloc(1, sizeof(*c));
	c->stub = s;
	c->fd = ends[1];
	c->feed = smtp ? stub_smtp_feed : stub_http_feed;
	snprintf(c->scheme, sizeof(c->scheme), "%s", scheme);
	c->readable = loop_event(s->base, c->fd, EV_READ | EV_PERSIST, conn_readable, c);
	c->writable = loop_event(s->base, c->fd, EV_WRITE, conn_writable, c);
	loop_add(c->readable, NULL);
	LIST_INSERT_HEAD(&s->conns, c, link);
	if (tls && !stub_tls_begin(s->tls, c)) {
		conn_free(c);
		close(ends[0]);
		return -1;
	}
	if (smtp && !tls) {
		stub_smtp_begin(c);
		event_add(c->writable, NULL);
	}
	return ends[0];
}

void stub_say(struct stub_conn *c, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	bytes_add(&c->out, text, strlen(text));
	free(text);
}

void stub_effect(struct stub_conn *c, cJSON *effect)
{
	c->stub->effect(c->stub->arg, effect);
}

const cJSON *stub_answer(const struct stub_conn *c, const char *key, const char *text)
{
	return answers_find(c->stub->answers, key, text);
}

/* ---- libcurl ---- */

/* libcurl wants to connect: by now it has read the URL. */
static curl_socket_t door_open(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct door *d = user;
	int type = address->socktype & ~(SOCK_CLOEXEC | SOCK_NONBLOCK); /* which libcurl 8 adds */
	char *url = NULL, scheme[8] = "";

	(void)purpose;
	curl_easy_getinfo(d->easy, CURLINFO_EFFECTIVE_URL, &url);
	if (type != SOCK_STREAM || !url)
		return CURL_SOCKET_BAD;
	for (size_t i = 0; i < sizeof(scheme) - 1 && url[i] && url[i] != ':'; i++)
		scheme[i] = (char)(url[i] | 0x20);
	return conn_new(d->stub, scheme);
}

/* It is connected already. libcurl 7.88 calls connect() all the same, which the sandbox lets succeed. */
static int door_is_open(void *user, curl_socket_t fd, curlsocktype purpose)
{
	(void)user, (void)fd, (void)purpose;
	return CURL_SOCKOPT_ALREADY_CONNECTED;
}

/* Diverts one handle, also when the plugin has set other addresses. */
static bool door_prepare(void *arg, CURL *easy)
{
	struct stub *s = arg;
	struct door *d = xcalloc(1, sizeof(*d));
	bool ok = true;

	*d = (struct door){ .stub = s, .easy = easy };
	LIST_INSERT_HEAD(&s->doors, d, link);
#define SET(opt, value) (ok = ok && curl_easy_setopt(easy, opt, value) == CURLE_OK)
	SET(CURLOPT_CONNECT_TO, s->here);
	SET(CURLOPT_OPENSOCKETFUNCTION, door_open);
	SET(CURLOPT_OPENSOCKETDATA, d);
	SET(CURLOPT_SOCKOPTFUNCTION, door_is_open);
	SET(CURLOPT_PREREQFUNCTION, NULL);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_UNIX_SOCKET_PATH, NULL);
	SET(CURLOPT_ABSTRACT_UNIX_SOCKET, NULL);
	SET(CURLOPT_INTERFACE, NULL);
	SET(CURLOPT_DOH_URL, NULL);
	SET(CURLOPT_SSL_VERIFYPEER, 0L);
	SET(CURLOPT_SSL_VERIFYHOST, 0L);
	SET(CURLOPT_PINNEDPUBLICKEY, NULL);
#undef SET
	return ok;
}

struct stub *stub_new(struct event_base *base, struct transfers *transfers, const cJSON *answers,
	void (*effect)(void *arg, cJSON *effect), void *arg)
{
	struct stub *s = xcalloc(1, sizeof(*s));

	s->base = base;
	s->transfers = transfers;
	s->answers = answers;
	s->effect = effect;
	s->arg = arg;
	s->here = curl_slist_append(NULL, "::127.0.0.1:");
	s->tls = stub_tls_new();
	if (!s->here)
		abort();
	LIST_INIT(&s->conns);
	LIST_INIT(&s->doors);
	transfer_divert(transfers, door_prepare, s);
	return s;
}

void stub_free(struct stub *s)
{
	struct stub_conn *c;
	struct door *d;

	while ((c = LIST_FIRST(&s->conns)) != NULL)
		conn_free(c);
	while ((d = LIST_FIRST(&s->doors)) != NULL) {
		LIST_REMOVE(d, link);
		free(d);
	}
	stub_tls_free(s->tls);
	curl_slist_free_all(s->here);
	free(s);
}
