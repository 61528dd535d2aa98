/* talk.c: the SMTP conversation: what is said after which reply, and what that means for the mail.
 *
 * With PIPELINING, MAIL, RCPT and DATA go out without waiting for answers. A mail's outcome is told as soon as it is
 * known; replies that are still due are then read for the connection's sake alone (t->mail is NULL). */
#include "config.h"

#include "talk.h"

#include "pgmqd-plugin.h"

#include <string.h>

#define QUIT_MS 2000

/* Enters a state and gives it so long; 0: as long as it takes. */
static void enter(struct talk *t, enum talk_state state, int64_t ms)
{
	t->state = state;
	conn_timer(t->conn, ms);
}

/* The time that a server has for an answer. */
static int64_t command_ms(const struct talk *t)
{
	return t->conn->settings->command_timeout;
}

/* The same for the mail itself. */
static int64_t data_ms(const struct talk *t)
{
	return t->conn->settings->data_timeout;
}

/* Takes the mail off the conversation. */
static struct smtp_mail *detach(struct talk *t)
{
	struct smtp_mail *mail = t->mail;

	if (mail != NULL)
		mail->talk = NULL;
	t->mail = NULL;
	return mail;
}

/* Ends the connection at once. */
static void drop(struct talk *t)
{
	if (t->state == TALK_DEAD)
		return;
	detach(t);
	conn_close(t->conn);
	t->state = TALK_DEAD;
	t->events->look(t->arg);
}

/* Whether the connection, which had been in use, may just have been too old: then one more try costs the mail nothing.
 */
static bool may_try_again(const struct talk *t, const struct smtp_mail *mail)
{
	return t->mails > 1 && !mail->fresh_only;
}

void talk_end(struct smtp_mail *mail, struct mail_result *result)
{
	mail->talk = NULL;
	mail->done(mail->arg, result);
	g_free(result->text);
	g_free(result->id);
}

/* Ends a mail. Takes `text`. */
static void finish(struct smtp_mail *mail, enum mail_class is, char *text)
{
	struct mail_result result = { .is = is, .text = text };

	talk_end(mail, &result);
}

/* Waits for the next mail. */
static void become_ready(struct talk *t)
{
	enter(t, TALK_READY, t->conn->settings->idle_timeout);
	t->events->look(t->arg);
}

void talk_quit(struct talk *t)
{
	enter(t, TALK_QUIT, QUIT_MS);
	conn_command(t->conn, "QUIT\r\n");
}

/* Clears a transaction that came to nothing, or the connection, if it is of no use any more. */
static void clear(struct talk *t)
{
	if (t->spent) {
		talk_quit(t);
		return;
	}
	enter(t, TALK_RSET, command_ms(t));
	conn_command(t->conn, "RSET\r\n");
}

void talk_start(struct talk *t, struct smtp_mail *mail)
{
	size_t size = mail->len - 3; /* without the final dot */
	struct conn *c = t->conn;
	GString *words;

	if (c->size_limit > 0 && size > c->size_limit) {
		char *text = g_strdup_printf(
			"the mail has %zu bytes, the mail server takes up to %" G_GUINT64_FORMAT, size, c->size_limit);

		t->events->look(t->arg);
		finish(mail, MAIL_PERMANENT, text);
		return;
	}
	t->mail = mail;
	mail->talk = t;
	t->mails++;
	t->taken = t->refusal.code = 0;
	t->recipient_taken = t->refused_for_now = false;
	t->rcpt_due = g_strv_length((char **)mail->to);
	/* DATA goes ahead only for a mail that nothing can stop any more, and that has one recipient: no other way
	 * leads out of DATA than the mail, or the end of the connection. */
	t->data_ahead = c->pipelining && !mail->held && t->rcpt_due == 1;
	words = g_string_new(NULL);
	g_string_printf(words, "MAIL FROM:<%s>", mail->from);
	if (c->size_offered)
		g_string_append_printf(words, " SIZE=%zu", size);
	g_string_append(words, "\r\n");
	for (const char *const *to = mail->to; c->pipelining && *to != NULL; to++)
		g_string_append_printf(words, "RCPT TO:<%s>\r\n", *to);
	if (t->data_ahead)
		g_string_append(words, "DATA\r\n");
	enter(t, TALK_MAIL, command_ms(t));
	conn_command(c, "%s", words->str);
	g_string_free(words, TRUE);
}

/* Says DATA. */
static void say_data(struct talk *t)
{
	enter(t, TALK_DATA, command_ms(t));
	conn_command(t->conn, "DATA\r\n");
}

void talk_release(struct talk *t)
{
	if (t->state == TALK_HELD) {
		say_data(t);
	} else if (t->conn->pipelining && !t->data_ahead && t->rcpt_due == 1 && conn_is_idle(t->conn) &&
		   (t->state == TALK_MAIL || t->state == TALK_RCPT) && t->mail->to[1] == NULL) {
		t->data_ahead = true;
		conn_command(t->conn, "DATA\r\n");
	}
}

void talk_recall(struct talk *t)
{
	bool early = (t->state == TALK_MAIL || t->state == TALK_RCPT) && !t->data_ahead;

	if (t->state == TALK_HELD) {
		detach(t);
		clear(t);
	} else if (early) {
		detach(t);
	} else {
		drop(t);
	}
}

bool talk_may_have_arrived(const struct talk *t)
{
	return t->state == TALK_DOT || (t->state == TALK_BODY && conn_body_may_be_out(t->conn));
}

/* Goes on after a refusal: reads the replies that are still due in `next`, or clears the transaction (RSET), or ends
 * the connection (DEAD). */
static void go_on(struct talk *t, enum talk_state next)
{
	if (next == TALK_DEAD)
		drop(t);
	else if (next == TALK_RSET)
		clear(t);
	else
		enter(t, next, command_ms(t));
}

/* A reply that was not the one hoped for ends the mail; the conversation goes on with `next`. */
static void refuse(struct talk *t, enum smtp_stage stage, const struct reply *reply, enum talk_state next)
{
	struct smtp_mail *mail = detach(t);
	struct reply r = *reply; /* the parser's own goes with the next bytes */
	struct mail_result result = { .is = verdict_reply(stage, r.code, r.enhanced, r.text),
		.of_recipient = verdict_of_recipient(stage, r.code),
		.of_sender = verdict_of_sender(stage, r.code, r.enhanced) };
	/* A server that takes so many mails on a connection says so in many ways: at MAIL with any 4xx, elsewhere in
	 * words. */
	bool worn = (r.code == 421 || (stage == STAGE_MAIL && r.code / 100 == 4) ||
			    verdict_of_connection(r.code, r.text)) &&
	            may_try_again(t, mail);
	char *said;

	t->spent = t->spent || worn;
	go_on(t, next);
	if (worn) {
		t->events->again(t->arg, mail);
		return;
	}
	said = reply_describe(&r, mail->to[0]);
	result.text = g_strdup_printf(
		r.code >= 400 ? "the mail server refused %s: %s" : "the mail server answered out of turn to %s: %s",
		verdict_stage_name(stage), said);
	g_free(said);
	talk_end(mail, &result);
}

/* The answer to MAIL. */
static void on_mail(struct talk *t, const struct reply *r, bool closing)
{
	if (r->code >= 300 && t->mail == NULL) {
		go_on(t, t->conn->pipelining ? TALK_RCPT : TALK_RSET);
	} else if (r->code >= 300) {
		refuse(t, STAGE_MAIL, r, closing ? TALK_DEAD : t->conn->pipelining ? TALK_RCPT : TALK_RSET);
	} else if (t->mail == NULL && !t->conn->pipelining) {
		clear(t);
	} else {
		enter(t, TALK_RCPT, command_ms(t));
		if (!t->conn->pipelining)
			conn_command(t->conn, "RCPT TO:<%s>\r\n", t->mail->to[0]);
	}
}

/* All recipients of a mail were answered. */
static void on_recipients(struct talk *t)
{
	struct reply r = t->refusal;
	enum talk_state next = t->data_ahead ? TALK_DATA : TALK_RSET;

	/* One that is refused for now holds the mail up for all, at first: who has it cannot be made not to have it. */
	if (t->taken == 0 || (t->refused_for_now && !t->mail->partial)) {
		refuse(t, STAGE_RCPT, &r, r.code == 421 || r.code < 400 ? TALK_DEAD : next);
	} else if (t->data_ahead) {
		enter(t, TALK_DATA, command_ms(t));
	} else if (t->mail->held) {
		enter(t, TALK_HELD, 0); /* it has the time that the message has */
	} else {
		say_data(t);
	}
}

/* The answer to one RCPT. */
static void on_rcpt(struct talk *t, const struct reply *r, bool closing)
{
	bool good = r->code < 300;
	size_t nth = t->mail != NULL ? g_strv_length((char **)t->mail->to) - t->rcpt_due : 0;

	t->rcpt_due--;
	if (t->mail == NULL) {
		t->recipient_taken = t->recipient_taken || good;
		if (t->rcpt_due > 0 && t->conn->pipelining)
			return;
		go_on(t, t->data_ahead ? TALK_DATA : TALK_RSET);
		return;
	}
	if (!good && verdict_of_recipient(STAGE_RCPT, r->code))
		g_strlcpy(t->mail->refused[nth], r->enhanced, sizeof(t->mail->refused[nth]));
	if (good) {
		t->taken++;
	} else if (t->refusal.code == 0 || (r->code / 100 == 4 && !t->refused_for_now)) {
		enum mail_class is = verdict_reply(STAGE_RCPT, r->code, r->enhanced, r->text);

		t->refusal = *r;
		t->refused_for_now = is != MAIL_PERMANENT && is != MAIL_POLICY && is != MAIL_POLICY_VAGUE;
	}
	if (closing && t->rcpt_due > 0) {
		refuse(t, STAGE_RCPT, r, TALK_DEAD);
	} else if (t->rcpt_due == 0) {
		on_recipients(t);
	} else if (!t->conn->pipelining) {
		enter(t, TALK_RCPT, command_ms(t));
		conn_command(t->conn, "RCPT TO:<%s>\r\n", t->mail->to[nth + 1]);
	}
}

/* The answer to DATA: the mail's text may follow, or not. */
static void on_data(struct talk *t, const struct reply *r)
{
	if (t->mail == NULL) {
		if (r->code != 354) {
			clear(t);
		} else if (t->recipient_taken) {
			/* A dot now would deliver an empty mail. */
			drop(t);
		} else {
			enter(t, TALK_EMPTY, data_ms(t));
			conn_command(t->conn, ".\r\n"); /* RFC 2920 3.1 */
		}
	} else if (r->code == 354) {
		enter(t, TALK_BODY, data_ms(t));
		conn_body(t->conn, t->mail->data, t->mail->len);
	} else {
		refuse(t, STAGE_DATA, r, r->code >= 400 && r->code != 421 ? TALK_RSET : TALK_DEAD);
	}
}

/* Ends a mail that the server has taken over; most servers name it in their answer ("queued as 4XyZ12"). */
static void taken(struct smtp_mail *mail, const struct reply *r, const struct reply *refusal, unsigned n)
{
	struct mail_result result = { .is = MAIL_SENT, .text = reply_describe(r, mail->to[0]) };
	const char *name = strstr(result.text, "queued as ");

	if (name != NULL) {
		name += strlen("queued as ");
		result.id = g_strndup(name, strcspn(name, " ,;"));
	}
	if (refusal->code != 0) {
		char *said = reply_describe(refusal, NULL), *text = result.text;

		result.text = g_strdup_printf("%s (taken for %u of %u recipients; refused: %s)", text, n,
			g_strv_length((char **)mail->to), said);
		g_free(said);
		g_free(text);
	}
	talk_end(mail, &result);
}

/* The answer to the final dot. */
static void on_dot(struct talk *t, const struct reply *r)
{
	if (verdict_reply(STAGE_DOT, r->code, r->enhanced, r->text) == MAIL_SENT) {
		struct smtp_mail *mail = detach(t);
		struct reply copy = *r;

		become_ready(t);
		taken(mail, &copy, &t->refusal, t->taken);
		return;
	}
	/* Taken or refused, the transaction is over (RFC 5321 4.1.1.4): RSET costs little, and is always right. */
	refuse(t, STAGE_DOT, r, r->code >= 400 && r->code != 421 ? TALK_RSET : TALK_DEAD);
}

/* A reply has come. */
static void on_reply(void *arg, const struct reply *r)
{
	struct talk *t = arg;
	/* The server is going away, or 3xx, which answers none of these: no use to go on. */
	bool closing = r->code == 421 || (r->code >= 300 && r->code < 400);

	switch (t->state) {
	case TALK_MAIL:
		on_mail(t, r, closing);
		return;
	case TALK_RCPT:
		on_rcpt(t, r, closing);
		return;
	case TALK_DATA:
		on_data(t, r);
		return;
	case TALK_BODY:
		/* The server has had enough before the end; without the final dot it must not keep what it has. */
		refuse(t, STAGE_DATA, r, TALK_DEAD);
		return;
	case TALK_HELD:
		refuse(t, STAGE_RCPT, r, TALK_DEAD);
		return;
	case TALK_DOT:
		on_dot(t, r);
		return;
	case TALK_EMPTY:
		clear(t);
		return;
	case TALK_RSET:
		if (r->code < 300)
			become_ready(t);
		else
			drop(t);
		return;
	case TALK_CONNECTING:
	case TALK_READY: /* unasked: 421, the server is going away */
	case TALK_QUIT:
	case TALK_DEAD:
		drop(t);
		return;
	}
}

/* Some of the mail has gone out: the server is alive. */
static void on_progress(void *arg)
{
	struct talk *t = arg;

	enter(t, TALK_BODY, data_ms(t));
}

/* All of the mail is on its way. */
static void on_sent(void *arg)
{
	struct talk *t = arg;

	enter(t, TALK_DOT, data_ms(t));
}

/* The connection is of no use any more. */
static void on_lost(void *arg, bool closed, const char *why)
{
	struct talk *t = arg;
	enum talk_state state = t->state;
	struct smtp_mail *mail = detach(t);
	const struct smtp_settings *s = t->conn->settings;
	const char *during = state == TALK_MAIL                         ? "before the sender was answered"
	                     : state == TALK_RCPT                       ? "before the recipient was answered"
	                     : state == TALK_HELD || state == TALK_DATA ? "before DATA was answered"
	                                                                : "while the mail was being written";

	drop(t);
	if (mail == NULL)
		return;
	if (state == TALK_DOT)
		finish(mail, MAIL_UNKNOWN,
			g_strdup_printf(
				"mail server %s:%u: %s after the whole mail was sent: it may have arrived or not",
				s->host, s->port, why));
	else if (closed && may_try_again(t, mail))
		t->events->again(t->arg, mail);
	else
		finish(mail, MAIL_AWAY, g_strdup_printf("mail server %s:%u: %s %s", s->host, s->port, why, during));
}

/* The state's time is up. */
static void on_timeout(void *arg)
{
	struct talk *t = arg;
	int64_t ms = t->state == TALK_BODY || t->state == TALK_DOT ? data_ms(t) : command_ms(t);
	char *why;

	if (t->state == TALK_READY) {
		talk_quit(t);
		return;
	}
	why = g_strdup_printf("no sign of life for %g s", (double)ms / 1000);
	on_lost(t, false, why);
	g_free(why);
}

/* The connection stands. */
static void on_open(void *arg)
{
	struct talk *t = arg;

	become_ready(t);
	t->events->connected(t->arg);
}

/* There is no connection. */
static void on_failed(void *arg, enum mail_class is, const char *text)
{
	struct talk *t = arg;

	t->state = TALK_DEAD;
	t->events->look(t->arg);
	t->events->failed(t->arg, t, is, text);
}

struct talk *talk_open(const struct smtp_settings *settings, struct pgmqd_worker *worker,
	const struct conn_login *login, const char *token, const struct talk_events *events, void *arg)
{
	static const struct conn_events conn_events = { on_open, on_failed, on_reply, on_progress, on_sent, on_lost,
		on_timeout };
	struct talk *t = g_new0(struct talk, 1);

	t->events = events;
	t->arg = arg;
	t->link.data = t;
	t->conn = conn_open(settings, worker, login, token, &conn_events, t);
	if (t->conn == NULL) {
		g_free(t);
		return NULL;
	}
	return t;
}

void talk_free(struct talk *t)
{
	if (t->state == TALK_READY)
		conn_farewell(t->conn);
	conn_close(t->conn);
	conn_free(t->conn);
	g_free(t);
}
