/* conn.h: one SMTP connection of the pool: made by libcurl, then talked over by us. For smtp.c, conn.c and talk.c
 * only. */
#ifndef EMAIL_CONN_H
#define EMAIL_CONN_H

#include "reply.h"
#include "smtp.h"

#include <curl/curl.h>
#include <event2/event.h>

/* What the connection waits for. READY alone can take a mail. */
enum conn_state {
	CONN_CONNECTING = 0, /* libcurl: name, TCP, TLS, EHLO, login */
	CONN_READY,
	CONN_MAIL,  /* the answer to MAIL, */
	CONN_RCPT,  /* to RCPT, */
	CONN_DATA,  /* to DATA */
	CONN_HELD,  /* the server waits for the mail's bytes, which wait for smtp_release() */
	CONN_BODY,  /* the mail's bytes are being written */
	CONN_DOT,   /* the answer to the final dot */
	CONN_EMPTY, /* the same, for a mail that was refused after DATA had been sent ahead */
	CONN_RSET,
	CONN_QUIT,
	CONN_DEAD /* freed by the pool at its next turn */
};

struct smtp_conn {
	struct smtp_pool *pool;
	GList link; /* in the pool's list */
	enum conn_state state;
	CURL *easy;
	char error[CURL_ERROR_SIZE];
	curl_socket_t fd;
	struct event *readable, *writable, *timer;
	struct reply_parser parser;

	/* From the connection phase. */
	bool pipelining, size_offered, authenticated;
	uint64_t size_limit;  /* 0: none told */
	struct reply refusal; /* the last reply of 4xx or 5xx; code 0: none */

	/* The conversation. */
	struct smtp_mail *mail; /* NULL once its outcome is known, though replies may still be due */
	unsigned mails;         /* begun on this connection */
	bool recipient_taken;   /* RCPT was answered 2xx after MAIL had been refused */
	GString *out;           /* commands; never touched while a part of it is unsent */
	size_t out_sent;
	size_t body_sent, chunk; /* chunk: length of the write that must be repeated as it was; 0: none */
};

/* conn.c: making and ending a connection, and its bytes. */

/* Starts connecting. NULL when libcurl does not even take the handle. */
struct smtp_conn *conn_open(struct smtp_pool *pool);
/* Enters a state and gives it so long; 0: as long as it takes. */
void conn_enter(struct smtp_conn *c, enum conn_state state, int64_t ms);
/* Writes commands, or what of them can be written now. Everything before must have been sent. May lose the
 * connection. */
void conn_command(struct smtp_conn *c, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/* Goes on writing commands and, in BODY, the mail. */
void conn_flush(struct smtp_conn *c);
/* Drops it at once; safe from any callback. The mail, if there is one, is forgotten. */
void conn_drop(struct smtp_conn *c);
/* Writes QUIT if nothing is under way, and waits for nothing. */
void conn_farewell(struct smtp_conn *c);
/* Frees a DEAD connection; not from inside its own or libcurl's callbacks. */
void conn_free(struct smtp_conn *c);

/* For email_check(): connects and logs in, waits for it, and hangs up. NULL, or why that failed (g_malloc'd), and what
 * to do. Of the pool only its settings are used. */
char *conn_try(struct smtp_pool *pool, const char **remedy);

/* talk.c: the conversation. Each of these may end the mail, and does so as its last act. */

/* Starts a mail on a READY connection. */
void talk_start(struct smtp_conn *c, struct smtp_mail *mail);
/* The mail on a HELD connection may go on. */
void talk_release(struct smtp_conn *c);
/* Says QUIT on a READY connection and waits for the answer for a short while. */
void talk_quit(struct smtp_conn *c);
/* A reply has come. */
void talk_reply(struct smtp_conn *c, const struct reply *r);
/* All of the mail is on its way. */
void talk_body_sent(struct smtp_conn *c);
/* The connection is of no use any more; `closed`: by the other side. */
void talk_lost(struct smtp_conn *c, bool closed, const char *why);
/* The state's time is up. */
void talk_timeout(struct smtp_conn *c);

/* The pool's side, for conn.c. */
struct event_base *smtp_pool_base(const struct smtp_pool *pool);
struct pgmqd_worker *smtp_pool_worker(const struct smtp_pool *pool);
const struct smtp_settings *smtp_pool_settings(const struct smtp_pool *pool);
/* Has the pool look at its connections and mails soon. */
void smtp_pool_kick(struct smtp_pool *pool);
/* A connection has been made. */
void smtp_pool_connected(struct smtp_pool *pool);
/* A connection that was being made has failed (NULL: could not even be begun); `is` and `text` say how. */
void smtp_pool_connect_failed(struct smtp_pool *pool, struct smtp_conn *c, enum mail_class is, const char *text);
/* A mail's end. Takes `text`. The connection must have let go of it. */
void smtp_pool_finish(struct smtp_mail *mail, enum mail_class is, char *text);
/* The same with all that is known; takes the texts. */
void smtp_pool_end(struct smtp_mail *mail, struct mail_result *result);
/* Puts a mail back at the head of the queue for a new connection. */
void smtp_pool_again(struct smtp_pool *pool, struct smtp_mail *mail);

#endif
