/* conn.c: makes an SMTP connection by libcurl (name, TCP, TLS, EHLO, login), then reads and writes it without blocking.
 *
 * libcurl's own SMTP upload waits for the answer to the final dot in a loop of its own, and so would every other
 * message of this worker. Hence CURLOPT_CONNECT_ONLY: libcurl connects, and talk.c holds the conversation. */
#include "config.h"

#include "conn.h"
#include "pgmqd-plugin.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536
#define CHUNKS_PER_TURN 16 /* then other connections have their turn */
#define TRY_MAX_MS 30000
#define CONNECT_GRACE_MS 2000 /* libcurl ends the connecting phase itself; this timer is for when it does not */

void conn_timer(struct conn *c, int64_t ms)
{
	struct timeval tv = { .tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	if (ms > 0)
		event_add(c->timer, &tv);
	else
		event_del(c->timer);
}

void conn_close(struct conn *c)
{
	c->closed = true;
	c->body = NULL;
	event_del(c->timer);
	if (c->readable != NULL) {
		event_del(c->readable);
		event_del(c->writable);
	}
}

void conn_free(struct conn *c)
{
	if (c->readable != NULL)
		event_free(c->readable);
	if (c->writable != NULL)
		event_free(c->writable);
	event_free(c->timer);
	c->readable = c->writable = c->timer = NULL;
	if (c->fd != CURL_SOCKET_BAD)
		shutdown(c->fd, SHUT_RDWR);
	c->fd = CURL_SOCKET_BAD;
	pgmqd_curl_remove(c->worker, c->easy);
	curl_easy_cleanup(c->easy);
	g_string_free(c->out, TRUE);
	g_free(c);
}

void conn_farewell(struct conn *c)
{
	size_t n;

	curl_easy_send(c->easy, "QUIT\r\n", 6, &n);
}

/* Closes it, and tells its owner. */
static void lose(struct conn *c, bool closed, const char *why)
{
	conn_close(c);
	c->events->lost(c->arg, closed, why);
}

/* Writes as much of the mail as goes; a write that did not go must be repeated with the same bytes (TLS insists). */
static CURLcode write_body(struct conn *c)
{
	for (int turn = 0; turn < CHUNKS_PER_TURN && c->body_sent < c->body_len; turn++) {
		CURLcode rc;
		size_t n = 0;

		if (c->chunk == 0)
			c->chunk = MIN(c->body_len - c->body_sent, CHUNK);
		rc = curl_easy_send(c->easy, c->body + c->body_sent, c->chunk, &n);
		if (rc != CURLE_OK)
			return rc;
		c->body_sent += n;
		c->chunk = 0;
	}
	return CURLE_OK;
}

/* Goes on writing commands, then the mail. */
static void flush(struct conn *c)
{
	CURLcode rc = CURLE_OK;

	while (rc == CURLE_OK && c->out_sent < c->out->len) {
		size_t n = 0;

		rc = curl_easy_send(c->easy, c->out->str + c->out_sent, c->out->len - c->out_sent, &n);
		if (rc == CURLE_OK)
			c->out_sent += n;
	}
	if (rc == CURLE_OK && c->body != NULL) {
		size_t before = c->body_sent;

		rc = write_body(c);
		if (c->body_sent > before)
			c->events->progress(c->arg);
	}
	if (rc != CURLE_OK && rc != CURLE_AGAIN) {
		/* A server that hangs up on us often says why first: reading finds that, or the end. */
		event_del(c->writable);
		event_active(c->readable, EV_READ, 1);
		return;
	}
	if (c->out_sent < c->out->len || (c->body != NULL && c->body_sent < c->body_len)) {
		event_add(c->writable, NULL);
		return;
	}
	event_del(c->writable);
	if (c->body != NULL) {
		c->body = NULL;
		c->events->sent(c->arg);
	}
}

void conn_body(struct conn *c, const char *data, size_t len)
{
	c->body = data;
	c->body_len = len;
	c->body_sent = c->chunk = 0;
	flush(c);
}

bool conn_body_may_be_out(const struct conn *c)
{
	return c->body != NULL && c->body_sent + c->chunk >= c->body_len;
}

bool conn_is_idle(const struct conn *c)
{
	return c->out_sent == c->out->len && c->body == NULL;
}

void conn_command(struct conn *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	g_string_vprintf(c->out, fmt, ap);
	va_end(ap);
	c->out_sent = 0;
	flush(c);
}

/* The socket takes bytes again. */
static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	flush(arg);
}

/* Hands complete replies on. */
static void take_bytes(struct conn *c, const char *data, size_t len)
{
	while (len > 0 && !c->closed) {
		size_t used = 0;

		switch (reply_feed(&c->parser, data, len, &used)) {
		case REPLY_MORE:
			break;
		case REPLY_COMPLETE:
			/* An answer to what has not been asked in full: the two sides are out of step. */
			if (c->out_sent < c->out->len)
				lose(c, false, "the server answered out of turn");
			else
				c->events->reply(c->arg, &c->parser.reply);
			break;
		case REPLY_BROKEN:
			lose(c, false, "the server's answer is not SMTP");
			return;
		}
		data += used;
		len -= used;
	}
}

/* Reads until there is nothing left: what TLS has decrypted already no longer shows on the socket. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	char buf[16384];

	(void)fd;
	(void)what;
	while (!c->closed) {
		size_t n = 0;
		CURLcode rc = curl_easy_recv(c->easy, buf, sizeof(buf), &n);

		if (rc == CURLE_AGAIN)
			return;
		if (rc != CURLE_OK || n == 0) {
			lose(c, true,
				n == 0 && rc == CURLE_OK ? "the server closed the connection" : "the connection broke");
			return;
		}
		take_bytes(c, buf, n);
	}
}

/* The connection could not be made. */
static void fail(struct conn *c, enum mail_class is, const char *text)
{
	conn_close(c);
	c->events->failed(c->arg, is, text);
}

/* The time is up, of connecting or of what the owner waits for. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	char *text;

	(void)fd;
	(void)what;
	if (c->open) {
		c->events->timeout(c->arg);
		return;
	}
	text = g_strdup_printf("mail server %s:%u: no connection within %g s", c->settings->host, c->settings->port,
		(double)c->settings->connect_timeout / 1000);
	fail(c, MAIL_UNREACHED, text);
	g_free(text);
}

/* libcurl closes the socket; it must not stay registered, since its number may soon be another connection's. */
static int on_close_socket(void *arg, curl_socket_t fd)
{
	struct conn *c = arg;

	if (fd == c->fd) {
		c->fd = CURL_SOCKET_BAD;
		if (c->readable != NULL) {
			/* Not at our request: the next turn of the loop finds out by reading. */
			event_del(c->readable);
			event_del(c->writable);
			event_active(c->readable, EV_READ, 1);
		}
	}
	return close(fd);
}

/* Puts a keyword of EHLO's answer in capitals. Its case means nothing (RFC 5321 2.4), but libcurl, whose own buffer
 * this is, knows STARTTLS, AUTH and the mechanisms in capitals only. */
static void capitalise(char *line, size_t len)
{
	static const char *const words[] = { "STARTTLS", "AUTH" };

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
		if (len > 4 + strlen(words[i]) && g_ascii_strncasecmp(line + 4, words[i], strlen(words[i])) == 0)
			for (size_t k = 4; k < len; k++)
				line[k] = g_ascii_toupper(line[k]);
}

/* Every reply line of the connecting phase comes by here, of both EHLOs. */
static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct conn *c = arg;
	struct reply r;
	char *word = r.text;

	if (!reply_from_line(&r, line, size * n))
		return size * n;
	c->greeted = true;
	if (r.code == 220) {
		/* A greeting, or STARTTLS granted: what was offered before in the clear counts no more (RFC 3207
		 * 4.2). */
		c->pipelining = c->size_offered = false;
		c->size_limit = 0;
		c->offered[0] = '\0';
	} else if (r.code == 235) {
		c->authenticated = true;
	} else if (r.code == 250) {
		capitalise(line, size * n);
		c->pipelining |= g_ascii_strcasecmp(word, "PIPELINING") == 0;
		if (g_ascii_strncasecmp(word, "AUTH", 4) == 0 && (word[4] == ' ' || word[4] == '='))
			g_snprintf(c->offered, sizeof(c->offered), " %s ", word + 5);
		if (g_ascii_strncasecmp(word, "SIZE", 4) == 0 && (word[4] == '\0' || word[4] == ' ')) {
			c->size_offered = true;
			c->size_limit = g_ascii_strtoull(word + 4, NULL, 10);
		}
	} else if (r.code >= 400) {
		c->refusal = r;
	}
	return size * n;
}

/* The server offers no login, or none that the settings allow. g_malloc'd. */
static char *describe_no_login(const struct conn *c)
{
	bool wants_token = conn_offers(c, "XOAUTH2") || conn_offers(c, "OAUTHBEARER");
	char *offered = g_strchomp(g_strdup(c->offered)), *text;

	text = g_strdup_printf("mail server %s:%u offers no login (AUTH%s%s) that can be used, but smtp_user is set: "
			       "check smtp_auth, smtp_port and smtp_tls%s",
		c->settings->host, c->settings->port, offered[0] != '\0' ? ":" : "", offered,
		wants_token && !c->login->token ? "; it takes OAuth tokens: smtp_token_file or smtp_token_command"
						: "");
	g_free(offered);
	return text;
}

/* Says in one line why there is no connection, and what to do about it where that is known. g_malloc'd. */
static char *describe_failure(const struct conn *c, CURLcode code)
{
	const struct smtp_settings *s = c->settings;
	char *reply = reply_describe(&c->refusal, NULL), *text;
	char *error = reply_redact(c->error[0] != '\0' ? c->error : curl_easy_strerror(code), NULL);
	const char *detail = c->refusal.code != 0 ? reply : error;
	curl_off_t connected = 0;

	switch (code) {
	case CURLE_LOGIN_DENIED:
		if (c->login != NULL && c->refusal.code == 0 && !conn_offers(c, c->login->mechanism))
			text = describe_no_login(c);
		else if (c->login != NULL && c->login->token)
			text = g_strdup_printf(
				"mail server %s:%u refused the OAuth token (%s): it may have expired; check "
				"smtp_token_file or smtp_token_command",
				s->host, s->port, detail);
		else
			text = g_strdup_printf(
				"mail server %s:%u refused the login (%s): check smtp_user and smtp_pass", s->host,
				s->port, detail);
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
		text = g_strdup_printf(
			"mail server %s:%u: its certificate does not verify (%s): check smtp_host, or set smtp_ca_file",
			s->host, s->port, error);
		break;
	case CURLE_USE_SSL_FAILED:
		text = g_strdup_printf(
			"mail server %s:%u gives no TLS (%s): it should offer STARTTLS; check smtp_port and smtp_tls",
			s->host, s->port, detail);
		break;
	case CURLE_SSL_CONNECT_ERROR:
		text = g_strdup_printf("mail server %s:%u: TLS does not come about (%s): check smtp_port and smtp_tls",
			s->host, s->port, error);
		break;
	case CURLE_SSL_CACERT_BADFILE:
		text = g_strdup_printf("smtp_ca_file cannot be used (%s)", error);
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
		text = g_strdup_printf(
			"mail server %s:%u: there is no such host, or no name service (%s)", s->host, s->port, error);
		break;
	case CURLE_OPERATION_TIMEDOUT:
		curl_easy_getinfo(c->easy, CURLINFO_CONNECT_TIME_T, &connected);
		if (connected > 0 && !c->greeted && s->tls != SMTP_TLS_IMPLICIT) {
			text = g_strdup_printf("mail server %s:%u: no greeting (%s): if the port is for TLS from the "
					       "first byte, as 465 is, set smtp_tls = tls",
				s->host, s->port, detail);
			break;
		}
		/* fall through */
	default:
		text = g_strdup_printf("mail server %s:%u: no connection (%s)", s->host, s->port, detail);
	}
	g_free(reply);
	g_free(error);
	return text;
}

/* Takes the socket over from libcurl; false when there is none. */
static bool take_socket(struct conn *c)
{
	struct event_base *base = pgmqd_event_base(c->worker);

	if (curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &c->fd) != CURLE_OK || c->fd == CURL_SOCKET_BAD)
		return false;
	c->readable = event_new(base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	c->writable = event_new(base, c->fd, EV_WRITE, on_writable, c);
	if (c->readable == NULL || c->writable == NULL)
		g_error("event_new: out of memory");
	return event_add(c->readable, NULL) == 0;
}

bool conn_offers(const struct conn *c, const char *mechanism)
{
	char *word = g_strdup_printf(" %s ", mechanism);
	bool found = strcasestr(c->offered, word) != NULL;

	g_free(word);
	return found;
}

/* The result of connecting and logging in: NULL, or why the connection cannot be used (g_malloc'd). */
static char *check_connection(struct conn *c, CURLcode code, enum mail_class *is)
{
	long os_errno = 0;

	*is = MAIL_CONFIG;
	c->login_refused = c->login != NULL && (code == CURLE_OK || code == CURLE_LOGIN_DENIED) && !c->authenticated;
	if (code != CURLE_OK) {
		curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_errno);
		*is = verdict_connect((int)code, c->refusal.code, os_errno, c->error);
		return describe_failure(c, code);
	}
	/* libcurl goes on without a login when it finds none to its taste. */
	if (c->login_refused)
		return describe_no_login(c);
	return NULL;
}

/* libcurl is done: the connection stands, or it does not. */
static void on_connected(void *arg, int curl_code)
{
	struct conn *c = arg;
	enum mail_class is;
	char *text;

	if (c->closed)
		return;
	text = check_connection(c, (CURLcode)curl_code, &is);
	if (text == NULL && !take_socket(c)) {
		is = MAIL_UNREACHED;
		text = g_strdup_printf("mail server %s:%u: the connection went away as soon as it was made",
			c->settings->host, c->settings->port);
	}
	if (text != NULL) {
		fail(c, is, text);
		g_free(text);
		return;
	}
	c->open = true;
	conn_timer(c, 0);
	c->events->open(c->arg);
}

/* Sets the handle up; CURLE_OK when libcurl has taken every option. */
static CURLcode set_options(struct conn *c, const char *token)
{
	const struct smtp_settings *s = c->settings;
	CURL *e = c->easy;
	CURLcode rc = CURLE_OK;
	char *url = g_strdup_printf(strchr(s->host, ':') != NULL ? "%s://[%s]:%u/%s" : "%s://%s:%u/%s",
		s->tls == SMTP_TLS_IMPLICIT ? "smtps" : "smtp", s->host, s->port, s->ehlo);

#define SET(option, value)                                                                                             \
	do {                                                                                                           \
		if (rc == CURLE_OK)                                                                                    \
			rc = curl_easy_setopt(e, option, value);                                                       \
	} while (0)
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
	SET(CURLOPT_CONNECT_ONLY, 1L);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_PROXY, ""); /* else one in the environment would be used */
	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L); /* a look-up that hangs must not hold up the removal of its handle */
#endif
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)s->connect_timeout);
	SET(CURLOPT_ERRORBUFFER, c->error);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, c);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, c);
	SET(CURLOPT_USE_SSL, (long)(s->tls == SMTP_TLS_NONE ? CURLUSESSL_NONE : CURLUSESSL_ALL));
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (s->ca_file != NULL)
		SET(CURLOPT_CAINFO, s->ca_file);
	if (c->login != NULL) {
		char *options = g_strdup_printf("AUTH=%s", c->login->mechanism);

		SET(CURLOPT_USERNAME, s->user);
		if (c->login->token)
			SET(CURLOPT_XOAUTH2_BEARER, token);
		else
			SET(CURLOPT_PASSWORD, s->pass);
		SET(CURLOPT_LOGIN_OPTIONS, options);
		SET(CURLOPT_SASL_IR, (long)c->login->initial);
		g_free(options);
	}
#undef SET
	g_free(url);
	return rc;
}

struct conn *conn_open(const struct smtp_settings *settings, struct pgmqd_worker *worker,
	const struct conn_login *login, const char *token, const struct conn_events *events, void *arg)
{
	struct conn *c = g_new0(struct conn, 1);

	c->settings = settings;
	c->worker = worker;
	c->login = login;
	c->events = events;
	c->arg = arg;
	c->fd = CURL_SOCKET_BAD;
	c->out = g_string_new(NULL);
	c->timer = event_new(pgmqd_event_base(worker), -1, 0, on_timer, c);
	c->easy = curl_easy_init();
	if (c->timer == NULL || c->easy == NULL)
		g_error("curl_easy_init: out of memory");
	conn_timer(c, settings->connect_timeout + CONNECT_GRACE_MS);
	if (set_options(c, token) == CURLE_OK && pgmqd_curl_add(worker, c->easy, on_connected, c) == 0)
		return c;
	event_free(c->timer);
	curl_easy_cleanup(c->easy);
	g_string_free(c->out, TRUE);
	g_free(c);
	return NULL;
}

/* The next step after a connection failed so. */
static const char *remedy_for(CURLcode code)
{
	switch (code) {
	case CURLE_LOGIN_DENIED:
		return "set smtp_user and smtp_pass (SMTP_USER, SMTP_PASS) to a login that the mail server takes, then "
		       "reload pgmqd";
	case CURLE_PEER_FAILED_VERIFICATION:
		return "set smtp_host to a name in the server's certificate, or smtp_ca_file to the authority that "
		       "signed it";
	case CURLE_USE_SSL_FAILED:
	case CURLE_SSL_CONNECT_ERROR:
		return "set smtp_port = 587 with smtp_tls = starttls, or smtp_port = 465 with smtp_tls = tls, as the "
		       "mail server has it";
	case CURLE_SSL_CACERT_BADFILE:
		return "set smtp_ca_file to a readable PEM file, or take it out for the system's authorities";
	default:
		return "start the mail server, or set smtp_host and smtp_port (SMTP_HOST, SMTP_PORT) to one that can "
		       "be reached from here";
	}
}

char *conn_try(struct conn *c, const struct smtp_settings *settings, const struct conn_login *login, const char *token,
	const char **remedy)
{
	enum mail_class is;
	CURLcode code;
	char *text;

	memset(c, 0, sizeof(*c));
	c->settings = settings;
	c->login = login;
	c->fd = CURL_SOCKET_BAD;
	c->easy = curl_easy_init();
	code = c->easy != NULL ? set_options(c, token) : CURLE_OUT_OF_MEMORY;
	if (code == CURLE_OK)
		code = curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)MIN(settings->connect_timeout, TRY_MAX_MS));
	if (code == CURLE_OK)
		code = curl_easy_perform(c->easy);
	text = check_connection(c, code, &is);
	if (text != NULL)
		*remedy = remedy_for(c->login_refused ? CURLE_LOGIN_DENIED : code);
	curl_easy_cleanup(c->easy);
	return text;
}
