/* smtp.h: sends mails over a pool of SMTP connections. One mail at a time on a connection, many after one another. */
#ifndef EMAIL_SMTP_H
#define EMAIL_SMTP_H

#include "talk.h"

struct pgmqd_worker;
struct smtp_pool;
struct token;

/* `token` (NULL: none) stays the caller's. */
struct smtp_pool *smtp_pool_new(const struct smtp_settings *settings, struct token *token, struct pgmqd_worker *worker);
/* Says QUIT on idle connections without waiting for the answer; no mail may be left in it. */
void smtp_pool_free(struct smtp_pool *pool);
/* Connects and logs in once, waits for it, and hangs up. NULL, or why that failed (g_malloc'd), and what to do. */
char *smtp_try(const struct smtp_settings *settings, struct token *token, const char **remedy);

/* `done` runs later, never from inside this call. */
void smtp_send(struct smtp_pool *pool, struct smtp_mail *mail);
/* Lets a held mail go on; `done` does not run from inside this call. */
void smtp_release(struct smtp_mail *mail);
/* Whether the server may have all of a mail whose `done` has not run. */
bool smtp_may_have_arrived(const struct smtp_mail *mail);
/* Lets go of a mail whose `done` has not run. A connection that has announced its recipients, and no more, stays. */
void smtp_cancel(struct smtp_pool *pool, struct smtp_mail *mail);

#endif
