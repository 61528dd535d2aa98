/* email.c: the plugin itself: its life, and its check for pgmqd doctor. */
#include "config.h"

#include "delivery.h"
#include "httpcheck.h"
#include "route.h"
#include "sending.h"
#include "signature.h"
#include "token.h"

#include <signal.h>
#include <string.h>

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

/* Where the login's token comes from; NULL: there is none. */
static struct token *token_of(const struct email *h)
{
	bool file = h->smtp_token_file != NULL && h->smtp_token_file[0] != '\0';
	bool command = h->smtp_token_command != NULL && h->smtp_token_command[0] != '\0';

	return token_new(file ? h->smtp_token_file : NULL, command ? h->smtp_token_command : NULL);
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
	h->strange_keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	ledger_start(&h->ledger, w);
	h->ledger.resend = strcmp(h->on_unknown, "resend") == 0;
	h->ledger.wants_secret = h->bounce_checked != NULL;
	route_start(&h->routes, w);
	h->token = token_of(h);
	if (route_find(&h->routes, "smtp") != NULL)
		h->pool = smtp_pool_new(&h->settings, h->token, w);
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
	g_hash_table_destroy(h->strange_keys);
	token_free(h->token);
	h->token = NULL;
	signer_free(h->signer);
	h->signer = NULL;
	email_options_release(h);
	mime_stop();
}

/* A cause outside may be gone: a provider that was away is tried at once. */
static void email_reload(void *handle)
{
	struct email *h = handle;

	route_reload(&h->routes);
}

/* Takes a message. */
static void email_deliver(void *handle, struct pgmqd_msg *m)
{
	delivery_begin(handle, m);
}

/* Lets go of a message. */
static void email_cancel(void *handle, struct pgmqd_msg *m)
{
	delivery_cancel(handle, m);
}

/* Is the mail server there, and does it let us in? */
static void check_server(const struct email *h, struct pgmqd_check *c)
{
	const struct smtp_settings *s = &h->settings;
	const char *remedy = NULL;
	char *text = smtp_try(s, h->token, &remedy);

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
	h->token = token_of(h);
	for (unsigned i = 0; i < h->routes.n; i++) {
		const struct provider *p = h->routes.ways[i].provider;

		if (p->probe != NULL)
			httpcheck_tell(h, p, c);
		else
			check_server(h, c);
	}
	token_free(h->token);
	h->token = NULL;
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
	.replay = "ledger=no limits=",
	.reload = email_reload,
	.records = 1, /* pgmqd.mail_sent() */
};
