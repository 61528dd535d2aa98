/* email.c: the plugin itself: a queue's message becomes a mail, the mail goes out, the outcome goes back. */
#include "config.h"

#include "address.h"
#include "message.h"
#include "mime.h"
#include "options.h"
#include "reply.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

/* A message's mail on its way. */
struct sending {
	struct email *email;
	struct pgmqd_msg *msg;
	struct smtp_mail mail;
	char *to, *data; /* what `mail` points to */
	char *template, *message_id;
	gint64 started; /* monotonic µs */
};

/* Frees a sending; its mail must be out of the pool. */
static void sending_free(gpointer p)
{
	struct sending *s = p;

	g_free(s->to);
	g_free(s->data);
	g_free(s->template);
	g_free(s->message_id);
	g_free(s);
}

/* Cross-checks of the options. */
static int email_config_complete(void *handle)
{
	char *reason = email_options_check(handle);

	if (reason == NULL)
		return 0;
	pgmqd_log(PGMQD_ERROR, "%s", reason);
	g_free(reason);
	return -1;
}

/* Gets everything ready; connections are opened when there are mails. */
static int email_start(void *handle, struct pgmqd_worker *w)
{
	struct email *h = handle;
	struct sigaction old;

	/* A TLS library writes without MSG_NOSIGNAL: a server that hangs up must not end the process. */
	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
	mime_start();
	h->worker = w;
	email_options_apply(h);
	h->sendings = g_hash_table_new_full(NULL, NULL, NULL, sending_free);
	h->pool = smtp_pool_new(&h->settings, w);
	return 0;
}

/* Ends everything; there are no messages any more. */
static void email_stop(void *handle)
{
	struct email *h = handle;

	smtp_pool_free(h->pool);
	g_hash_table_destroy(h->sendings);
	email_options_release(h);
	mime_stop();
}

/* The mail has come to its end: tells the host. */
static void on_done(void *arg, const struct smtp_result *result)
{
	struct sending *s = arg;
	struct email *h = s->email;
	struct pgmqd_msg *m = s->msg;

	/* Out of the table first: settling may bring the next message in. */
	g_hash_table_steal(h->sendings, m);
	switch (result->is) {
	case SMTP_SENT:
		pgmqd_msg_log(m, PGMQD_INFO,
			"sent template=%s message_id=<%s> bytes=%zu ms=%" G_GINT64_FORMAT " reply=\"%s\"",
			s->template != NULL ? s->template : "-", s->message_id, s->mail.len,
			(g_get_monotonic_time() - s->started) / 1000, result->text);
		pgmqd_done(m);
		break;
	case SMTP_TRANSIENT:
	case SMTP_UNKNOWN: /* the same Message-ID again, by which the recipient's side can tell a second copy */
		pgmqd_retry(m, 0, "%s", result->text);
		break;
	case SMTP_PERMANENT:
		pgmqd_fail(m, "%s", result->text);
		break;
	case SMTP_CONFIG:
		pgmqd_config_error(m, "%s", result->text);
		break;
	}
	sending_free(s);
}

/* The name that all copies of this mail share, and the seed of its boundaries. */
static void identify(struct email *h, struct pgmqd_msg *m, const struct email_message *msg,
	const struct mime_mail *mail, char **message_id, char **seed)
{
	char *id = g_strdup_printf("%" G_GINT64_FORMAT, pgmqd_msg_id(m));
	char *enqueued = g_strdup_printf("%" G_GINT64_FORMAT, pgmqd_msg_enqueued_us(m));
	const char *raw = pgmqd_msg_text(m, NULL);
	const char *const keyed[] = { pgmqd_msg_queue(m), msg->key, mail->to };
	const char *const unkeyed[] = { pgmqd_msg_queue(m), id, enqueued, raw };
	char *name = msg->key != NULL ? mime_digest(keyed, G_N_ELEMENTS(keyed))
				      : mime_digest(unkeyed, G_N_ELEMENTS(unkeyed));
	const char *const content[] = { name, raw, mail->subject, mail->text, mail->html };

	*message_id = g_strdup_printf("%.32s@%s", name, h->domain);
	/* Of the content too, so that no text can hold the boundary that it will get. */
	*seed = mime_digest(content, G_N_ELEMENTS(content));
	g_free(name);
	g_free(id);
	g_free(enqueued);
}

/* Makes the mail's bytes. NULL, or why it cannot be (g_malloc'd). */
static char *compose(struct sending *s, const struct email_message *msg, const struct pgmqd_rendered *r)
{
	struct email *h = s->email;
	struct mime_mail mail = {
		.from = h->from_address,
		.from_name = h->from_display,
		.to = msg->to,
		.to_name = msg->to_name,
		.reply_to = msg->reply_to != NULL ? msg->reply_to : h->reply_address,
		.subject = msg->subject != NULL ? msg->subject : r->subject,
		.text = msg->template != NULL ? r->text : msg->text,
		.html = msg->template != NULL ? r->html : msg->html,
		.lang = r->lang != NULL ? r->lang : msg->lang,
		.date = pgmqd_msg_enqueued_us(s->msg) / G_USEC_PER_SEC,
		.attachments = msg->attachments,
		.nattachments = msg->nattachments,
	};
	const char *wrong;
	char *seed, *bytes;
	size_t len;

	if ((wrong = address_header_check(mail.subject)) != NULL)
		return g_strdup_printf("subject: %s", wrong);
	if (mail.subject[0] == '\0')
		return g_strdup("subject: it is empty");
	identify(h, s->msg, msg, &mail, &s->message_id, &seed);
	mail.message_id = s->message_id;
	mail.seed = seed;
	bytes = mime_compose(&mail, &len, &wrong);
	g_free(seed);
	if (bytes == NULL)
		return g_strdup(wrong);
	if (len > h->max_message_bytes) {
		g_free(bytes);
		return g_strdup_printf("the mail has %zu bytes, max_message_bytes is %" G_GUINT64_FORMAT, len,
			(guint64)h->max_message_bytes);
	}
	s->data = reply_stuff_dots(bytes, len, &s->mail.len);
	g_free(bytes);
	return NULL;
}

/* Parses, renders and composes. NULL, or why the message can never be sent (g_malloc'd), or with *config set why no message can. */
static char *prepare(struct sending *s, bool *config)
{
	struct email *h = s->email;
	struct email_message msg;
	struct pgmqd_rendered r;
	char *reason = message_parse(pgmqd_msg_json(s->msg), pgmqd_msg_text(s->msg, NULL), h->max_message_bytes, &msg);

	memset(&r, 0, sizeof(r));
	if (reason == NULL && msg.template != NULL) {
		int rc = pgmqd_render(h->worker, msg.template, msg.lang, msg.variables, &r);

		*config = rc == -2;
		if (rc != 0)
			reason = g_strdup(r.error != NULL ? r.error : "the template cannot be rendered");
	}
	if (reason == NULL)
		reason = compose(s, &msg, &r);
	s->to = g_strdup(msg.to);
	s->template = g_strdup(msg.template);
	pgmqd_rendered_free(&r);
	message_clear(&msg);
	return reason;
}

/* Takes a message: everything that can be wrong with it comes out here, before a connection is involved. */
static void email_deliver(void *handle, struct pgmqd_msg *m)
{
	struct email *h = handle;
	struct sending *s = g_new0(struct sending, 1);
	bool config = false;
	char *reason;

	s->email = h;
	s->msg = m;
	s->started = g_get_monotonic_time();
	if ((reason = prepare(s, &config)) != NULL) {
		sending_free(s);
		if (config)
			pgmqd_config_error(m, "%s", reason);
		else
			pgmqd_fail(m, "%s", reason);
		g_free(reason);
		return;
	}
	s->mail.from = h->from_address;
	s->mail.to = s->to;
	s->mail.data = s->data;
	s->mail.done = on_done;
	s->mail.arg = s;
	g_hash_table_insert(h->sendings, m, s);
	smtp_send(h->pool, &s->mail);
}

/* Lets go of a message. */
static void email_cancel(void *handle, struct pgmqd_msg *m)
{
	struct email *h = handle;
	struct sending *s = g_hash_table_lookup(h->sendings, m);

	if (s == NULL)
		return;
	smtp_cancel(h->pool, &s->mail);
	g_hash_table_remove(h->sendings, m);
}

static struct pgmqd_plugin plugin;

PGMQD_REGISTER_PLUGIN(plugin);

static struct pgmqd_plugin plugin = {
	.name = "email",
	.version = PACKAGE_VERSION,
	.summary = "sends mails from templates over SMTP",
	.options = email_options,
	.handle_size = sizeof(struct email),
	.config_complete = email_config_complete,
	.start = email_start,
	.deliver = email_deliver,
	.cancel = email_cancel,
	.stop = email_stop,
};
