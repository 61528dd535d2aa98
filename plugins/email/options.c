/* options.c: the email plugin's options, their checks, and what follows from them. */
#include "config.h"

#include "options.h"

#include "address.h"

#include <string.h>

#define AT(field) offsetof(struct email, field)

const struct pgmqd_option email_options[] = {
	{ "provider", PGMQD_STRING, 0, AT(provider), "smtp",
		"How mails leave: smtp, resend, sendgrid, mailgun, ses, or several in order: the next one stands in "
		"for one that does not work.",
		"EMAIL_PROVIDER", NULL },
	{ "provider_reminder", PGMQD_STRING, 0, AT(provider_reminder), NULL,
		"The same for mails of class reminder; default: as provider.", "EMAIL_PROVIDER_REMINDER", NULL },
	{ "circuit_open", PGMQD_DURATION, 0, AT(circuit_open), "30s",
		"Longest time for which a provider that is away is left alone before a mail tries it again.", NULL,
		NULL },
	{ "limits", PGMQD_STRING, 0, AT(limits_text), NULL,
		"How many mails may go out, by provider, recipient's domain or recipient: smtp 20/s, smtp 5000/d, "
		"gmail.com 5/s, * 10/min, recipient 50/d.",
		NULL, NULL },
	{ "limit_scope", PGMQD_ENUM, 0, AT(limit_scope), "process",
		"Each process keeps the limits for itself, or all share them in the database.", NULL,
		"process|cluster" },
	{ "resend_api_key", PGMQD_SECRET, 0, AT(resend_key), NULL, "Resend: key.", "RESEND_API_KEY", NULL },
	{ "resend_url", PGMQD_URL, 0, AT(resend_url), "https://api.resend.com", "Resend: address of the service.", NULL,
		NULL },
	{ "sendgrid_api_key", PGMQD_SECRET, 0, AT(sendgrid_key), NULL, "SendGrid: key.", "SENDGRID_API_KEY", NULL },
	{ "sendgrid_url", PGMQD_URL, 0, AT(sendgrid_url), "https://api.sendgrid.com",
		"SendGrid: address of the service.", NULL, NULL },
	{ "mailgun_api_key", PGMQD_SECRET, 0, AT(mailgun_key), NULL, "Mailgun: key.", "MAILGUN_API_KEY", NULL },
	{ "mailgun_domain", PGMQD_STRING, 0, AT(mailgun_domain), NULL, "Mailgun: sending domain.", "MAILGUN_DOMAIN",
		NULL },
	{ "mailgun_url", PGMQD_URL, 0, AT(mailgun_url), "https://api.mailgun.net", "Mailgun: address of the service.",
		NULL, NULL },
	{ "ses_region", PGMQD_STRING, 0, AT(ses_region), NULL, "Amazon SES: region.", "AWS_REGION", NULL },
	{ "ses_access_key_id", PGMQD_STRING, 0, AT(ses_access_key), NULL, "Amazon SES: name of the key.",
		"AWS_ACCESS_KEY_ID", NULL },
	{ "ses_secret_access_key", PGMQD_SECRET, 0, AT(ses_secret_key), NULL, "Amazon SES: key.",
		"AWS_SECRET_ACCESS_KEY", NULL },
	{ "ses_session_token", PGMQD_SECRET, 0, AT(ses_session_token), NULL, "Amazon SES: token of temporary keys.",
		"AWS_SESSION_TOKEN", NULL },
	{ "ses_configuration_set", PGMQD_STRING, 0, AT(ses_configuration_set), NULL, "Amazon SES: configuration set.",
		NULL, NULL },
	{ "ses_url", PGMQD_URL, 0, AT(ses_url), NULL, "Amazon SES: address of the service; default: the region's.",
		NULL, NULL },
	{ "http_timeout", PGMQD_DURATION, 0, AT(http_timeout), "30s", "Time for a request to a mail service in all.",
		NULL, NULL },
	{ "smtp_host", PGMQD_STRING, 0, AT(smtp_host), NULL,
		"Mail server to hand mails to; required with provider smtp.", "SMTP_HOST", NULL },
	{ "smtp_port", PGMQD_UINT, 0, AT(smtp_port), "587", "Its port: 587 (STARTTLS) or 465 (TLS).", "SMTP_PORT",
		NULL },
	{ "smtp_user", PGMQD_STRING, 0, AT(smtp_user), NULL, "Login name; without one there is no login.", "SMTP_USER",
		NULL },
	{ "smtp_pass", PGMQD_SECRET, 0, AT(smtp_pass), NULL, "Password of the login.", "SMTP_PASS", NULL },
	{ "smtp_auth", PGMQD_ENUM, 0, AT(smtp_auth), "auto",
		"How to log in; auto: by the first of plain, login and cram-md5 that works. With a token: oauthbearer "
		"or "
		"xoauth2.",
		NULL, "auto|plain|login|cram-md5|xoauth2|oauthbearer" },
	{ "smtp_token_file", PGMQD_STRING, 0, AT(smtp_token_file), NULL,
		"File with an OAuth token, in place of the password; read for each login.", NULL, NULL },
	{ "smtp_token_command", PGMQD_STRING, 0, AT(smtp_token_command), NULL,
		"Command that prints an OAuth token, in place of the password.", NULL, NULL },
	{ "smtp_tls", PGMQD_ENUM, 0, AT(smtp_tls), "auto",
		"Encryption; auto: tls on port 465, else starttls. none is for this machine only.", NULL,
		"auto|starttls|tls|none" },
	{ "smtp_allow_insecure", PGMQD_BOOL, 0, AT(smtp_allow_insecure), "no",
		"Allow smtp_tls = none to other machines.", NULL, NULL },
	{ "smtp_ca_file", PGMQD_STRING, 0, AT(smtp_ca_file), NULL,
		"File (PEM) of the authorities to check the server's certificate against; default: the system's.", NULL,
		NULL },
	{ "smtp_ehlo", PGMQD_STRING, 0, AT(smtp_ehlo), NULL,
		"Name to greet the server with; default: the domain of from.", NULL, NULL },
	{ "connections", PGMQD_UINT, 0, AT(connections), "5", "Connections to the mail server at most.", NULL, NULL },
	{ "mails_per_connection", PGMQD_UINT, 0, AT(mails_per_connection), "100",
		"Mails after which a connection is renewed.", NULL, NULL },
	{ "idle_timeout", PGMQD_DURATION, 0, AT(idle_timeout), "15s", "Time after which an idle connection is closed.",
		NULL, NULL },
	{ "connect_timeout", PGMQD_DURATION, 0, AT(connect_timeout), "30s",
		"Time for a connection to stand: name, TCP, TLS, greeting and login.", NULL, NULL },
	{ "command_timeout", PGMQD_DURATION, 0, AT(command_timeout), "60s", "Time for the server to answer a command.",
		NULL, NULL },
	{ "data_timeout", PGMQD_DURATION, 0, AT(data_timeout), "120s",
		"Time for the server to take a mail that was sent.", NULL, NULL },
	{ "from", PGMQD_STRING, 1, AT(from), NULL, "Sender: an address, or Name <address>.", "SMTP_FROM", NULL },
	{ "from_name", PGMQD_STRING, 0, AT(from_name), "Little Otter", "Name of the sender.", "SMTP_FROM_NAME", NULL },
	{ "reply_to", PGMQD_STRING, 0, AT(reply_to), NULL,
		"Address for answers, or Name <address>, unless the message has its own.", NULL, NULL },
	{ "allow_from", PGMQD_STRING, 0, AT(allow_from), NULL,
		"Further senders that messages may name: addresses and @domains, with commas between.", NULL, NULL },
	{ "attachment_hosts", PGMQD_STRING, 0, AT(attachment_hosts), NULL,
		"Hosts from which messages may have attachments fetched; default: all on the public Internet.", NULL,
		NULL },
	{ "attachment_private", PGMQD_BOOL, 0, AT(attachment_private), "no",
		"Fetch attachments from addresses that are not on the public Internet, too, and by http.", NULL, NULL },
	{ "attachment_timeout", PGMQD_DURATION, 0, AT(attachment_timeout), "30s", "Time to fetch an attachment.", NULL,
		NULL },
	{ "attachment_buckets", PGMQD_STRING, 0, AT(attachment_buckets), NULL,
		"Buckets of Supabase Storage from which messages may attach files; default: none.", NULL, NULL },
	{ "supabase_url", PGMQD_URL, 0, AT(supabase_url), NULL,
		"Address of the Supabase project, for attachment_buckets.", "SUPABASE_URL", NULL },
	{ "service_key", PGMQD_SECRET, 0, AT(service_key), NULL, "Service key of the project, for attachment_buckets.",
		"SUPABASE_SERVICE_ROLE_KEY", NULL },
	{ "bounce_address", PGMQD_STRING, 0, AT(bounce_address), NULL,
		"SMTP: address for bounce mails, with +TOKEN before the @ in each mail; pgmqd bounce reads them. "
		"Default: as from.",
		NULL, NULL },
	{ "reminder_templates", PGMQD_STRING, 0, AT(reminder_templates), "appointment_reminder",
		"Templates whose mails are of class reminder: optional, and of no use when they are late.", NULL,
		NULL },
	{ "ttl", PGMQD_DURATION, 0, AT(ttl), "24h", "Time after it was due at which a mail is given up; 0: never.",
		NULL, NULL },
	{ "ttl_reminder", PGMQD_DURATION, 0, AT(ttl_reminder), "6h", "The same for mails of class reminder.", NULL,
		NULL },
	{ "unsubscribe_url", PGMQD_URL, 0, AT(unsubscribe_url), NULL,
		"Where /api/mail/unsubscribe of pgmqd's HTTP server is for the world; puts List-Unsubscribe into mails "
		"of class reminder.",
		NULL, NULL },
	{ "feedback_id", PGMQD_STRING, 0, AT(feedback_id), NULL,
		"Sender's name for the header Feedback-ID; without one there is none.", NULL, NULL },
	{ "dkim_key", PGMQD_STRING, 0, AT(dkim_key), NULL,
		"SMTP: file (PEM) with a private RSA key; mails are signed by DKIM. Not needed where the mail server "
		"signs.",
		"EMAIL_DKIM_KEY", NULL },
	{ "dkim_selector", PGMQD_STRING, 0, AT(dkim_selector), NULL,
		"DKIM: where in the DNS the public key is: SELECTOR._domainkey.DOMAIN.", "EMAIL_DKIM_SELECTOR", NULL },
	{ "dkim_domain", PGMQD_STRING, 0, AT(dkim_domain), NULL,
		"DKIM: domain that signs; default: the domain of from.", "EMAIL_DKIM_DOMAIN", NULL },
	{ "redirect_all_to", PGMQD_STRING, 0, AT(redirect_all_to), NULL,
		"For tests: address that gets every mail, whoever was meant.", "EMAIL_REDIRECT_ALL_TO", NULL },
	{ "allow_domains", PGMQD_STRING, 0, AT(allow_domains), NULL, "For tests: mails to other domains are not sent.",
		"EMAIL_ALLOW_DOMAINS", NULL },
	{ "dry_run", PGMQD_STRING, 0, AT(dry_run), NULL,
		"For tests: directory for mails, as .eml files, instead of sending them.", "EMAIL_DRY_RUN", NULL },
	{ "production", PGMQD_BOOL, 0, AT(production), "no", "Refuse redirect_all_to and dry_run.", "EMAIL_PRODUCTION",
		NULL },
	{ "force_test_mode", PGMQD_BOOL, 0, AT(force_test_mode), "no", "Allow them all the same.", NULL, NULL },
	{ "max_message_bytes", PGMQD_BYTES, 0, AT(max_message_bytes), "25MB", "Largest mail, as it goes over the wire.",
		NULL, NULL },
	{ "strict_keys", PGMQD_BOOL, 0, AT(strict_keys), "no", "Refuse a message that has a key which no mail has.",
		NULL, NULL },
	{ "ledger", PGMQD_BOOL, 0, AT(use_ledger), "yes",
		"Keep the mail ledger (pgmqd.mail_log), so that a mail that was sent is not sent again.", NULL, NULL },
	{ "on_unknown", PGMQD_ENUM, 0, AT(on_unknown), "resend",
		"A mail that may have been sent is sent again with the same Message-ID, or held as a dead letter.",
		NULL, "resend|hold" },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* An option that is not given, or given empty ("smtp_user ="), is NULL. */
static const char *given(const char *s)
{
	return s != NULL && s[0] != '\0' ? s : NULL;
}

/* The encryption that the options ask for. */
static enum smtp_tls tls_of(const struct email *h)
{
	if (strcmp(h->smtp_tls, "none") == 0)
		return SMTP_TLS_NONE;
	if (strcmp(h->smtp_tls, "tls") == 0 || (strcmp(h->smtp_tls, "auto") == 0 && h->smtp_port == 465))
		return SMTP_TLS_IMPLICIT;
	return SMTP_TLS_STARTTLS;
}

/* Splits `from` (address, or Name <address>) and checks both parts. NULL, or what is wrong. */
static const char *parse_from(const struct email *h, char **address, char **name)
{
	const char *reason = address_mailbox(h->from, name, address);

	if (reason != NULL)
		return reason;
	if (*name == NULL)
		*name = g_strdup(h->from_name != NULL ? h->from_name : "");
	return address_header_check(*name);
}

/* The checks of the login: a user with either a password or a token. */
static char *check_login(const struct email *h)
{
	bool user = given(h->smtp_user) != NULL, pass = given(h->smtp_pass) != NULL;
	bool token = given(h->smtp_token_file) != NULL || given(h->smtp_token_command) != NULL;
	bool wants_token = g_str_has_prefix(h->smtp_auth, "xoauth2") || g_str_has_prefix(h->smtp_auth, "oauthbearer");

	if (given(h->smtp_token_file) != NULL && given(h->smtp_token_command) != NULL)
		return g_strdup("smtp_token_file and smtp_token_command: only one of them can be the token's source");
	if (user != (pass || token))
		return g_strdup_printf("smtp_user and smtp_pass (SMTP_USER, SMTP_PASS): %s is missing",
			user ? "smtp_pass" : "smtp_user");
	if (wants_token && !token)
		return g_strdup_printf("smtp_auth = %s needs smtp_token_file or smtp_token_command", h->smtp_auth);
	if (token && strcmp(h->smtp_auth, "auto") != 0 && !wants_token)
		return g_strdup_printf("smtp_auth = %s needs a password, not a token", h->smtp_auth);
	return NULL;
}

/* The checks of SMTP. */
static char *check_server(const struct email *h)
{
	char *reason, *server = given(h->smtp_host) != NULL ? address_server(h->smtp_host) : NULL;

	g_free(server);
	if (given(h->smtp_host) == NULL)
		return g_strdup("smtp_host (SMTP_HOST) is missing");
	if (server == NULL)
		return g_strdup("smtp_host: it is neither a host name nor an IP address");
	if (h->smtp_port < 1 || h->smtp_port > 65535)
		return g_strdup("smtp_port: it must be between 1 and 65535");
	if ((reason = check_login(h)) != NULL)
		return reason;
	if (tls_of(h) == SMTP_TLS_NONE && !address_is_loopback(h->smtp_host) && !h->smtp_allow_insecure)
		return g_strdup("smtp_tls: none would send the password and the mails readable over the network; "
				"use starttls or tls, or set smtp_allow_insecure = yes");
	if (given(h->smtp_ehlo) != NULL && !address_host_ok(h->smtp_ehlo))
		return g_strdup("smtp_ehlo: it is not a host name");
	return NULL;
}

const struct provider provider_smtp = { .name = "smtp", .check = check_server };

/* The checks of one list of providers, and of each of them. */
static char *check_providers(const struct email *h, const char *option, const char *text)
{
	const struct provider *list[PROVIDERS_MAX];
	unsigned n;
	char *reason = provider_list(text, list, &n), *why;

	if (reason != NULL) {
		why = g_strdup_printf("%s: %s", option, reason);
		g_free(reason);
		return why;
	}
	for (unsigned i = 0; i < n && reason == NULL; i++)
		reason = list[i]->check(h);
	return reason;
}

/* The checks of one address. */
static char *check_address(const char *option, const char *text)
{
	char *address = NULL;
	const char *wrong = given(text) != NULL ? address_parse(text, &address) : NULL;

	g_free(address);
	return wrong != NULL ? g_strdup_printf("%s: %s", option, wrong) : NULL;
}

/* The checks of what is for tests, and of the headers. */
static char *check_modes(const struct email *h)
{
	char *reason = check_address("redirect_all_to", h->redirect_all_to);

	if (reason == NULL)
		reason = check_address("bounce_address", h->bounce_address);
	if (reason == NULL && given(h->bounce_address) != NULL &&
		strchr(h->bounce_address, '@') - h->bounce_address > ADDRESS_LOCAL_MAX - 33)
		reason = g_strdup("bounce_address: its local part is too long for +TOKEN");
	if (reason == NULL && (given(h->redirect_all_to) != NULL || given(h->dry_run) != NULL) && h->production &&
		!h->force_test_mode)
		reason = g_strdup("redirect_all_to and dry_run keep mails from people, and production = yes; take them "
				  "out, or set "
				  "force_test_mode = yes");
	if (reason == NULL && given(h->dkim_key) != NULL &&
		(given(h->dkim_selector) == NULL || !address_host_ok(h->dkim_selector)))
		reason = g_strdup("dkim_selector: dkim_key needs it, and it must be like a host name");
	if (reason == NULL && given(h->dkim_domain) != NULL && !address_host_ok(h->dkim_domain))
		reason = g_strdup("dkim_domain: it is not a domain");
	if (reason == NULL && given(h->unsubscribe_url) != NULL && strlen(h->unsubscribe_url) > 800)
		reason = g_strdup("unsubscribe_url: it is too long");
	if (reason == NULL && given(h->attachment_buckets) != NULL &&
		(given(h->supabase_url) == NULL || given(h->service_key) == NULL))
		reason = g_strdup("attachment_buckets: supabase_url (SUPABASE_URL) and service_key "
				  "(SUPABASE_SERVICE_ROLE_KEY) are needed, too");
	if (reason == NULL && given(h->feedback_id) != NULL &&
		strspn(h->feedback_id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") !=
			strlen(h->feedback_id))
		reason = g_strdup("feedback_id: only letters, digits and . _ - may stand there");
	if (reason == NULL && (h->ttl < 0 || h->ttl_reminder < 0))
		reason = g_strdup("ttl, ttl_reminder: they must not be negative");
	return reason;
}

/* The checks of the limits. */
static char *check_limits(const struct email *h)
{
	struct limits l = { 0 };
	char *wrong = limits_parse(&l, h->limits_text),
	     *reason = wrong != NULL ? g_strdup_printf("limits: %s", wrong) : NULL;

	limits_clear(&l);
	g_free(wrong);
	return reason;
}

char *email_options_check(const struct email *h)
{
	char *reason = check_providers(h, "provider (EMAIL_PROVIDER)", h->provider), *address = NULL, *name = NULL;
	const char *wrong;

	if (reason == NULL && given(h->provider_reminder) != NULL)
		reason = check_providers(h, "provider_reminder (EMAIL_PROVIDER_REMINDER)", h->provider_reminder);
	if (reason != NULL)
		return reason;
	if (h->connections < 1 || h->connections > 1000)
		return g_strdup("connections: it must be between 1 and 1000");
	if (h->mails_per_connection < 1 || h->mails_per_connection > 1000000)
		return g_strdup("mails_per_connection: it must be between 1 and 1000000");
	if (h->attachment_timeout <= 0 || h->idle_timeout <= 0 || h->connect_timeout <= 0 || h->command_timeout <= 0 ||
		h->data_timeout <= 0 || h->http_timeout <= 0 || h->circuit_open <= 0)
		return g_strdup("attachment_timeout, idle_timeout, connect_timeout, command_timeout, data_timeout, "
				"http_timeout, circuit_open: each must be longer than 0");
	if (h->max_message_bytes < 1024 || h->max_message_bytes > (uint64_t)1 << 30)
		return g_strdup("max_message_bytes: it must be between 1kB and 1GB");
	if ((wrong = parse_from(h, &address, &name)) != NULL)
		reason = g_strdup_printf("from (SMTP_FROM) and from_name (SMTP_FROM_NAME): %s", wrong);
	g_free(name);
	g_free(address);
	address = NULL;
	if (reason == NULL)
		reason = check_limits(h);
	if (reason == NULL)
		reason = check_modes(h);
	name = NULL;
	if (reason == NULL && given(h->reply_to) != NULL &&
		(wrong = address_mailbox(h->reply_to, &name, &address)) != NULL)
		reason = g_strdup_printf("reply_to: %s", wrong);
	g_free(address);
	g_free(name);
	return reason;
}

/* Makes a route of a list of providers; one that is in both lists is one way. */
static void route_add(struct routes *r, const struct provider *const *list, unsigned n, struct route *route)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned k = 0;

		while (k < r->n && r->ways[k].provider != list[i])
			k++;
		if (k == r->n)
			r->ways[r->n++].provider = list[i];
		route->ways[route->n++] = &r->ways[k];
	}
}

/* Makes the routes of both kinds of mail; the lists have been checked. */
static void apply_routes(struct email *h)
{
	const struct provider *list[PROVIDERS_MAX];
	unsigned n;
	GString *safe = g_string_new(NULL);

	g_free(provider_list(h->provider, list, &n));
	route_add(&h->routes, list, n, &h->route[MAIL_TRANSACTIONAL]);
	g_free(provider_list(given(h->provider_reminder) != NULL ? h->provider_reminder : h->provider, list, &n));
	route_add(&h->routes, list, n, &h->route[MAIL_REMINDER]);
	h->routes.open_ms = h->circuit_open;
	for (unsigned i = 0; i < h->routes.n; i++)
		if (h->routes.ways[i].provider->idempotent)
			g_string_append_printf(
				safe, "%s%s", safe->len > 0 ? "," : "", h->routes.ways[i].provider->name);
	h->ledger.safe = g_string_free(safe, FALSE);
}

void email_options_apply(struct email *h)
{
	struct smtp_settings *s = &h->settings;

	apply_routes(h);
	g_free(limits_parse(&h->limits, h->limits_text));
	if (given(h->redirect_all_to) != NULL)
		address_parse(h->redirect_all_to, &h->redirect_address);
	if (given(h->bounce_address) != NULL)
		address_parse(h->bounce_address, &h->bounce_checked);
	h->limits_shared = g_strcmp0(h->limit_scope, "cluster") == 0;
	parse_from(h, &h->from_address, &h->from_display);
	h->domain = strchr(h->from_address, '@') + 1;
	if (given(h->reply_to) != NULL)
		address_mailbox(h->reply_to, &h->reply_display, &h->reply_address);
	s->host = h->server = given(h->smtp_host) != NULL ? address_server(h->smtp_host) : NULL;
	s->port = (unsigned)h->smtp_port;
	s->tls = tls_of(h);
	s->ca_file = given(h->smtp_ca_file);
	s->user = given(h->smtp_user);
	s->pass = h->smtp_pass;
	s->auth = h->smtp_auth;
	/* Not the machine's name: in a container that is a row of hex digits, and servers judge senders by it. */
	s->ehlo = given(h->smtp_ehlo) != NULL ? h->smtp_ehlo : h->domain;
	s->connections = (unsigned)h->connections;
	s->mails_per_connection = (unsigned)h->mails_per_connection;
	s->idle_timeout = h->idle_timeout;
	s->connect_timeout = h->connect_timeout;
	s->command_timeout = h->command_timeout;
	s->data_timeout = h->data_timeout;
}

void email_options_release(struct email *h)
{
	for (unsigned i = 0; i < h->routes.n; i++) {
		g_free(h->routes.ways[i].reason);
		doubt_clear(&h->routes.ways[i].doubt);
	}
	memset(&h->routes, 0, sizeof(h->routes));
	memset(h->route, 0, sizeof(h->route));
	limits_clear(&h->limits);
	g_free(h->redirect_address);
	g_free(h->bounce_checked);
	h->redirect_address = h->bounce_checked = NULL;
	g_free(h->ledger.safe);
	h->ledger.safe = NULL;
	g_free(h->server);
	h->server = NULL;
	g_free(h->from_address);
	g_free(h->from_display);
	g_free(h->reply_address);
	g_free(h->reply_display);
	h->from_address = h->from_display = h->reply_address = h->reply_display = NULL;
}
