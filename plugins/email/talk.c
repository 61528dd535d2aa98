/* talk.c: the SMTP conversation: what is said after which reply, and what that means for the mail.
 *
 * With PIPELINING, MAIL, RCPT and DATA go out in one write and three replies come back. A mail's outcome is told as
 * soon as it is known; replies that are still due are then read for the connection's sake alone (c->mail is NULL). */
#include "config.h"

#include "conn.h"
#include "pgmqd-plugin.h"

#include <string.h>

#define QUIT_MS 2000

/* Takes the mail off the connection. */
static struct smtp_mail *detach(struct smtp_conn *c)
{
	struct smtp_mail *mail = c->mail;

	c->mail = NULL;
	return mail;
}

/* Whether a connection that had been in use may just have been too old: then one more try costs the mail nothing. */
static bool may_try_again(const struct smtp_conn *c, const struct smtp_mail *mail)
{
	return c->mails > 1 && !mail->fresh_only;
}

/* Waits for the next mail. */
static void become_ready(struct smtp_conn *c)
{
	conn_enter(c, CONN_READY, smtp_pool_settings(c->pool)->idle_timeout);
	smtp_pool_kick(c->pool);
}

/* Clears a transaction that was refused. */
static void reset(struct smtp_conn *c)
{
	conn_enter(c, CONN_RSET, smtp_pool_settings(c->pool)->command_timeout);
	conn_command(c, "RSET\r\n");
}

void talk_quit(struct smtp_conn *c)
{
	conn_enter(c, CONN_QUIT, QUIT_MS);
	conn_command(c, "QUIT\r\n");
}

void talk_start(struct smtp_conn *c, struct smtp_mail *mail)
{
	int64_t ms = smtp_pool_settings(c->pool)->command_timeout;
	size_t size = mail->len - 3; /* without the final dot */
	char declared[32] = "";

	if (c->size_limit > 0 && size > c->size_limit) {
		char *text = g_strdup_printf(
			"the mail has %zu bytes, the mail server takes up to %" G_GUINT64_FORMAT, size, c->size_limit);

		smtp_pool_kick(c->pool);
		smtp_pool_finish(mail, MAIL_PERMANENT, text);
		return;
	}
	if (c->size_offered)
		g_snprintf(declared, sizeof(declared), " SIZE=%zu", size);
	c->mail = mail;
	mail->conn = c;
	c->mails++;
	c->body_sent = c->chunk = 0;
	c->recipient_taken = false;
	conn_enter(c, CONN_MAIL, ms);
	if (c->pipelining)
		conn_command(c, "MAIL FROM:<%s>%s\r\nRCPT TO:<%s>\r\nDATA\r\n", mail->from, declared, mail->to);
	else
		conn_command(c, "MAIL FROM:<%s>%s\r\n", mail->from, declared);
}

/* Ends the mail with what the server has said; the connection has gone on before. */
static void refused(
	struct smtp_pool *pool, bool again, struct smtp_mail *mail, enum smtp_stage stage, const struct reply *r)
{
	struct mail_result result = { .is = verdict_reply(stage, r->code, r->enhanced),
		.throttled = r->code == 421,
		.no_mailbox = verdict_no_mailbox(stage, r->code, r->enhanced) };
	char *said;

	if (again) {
		smtp_pool_again(pool, mail);
		return;
	}
	said = reply_describe(r, mail->to);
	result.text = g_strdup_printf(
		r->code >= 400 ? "the mail server refused %s: %s" : "the mail server answered out of turn to %s: %s",
		verdict_stage_name(stage), said);
	g_free(said);
	smtp_pool_end(mail, &result);
}

/* A reply to MAIL, RCPT or DATA that was not the one hoped for. `next`: the state in which replies are still due,
 * RSET when none is; DEAD when the connection has to go. */
static void refuse(struct smtp_conn *c, enum smtp_stage stage, const struct reply *r, enum conn_state next)
{
	struct smtp_mail *mail = detach(c);
	bool again = r->code == 421 && may_try_again(c, mail);

	/* The reply is the parser's, and stays until more bytes are fed to it. */
	if (next == CONN_DEAD)
		conn_drop(c);
	else if (next == CONN_RSET)
		reset(c);
	else
		conn_enter(c, next, smtp_pool_settings(c->pool)->command_timeout);
	refused(c->pool, again, mail, stage, r);
}

/* The answer to DATA: the mail's text may follow, or not. */
static void on_data(struct smtp_conn *c, const struct reply *r)
{
	const struct smtp_settings *s = smtp_pool_settings(c->pool);

	if (c->mail == NULL) {
		if (r->code != 354) {
			reset(c);
		} else if (c->recipient_taken) {
			/* A dot now would deliver an empty mail. */
			conn_drop(c);
		} else {
			conn_enter(c, CONN_EMPTY, s->data_timeout);
			conn_command(c, ".\r\n"); /* RFC 2920 3.1 */
		}
	} else if (r->code == 354) {
		/* Held, it has the time that the message has. */
		conn_enter(c, c->mail->held ? CONN_HELD : CONN_BODY, c->mail->held ? 0 : s->data_timeout);
		if (c->state == CONN_BODY)
			conn_flush(c);
	} else {
		refuse(c, STAGE_DATA, r, r->code >= 400 && r->code != 421 ? CONN_RSET : CONN_DEAD);
	}
}

void talk_release(struct smtp_conn *c)
{
	conn_enter(c, CONN_BODY, smtp_pool_settings(c->pool)->data_timeout);
	conn_flush(c);
}

/* Ends a mail that the server has taken over; most servers name it in their answer ("queued as 4XyZ12"). */
static void taken(struct smtp_mail *mail, const struct reply *r)
{
	struct mail_result result = { .is = MAIL_SENT, .text = reply_describe(r, mail->to) };
	const char *name = strstr(result.text, "queued as ");

	if (name != NULL) {
		name += strlen("queued as ");
		result.id = g_strndup(name, strcspn(name, " ,;"));
	}
	smtp_pool_end(mail, &result);
}

/* The answer to the final dot. */
static void on_dot(struct smtp_conn *c, const struct reply *r)
{
	enum mail_class is = verdict_reply(STAGE_DOT, r->code, r->enhanced);
	struct smtp_mail *mail = detach(c);
	bool again = r->code == 421 && may_try_again(c, mail);

	/* Taken or refused, the transaction is over (RFC 5321 4.1.1.4). */
	if (is == MAIL_UNKNOWN || r->code == 421)
		conn_drop(c);
	else
		become_ready(c);
	if (is == MAIL_SENT)
		taken(mail, r);
	else
		refused(c->pool, again, mail, STAGE_DOT, r);
}

void talk_reply(struct smtp_conn *c, const struct reply *r)
{
	int64_t ms = smtp_pool_settings(c->pool)->command_timeout;
	bool good = r->code < 300;
	/* The server is going away, or 3xx, which answers none of these: no use to go on. */
	bool closing = r->code == 421 || (r->code >= 300 && r->code < 400);

	switch (c->state) {
	case CONN_MAIL:
		if (!good) {
			refuse(c, STAGE_MAIL, r, closing ? CONN_DEAD : c->pipelining ? CONN_RCPT : CONN_RSET);
			return;
		}
		conn_enter(c, CONN_RCPT, ms);
		if (!c->pipelining)
			conn_command(c, "RCPT TO:<%s>\r\n", c->mail->to);
		return;
	case CONN_RCPT:
		if (c->mail == NULL) {
			c->recipient_taken = good;
			conn_enter(c, CONN_DATA, ms);
			return;
		}
		if (!good) {
			refuse(c, STAGE_RCPT, r, closing ? CONN_DEAD : c->pipelining ? CONN_DATA : CONN_RSET);
			return;
		}
		conn_enter(c, CONN_DATA, ms);
		if (!c->pipelining)
			conn_command(c, "DATA\r\n");
		return;
	case CONN_DATA:
		on_data(c, r);
		return;
	case CONN_HELD:
	case CONN_BODY:
		/* The server has had enough before the end; without the final dot it must not keep what it has. */
		refuse(c, STAGE_DATA, r, CONN_DEAD);
		return;
	case CONN_DOT:
		on_dot(c, r);
		return;
	case CONN_EMPTY:
		reset(c);
		return;
	case CONN_RSET:
		if (good)
			become_ready(c);
		else
			conn_drop(c);
		return;
	case CONN_CONNECTING:
	case CONN_READY: /* nobody has asked: 421, the server is going away */
	case CONN_QUIT:
	case CONN_DEAD:
		conn_drop(c);
		return;
	}
}

void talk_body_sent(struct smtp_conn *c)
{
	conn_enter(c, CONN_DOT, smtp_pool_settings(c->pool)->data_timeout);
}

void talk_lost(struct smtp_conn *c, bool closed, const char *why)
{
	enum conn_state state = c->state;
	struct smtp_mail *mail = detach(c);
	const struct smtp_settings *s = smtp_pool_settings(c->pool);
	const char *during = state == CONN_MAIL   ? "before the sender was answered"
	                     : state == CONN_RCPT ? "before the recipient was answered"
	                     : state == CONN_DATA ? "before DATA was answered"
	                                          : "while the mail was being written";

	conn_drop(c);
	if (mail == NULL)
		return;
	if (state == CONN_DOT)
		smtp_pool_finish(mail, MAIL_UNKNOWN,
			g_strdup_printf(
				"mail server %s:%u: %s after the whole mail was sent: it may have arrived or not",
				s->host, s->port, why));
	else if (closed && may_try_again(c, mail))
		smtp_pool_again(c->pool, mail);
	else
		smtp_pool_finish(mail, MAIL_TRANSIENT,
			g_strdup_printf("mail server %s:%u: %s %s", s->host, s->port, why, during));
}

void talk_timeout(struct smtp_conn *c)
{
	const struct smtp_settings *s = smtp_pool_settings(c->pool);
	int64_t ms = c->state == CONN_BODY || c->state == CONN_DOT ? s->data_timeout : s->command_timeout;
	char *why;

	if (c->state == CONN_READY) {
		talk_quit(c);
		return;
	}
	why = g_strdup_printf("no sign of life for %g s", (double)ms / 1000);
	talk_lost(c, false, why);
	g_free(why);
}
