/* smtp.h: sends mails over a pool of SMTP connections. One mail at a time on a connection, many after one another. */
#ifndef EMAIL_SMTP_H
#define EMAIL_SMTP_H

#include "verdict.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pgmqd_worker;
struct smtp_pool;
struct smtp_conn;

enum smtp_tls { SMTP_TLS_NONE = 0, SMTP_TLS_STARTTLS, SMTP_TLS_IMPLICIT };

/* Where and how; must outlive the pool. Times in ms. */
struct smtp_settings {
	const char *host, *ehlo;
	unsigned port;
	enum smtp_tls tls;
	const char *ca_file;     /* NULL: the system's */
	const char *user, *pass; /* NULL: no login */
	unsigned connections, mails_per_connection;
	int64_t idle_timeout, connect_timeout, command_timeout, data_timeout;
};

/* One mail on its way. The caller owns it and all it points to, and keeps it until `done` has run or smtp_cancel()
 * returned. */
struct smtp_mail {
	const char *from, *to; /* ASCII envelope addresses */
	const char *data;      /* after reply_stuff_dots() */
	size_t len;
	bool bulk; /* goes after every mail that is not */
	bool held; /* everything up to the answer to DATA, and no byte of the mail before smtp_release() */
	void (*done)(void *arg, const struct mail_result *result);
	void *arg;
	/* the pool's own */
	struct smtp_conn *conn; /* NULL while it waits */
	GList link;             /* in the queue of waiting mails */
	bool fresh_only;        /* it has had its retry: a connection that was used before will not do again */
};

struct smtp_pool *smtp_pool_new(const struct smtp_settings *settings, struct pgmqd_worker *worker);
/* Connects and logs in once, waits for it, and hangs up. NULL, or why that failed (g_malloc'd), and what to do. */
char *smtp_try(const struct smtp_settings *settings, const char **remedy);
/* Says QUIT on idle connections without waiting for the answer; no mail may be left in it. */
void smtp_pool_free(struct smtp_pool *pool);

/* `done` runs later, never from inside this call. */
void smtp_send(struct smtp_pool *pool, struct smtp_mail *mail);
/* Lets a held mail go on; `done` does not run from inside this call. */
void smtp_release(struct smtp_mail *mail);
/* Whether the server may have all of a mail whose `done` has not run. */
bool smtp_may_have_arrived(const struct smtp_mail *mail);
/* Lets go of a mail whose `done` has not run; its connection is dropped when the mail is in conversation. */
void smtp_cancel(struct smtp_pool *pool, struct smtp_mail *mail);

#endif
