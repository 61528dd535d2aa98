/* email.c: the plugin itself: a queue's message becomes a mail, the mail goes out, the outcome goes back. */
#include "config.h"

#include "address.h"
#include "ledger.h"
#include "message.h"
#include "mime.h"
#include "options.h"
#include "reply.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#define BUSY_MS 5000

/* A message's mail on its way. */
struct sending {
	struct email *email;
	struct pgmqd_msg *msg;
	struct smtp_mail mail;
	char *to, *data; /* what `mail` points to */
	char *template, *message_id;
	struct ledger_entry entry; /* empty without a ledger */
	bool in_pool;
	bool repeated;             /* it may have gone out before: the ledger is asked first, and not beside the conversation */
	/* What names the message: after a redrive, what named it the first time. */
	gint64 root_id, root_enqueued;
	bool was_held; /* put back by somebody who knew that it may have been sent */
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
	if (s->entry.ledger != NULL)
		ledger_clear(&s->entry);
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
	h->ledger.worker = w;
	h->ledger.resend = strcmp(h->on_unknown, "resend") == 0;
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
		ledger_sent(&s->entry, result->text);
		break;
	case SMTP_UNKNOWN: /* the same Message-ID again, by which the recipient's side can tell a second copy */
		ledger_end(&s->entry, true, result->text);
		if (h->ledger.resend)
			pgmqd_retry(m, 0, "%s", result->text);
		else
			pgmqd_fail_as(m, "unknown", "%s; held", result->text);
		break;
	case SMTP_TRANSIENT:
		ledger_end(&s->entry, false, result->text);
		pgmqd_retry(m, 0, "%s", result->text);
		break;
	case SMTP_PERMANENT:
		ledger_end(&s->entry, false, result->text);
		pgmqd_fail(m, "%s", result->text);
		break;
	case SMTP_CONFIG:
		ledger_end(&s->entry, false, result->text);
		pgmqd_config_error(m, "%s", result->text);
		break;
	}
	sending_free(s);
}

/* The ledger has answered. */
static void on_ledger(void *arg, enum ledger_answer is, const char *why)
{
	struct sending *s = arg;
	struct email *h = s->email;
	struct pgmqd_msg *m = s->msg;

	if (is == LEDGER_GO) {
		if (s->in_pool) {
			smtp_release(&s->mail);
		} else {
			s->in_pool = true;
			smtp_send(h->pool, &s->mail);
		}
		return;
	}
	if (s->in_pool)
		smtp_cancel(h->pool, &s->mail);
	g_hash_table_steal(h->sendings, m);
	if (is == LEDGER_SENT) {
		pgmqd_msg_log(m, PGMQD_INFO, "sent before, by the mail ledger: not sent again message_id=<%s>", s->message_id);
		pgmqd_done(m);
	} else if (is == LEDGER_UNKNOWN) {
		pgmqd_fail_as(m, "unknown", "the mail may have been sent before, by the mail ledger; held");
	} else if (is == LEDGER_BUSY) {
		pgmqd_retry(m, BUSY_MS, "another message is sending the mail of the same key and recipient");
	} else {
		pgmqd_retry(m, 0, "the mail ledger could not be written: %s", why);
	}
	sending_free(s);
}

/* Learns from the headers whether the message has been among the dead letters, and what it was then. */
static void read_history(struct sending *s)
{
	const char *text = pgmqd_msg_headers(s->msg);
	cJSON *headers = text != NULL && strstr(text, "\"pgmqd_history\"") != NULL ? cJSON_Parse(text) : NULL;
	const cJSON *history = cJSON_GetObjectItemCaseSensitive(headers, "pgmqd_history"), *first, *last;
	const cJSON *id, *enqueued, *kind;

	s->root_id = pgmqd_msg_id(s->msg);
	s->root_enqueued = pgmqd_msg_enqueued_us(s->msg);
	if (cJSON_IsArray(history) && cJSON_GetArraySize(history) > 0) {
		first = cJSON_GetArrayItem(history, 0);
		last = cJSON_GetArrayItem(history, cJSON_GetArraySize(history) - 1);
		id = cJSON_GetObjectItemCaseSensitive(first, "msg_id");
		enqueued = cJSON_GetObjectItemCaseSensitive(first, "enqueued_us");
		kind = cJSON_GetObjectItemCaseSensitive(last, "class");
		if (cJSON_IsNumber(id) && cJSON_IsNumber(enqueued)) {
			s->root_id = (gint64)id->valuedouble;
			s->root_enqueued = (gint64)enqueued->valuedouble;
		}
		s->was_held = cJSON_IsString(kind) && strcmp(kind->valuestring, "unknown") == 0;
		s->repeated = true;
	}
	cJSON_Delete(headers);
}

/* The name that all copies of this mail share, and the seed of its boundaries. */
static void identify(struct sending *s, const struct email_message *msg, const struct mime_mail *mail, char **seed)
{
	struct email *h = s->email;
	struct pgmqd_msg *m = s->msg;
	char *id = g_strdup_printf("%" G_GINT64_FORMAT, s->root_id);
	char *enqueued = g_strdup_printf("%" G_GINT64_FORMAT, s->root_enqueued);
	const char *raw = pgmqd_msg_text(m, NULL);
	const char *const keyed[] = { pgmqd_msg_queue(m), msg->key, mail->to };
	const char *const unkeyed[] = { pgmqd_msg_queue(m), id, enqueued, raw };
	char *name = msg->key != NULL ? mime_digest(keyed, G_N_ELEMENTS(keyed))
				      : mime_digest(unkeyed, G_N_ELEMENTS(unkeyed));
	const char *const content[] = { name, raw, mail->subject, mail->text, mail->html };

	s->message_id = g_strdup_printf("%.32s@%s", name, h->domain);
	/* Of the content too, so that no text can hold the boundary that it will get. */
	*seed = mime_digest(content, G_N_ELEMENTS(content));
	if (h->use_ledger)
		ledger_entry_init(&s->entry, &h->ledger, m, name, msg->template, s->message_id, mail->to);
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
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a template has a subject where the message has none */
	if (mail.subject[0] == '\0')
		return g_strdup("subject: it is empty");
	identify(s, msg, &mail, &seed);
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
	s->repeated = s->repeated || msg.key != NULL;
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
	s->repeated = pgmqd_msg_attempt(m) > 1;
	read_history(s);
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
	s->entry.msg = m;
	s->entry.answer = on_ledger;
	s->entry.arg = s;
	s->entry.resend = s->entry.resend || s->was_held;
	/* The first time, the ledger is written while the mail is announced: only its bytes wait for the answer. */
	s->in_pool = !h->use_ledger || !s->repeated;
	s->mail.held = h->use_ledger;
	if (s->in_pool)
		smtp_send(h->pool, &s->mail);
	else
		s->mail.held = false;
	if (h->use_ledger)
		ledger_begin(&s->entry);
}

/* Lets go of a message. */
static void email_cancel(void *handle, struct pgmqd_msg *m)
{
	struct email *h = handle;
	struct sending *s = g_hash_table_lookup(h->sendings, m);

	if (s == NULL)
		return;
	if (s->entry.ledger != NULL)
		ledger_end(&s->entry, s->in_pool && smtp_may_have_arrived(&s->mail), "taken back before the server's answer");
	if (s->in_pool)
		smtp_cancel(h->pool, &s->mail);
	g_hash_table_remove(h->sendings, m);
}

/* For pgmqd doctor: is the mail server there, and does it let us in? No mail is sent. */
static void email_check(void *handle, struct pgmqd_check *c)
{
	struct email *h = handle;
	const struct smtp_settings *s = &h->settings;
	const char *remedy = NULL;
	char *text;

	email_options_apply(h);
	text = smtp_try(s, &remedy);
	if (text != NULL)
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL, remedy, "%s", text);
	else
		pgmqd_check_tell(c, PGMQD_CHECK_OK, NULL, "mail server %s:%u is there%s%s", s->host, s->port,
			s->tls == SMTP_TLS_NONE ? ", without TLS" : ", TLS verified", s->user != NULL ? ", login taken" : ", no login");
	g_free(text);
	email_options_release(h);
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
	.check = email_check,
};
