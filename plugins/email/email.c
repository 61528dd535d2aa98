/* email.c: the plugin itself: a queue's message becomes a mail, the mail goes out, the outcome goes back. */
#include "config.h"

#include "httpcheck.h"
#include "pace.h"
#include "reply.h"
#include "route.h"
#include "safety.h"
#include "signature.h"
#include "sending.h"

#include <signal.h>
#include <string.h>

void sending_free(struct sending *s)
{
	httpmail_clear(s);
	message_clear(&s->parsed);
	pgmqd_rendered_free(&s->rendered);
	g_free(s->original_to);
	g_free(s->subject);
	g_free(s->list_unsubscribe);
	g_free(s->feedback_id);
	g_free(s->envelope);
	g_free(s->key);
	g_free(s->message_id);
	g_free(s->seed);
	g_free(s->bytes);
	g_free(s->signed_bytes);
	g_free(s->stuffed);
	if (s->entry.ledger != NULL)
		ledger_clear(&s->entry);
	g_free(s);
}

/* Cross-checks of the options. */
static int email_config_complete(void *handle)
{
	struct email *h = handle;
	char *reason = email_options_check(h);

	if (reason == NULL) {
		/* The key is tried now, so that no mail has to wait for it. */
		email_options_apply(h);
		signer_free(signer_new(h, &reason));
		email_options_release(h);
	}
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
	char *reason = NULL;

	/* A TLS library writes without MSG_NOSIGNAL: a server that hangs up must not end the process. */
	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
	mime_start();
	h->worker = w;
	email_options_apply(h);
	h->signer = signer_new(h, &reason);
	if (reason != NULL) {
		pgmqd_log(PGMQD_ERROR, "%s", reason);
		g_free(reason);
		return -1;
	}
	h->sendings = g_hash_table_new(NULL, NULL);
	ledger_start(&h->ledger, w);
	h->ledger.resend = strcmp(h->on_unknown, "resend") == 0;
	route_start(&h->routes, w);
	if (route_find(&h->routes, "smtp") != NULL)
		h->pool = smtp_pool_new(&h->settings, w);
	return 0;
}

/* Ends everything; there are no messages any more. */
static void email_stop(void *handle)
{
	struct email *h = handle;

	if (h->pool != NULL)
		smtp_pool_free(h->pool);
	ledger_stop(&h->ledger);
	g_hash_table_destroy(h->sendings);
	signer_free(h->signer);
	h->signer = NULL;
	email_options_release(h);
	mime_stop();
}

/* SMTP's end of a mail. */
static void on_smtp_done(void *arg, const struct mail_result *result)
{
	outcome_of(arg, result);
}

/* Puts the mail into the pool; `held`: no byte of it goes out yet. */
static void announce(struct sending *s, bool held)
{
	if (s->stuffed == NULL)
		s->stuffed = reply_stuff_dots(s->signed_bytes != NULL ? s->signed_bytes : s->bytes,
			s->signed_bytes != NULL ? s->signed_len : s->len, &s->mail.len);
	s->mail.from = s->email->from_address;
	if (s->email->bounce_checked != NULL) {
		const char *at = strchr(s->email->bounce_checked, '@');

		g_free(s->envelope);
		s->mail.from = s->envelope = g_strdup_printf(
			"%.*s+%.32s%s", (int)(at - s->email->bounce_checked), s->email->bounce_checked, s->key, at);
	}
	s->mail.to = s->parsed.to;
	s->mail.data = s->stuffed;
	s->mail.done = on_smtp_done;
	s->mail.arg = s;
	s->mail.held = held;
	s->mail.bulk = s->kind != MAIL_TRANSACTIONAL;
	s->announced = true;
	smtp_send(s->email->pool, &s->mail);
}

void sending_go(struct sending *s)
{
	if (!s->composed || !s->granted)
		return;
	if (s->way->provider->request != NULL) {
		httpmail_send(s);
		return;
	}
	s->under_way = true;
	if (s->announced)
		smtp_release(&s->mail);
	else
		announce(s, false);
}

void sending_recall(struct sending *s)
{
	route_forget(s->way);
	if (s->announced)
		smtp_cancel(s->email->pool, &s->mail);
	s->announced = s->under_way = false;
}

void sending_ask(struct sending *s)
{
	if (s->entry.ledger != NULL) {
		ledger_begin(&s->entry, s->way->provider->name);
	} else {
		s->granted = true;
		sending_go(s);
	}
}

/* Gets the ledger's row ready. */
static void prepare_entry(struct sending *s)
{
	struct email *h = s->email;

	ledger_entry_init(&s->entry, &h->ledger, s->msg, s->key, s->parsed.template, s->message_id, s->parsed.to);
	s->entry.answer = outcome_of_ledger;
	s->entry.arg = s;
	s->entry.resend = s->entry.resend || s->was_held;
	s->entry.optional = s->kind == MAIL_REMINDER;
	if (s->entry.optional && h->unsubscribe_url != NULL && h->unsubscribe_url[0] != '\0')
		s->entry.unsubscribe = compose_unsubscribe_token(s);
}

/* Refuses a message, before a provider is involved. */
static void refuse(struct sending *s, char *reason, bool config)
{
	struct pgmqd_msg *m = s->msg;
	const char *kind = s->fail_class != NULL ? s->fail_class : "permanent";

	g_hash_table_steal(s->email->sendings, m);
	if (s->way != NULL)
		route_forget(s->way);
	if (s->entry.ledger != NULL)
		ledger_end(&s->entry, LEDGER_NOT_SENT, reason);
	sending_free(s);
	if (config)
		pgmqd_config_error(m, "%s", reason);
	else
		pgmqd_fail_as(m, kind, "%s", reason);
	g_free(reason);
}

/* Writes the mail into a file instead of sending it; the ledger does not hear of it. */
static void dry_run(struct sending *s)
{
	bool config = false;
	char *reason = compose_end(s, &config);

	if (reason == NULL) {
		reason = safety_write(s);
		config = reason != NULL;
	}
	if (reason != NULL) {
		refuse(s, reason, config);
		return;
	}
	pgmqd_msg_log(s->msg, PGMQD_INFO, "dry run: written, not sent message_id=<%s>", s->message_id);
	g_hash_table_steal(s->email->sendings, s->msg);
	pgmqd_done(s->msg);
	sending_free(s);
}

void sending_start(struct sending *s)
{
	struct email *h = s->email;
	bool config = false, first = s->entry.ledger == NULL;
	char *reason;

	/* The ledger is asked first, and the mail is made while the answer is on its way. */
	if (h->use_ledger) {
		if (first)
			prepare_entry(s);
		sending_ask(s);
	}
	if (!s->composed && (reason = compose_end(s, &config)) != NULL) {
		refuse(s, reason, config);
		return;
	}
	/* The first time, an SMTP server even hears of the mail meanwhile: only its bytes wait for the answer. */
	if (!h->use_ledger)
		sending_ask(s);
	else if (s->granted)
		sending_go(s);
	else if (s->way->provider->request == NULL && first && !s->repeated)
		announce(s, true);
}

/* Takes a message: everything that can be wrong with it comes out here and in sending_start(), before a provider is
 * involved. */
static void email_deliver(void *handle, struct pgmqd_msg *m)
{
	struct email *h = handle;
	struct sending *s = g_new0(struct sending, 1);
	int64_t wait;
	char *reason;

	s->email = h;
	s->msg = s->entry.msg = m;
	s->started = g_get_monotonic_time();
	s->repeated = pgmqd_msg_attempt(m) > 1;
	g_hash_table_insert(h->sendings, m, s);
	if ((reason = compose_begin(s)) != NULL) {
		refuse(s, reason, false);
		return;
	}
	if (!safety_allows(h, s->parsed.to)) {
		pgmqd_msg_log(m, PGMQD_INFO,
			"not sent: the recipient's domain is not among allow_domains message_id=<%s>", s->message_id);
		g_hash_table_steal(h->sendings, m);
		pgmqd_done(m);
		sending_free(s);
		return;
	}
	if (h->dry_run != NULL && h->dry_run[0] != '\0') {
		dry_run(s);
		return;
	}
	if ((s->way = route_choose(&h->routes, &h->route[s->kind], 0, &wait)) == NULL) {
		g_hash_table_steal(h->sendings, m);
		sending_free(s);
		pgmqd_postpone(m, wait, "no provider can be used now");
		return;
	}
	pace_begin(s);
}

/* Lets go of a message. */
static void email_cancel(void *handle, struct pgmqd_msg *m)
{
	struct email *h = handle;
	struct sending *s = g_hash_table_lookup(h->sendings, m);
	bool maybe;

	if (s == NULL)
		return;
	maybe = s->under_way && (s->way->provider->request != NULL || smtp_may_have_arrived(&s->mail));
	if (s->entry.ledger != NULL)
		ledger_end(&s->entry, maybe ? LEDGER_MAYBE_SENT : LEDGER_NOT_SENT, "taken back before the answer");
	sending_recall(s);
	g_hash_table_steal(h->sendings, m);
	sending_free(s);
}

/* Is the mail server there, and does it let us in? */
static void check_server(const struct smtp_settings *s, struct pgmqd_check *c)
{
	const char *remedy = NULL;
	char *text = smtp_try(s, &remedy);

	if (text != NULL)
		pgmqd_check_tell(c, PGMQD_CHECK_FAIL, remedy, "%s", text);
	else
		pgmqd_check_tell(c, PGMQD_CHECK_OK, NULL, "mail server %s:%u is there%s%s", s->host, s->port,
			s->tls == SMTP_TLS_NONE ? ", without TLS" : ", TLS verified",
			s->user != NULL ? ", login taken" : ", no login");
	g_free(text);
}

/* For pgmqd doctor: does every provider let us in? No mail is sent. */
static void email_check(void *handle, struct pgmqd_check *c)
{
	struct email *h = handle;

	email_options_apply(h);
	for (unsigned i = 0; i < h->routes.n; i++) {
		const struct provider *p = h->routes.ways[i].provider;

		if (p->probe != NULL)
			httpcheck_tell(h, p, c);
		else
			check_server(&h->settings, c);
	}
	email_options_release(h);
}

static struct pgmqd_plugin plugin;

PGMQD_REGISTER_PLUGIN(plugin);

static struct pgmqd_plugin plugin = {
	.name = "email",
	.version = PACKAGE_VERSION,
	.summary = "sends mails from templates, over SMTP or by a mail service",
	.options = email_options,
	.handle_size = sizeof(struct email),
	.config_complete = email_config_complete,
	.start = email_start,
	.deliver = email_deliver,
	.cancel = email_cancel,
	.stop = email_stop,
	.check = email_check,
};
