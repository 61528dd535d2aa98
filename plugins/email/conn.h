/* conn.h: one SMTP connection: made and logged in by libcurl, then bytes that go and replies that come. */
#ifndef EMAIL_CONN_H
#define EMAIL_CONN_H

#include "reply.h"
#include "verdict.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <glib.h>

struct pgmqd_worker;

enum smtp_tls { SMTP_TLS_NONE = 0, SMTP_TLS_STARTTLS, SMTP_TLS_IMPLICIT };

/* A way to log in, as libcurl is told of it. */
struct conn_login {
	const char *mechanism; /* of SASL */
	bool initial;          /* the first answer goes along with the command */
	bool token;            /* an OAuth token takes the place of the password */
};

/* Where and how; must outlive the connections. Times in ms. */
struct smtp_settings {
	const char *host, *ehlo;
	unsigned port;
	enum smtp_tls tls;
	const char *ca_file;     /* NULL: the system's */
	const char *user, *pass; /* NULL: no login */
	const char *auth;        /* auto, or the name of a mechanism */
	unsigned connections, mails_per_connection;
	int64_t idle_timeout, connect_timeout, command_timeout, data_timeout;
};

/* The events of a connection; failed() and lost() are the last. */
struct conn_events {
	void (*open)(void *arg);                                         /* it stands, and the server has let us in */
	void (*failed)(void *arg, enum mail_class is, const char *text); /* it could not be made */
	void (*reply)(void *arg, const struct reply *r);
	void (*progress)(void *arg);                           /* some of the body has gone out */
	void (*sent)(void *arg);                               /* all of the body has */
	void (*lost)(void *arg, bool closed, const char *why); /* `closed`: by the other side */
	void (*timeout)(void *arg);                            /* conn_timer()'s time is up */
};

struct conn {
	const struct smtp_settings *settings;
	struct pgmqd_worker *worker;
	const struct conn_events *events;
	void *arg;
	bool open, closed;
	CURL *easy;
	char error[CURL_ERROR_SIZE];
	curl_socket_t fd;
	struct event *readable, *writable, *timer;
	struct reply_parser parser;

	/* From the connection phase. */
	const struct conn_login *login; /* NULL: none */
	bool pipelining, size_offered, authenticated, greeted;
	uint64_t size_limit;  /* 0: none told */
	char offered[256];    /* mechanisms, each between blanks */
	struct reply refusal; /* the last reply of 4xx or 5xx; code 0: none */
	bool login_refused;   /* why it failed: by the login, not by what came before */

	GString *out; /* commands; never touched while a part of it is unsent */
	size_t out_sent;
	const char *body;                  /* the mail that is being written; NULL: none */
	size_t body_len, body_sent, chunk; /* chunk: length of the write that must be repeated as it was; 0: none */
};

/* Starts connecting, and logs in by `login` (NULL: not at all) with `token`. NULL when libcurl does not even take the
 * handle. */
struct conn *conn_open(const struct smtp_settings *settings, struct pgmqd_worker *worker,
	const struct conn_login *login, const char *token, const struct conn_events *events, void *arg);
/* Has timeout() called after so long; 0: not any more. */
void conn_timer(struct conn *c, int64_t ms);
/* Whether everything that was to be written has been. */
bool conn_is_idle(const struct conn *c);
/* Writes commands, or what of them can be written now, on a connection that is idle. */
void conn_command(struct conn *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Writes the mail, which must stay as it is until sent(). */
void conn_body(struct conn *c, const char *data, size_t len);
/* Whether the server may have all of the body that is being written. */
bool conn_body_may_be_out(const struct conn *c);
/* Ends it, safely from inside its own events: nothing happens on it any more. */
void conn_close(struct conn *c);
/* Writes QUIT, and waits for nothing. */
void conn_farewell(struct conn *c);
/* Frees it; not from inside its own or libcurl's callbacks. */
void conn_free(struct conn *c);
/* Whether the server has offered a mechanism. */
bool conn_offers(const struct conn *c, const char *mechanism);

/* Connects and logs in once, waits for it, and hangs up. NULL, or why that failed (g_malloc'd), and what to do; *c
 * holds what was learnt. */
char *conn_try(struct conn *c, const struct smtp_settings *settings, const struct conn_login *login, const char *token,
	const char **remedy);

#endif
