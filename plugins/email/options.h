/* options.h: the plugin's handle and its table of options. */
#ifndef EMAIL_OPTIONS_H
#define EMAIL_OPTIONS_H

#include "ledger.h"
#include "quota.h"
#include "pgmqd-plugin.h"
#include "provider.h"
#include "route.h"
#include "smtp.h"

#include <glib.h>

/* A mail's value to its recipient: expected, or optional. */
enum mail_kind { MAIL_TRANSACTIONAL = 0, MAIL_REMINDER, MAIL_KINDS };

/* The handle: the options as the host fills them in, then what start() makes of them. */
struct email {
	const char *provider, *provider_reminder;
	const char *resend_key, *resend_url, *sendgrid_key, *sendgrid_url, *mailgun_key, *mailgun_domain, *mailgun_url;
	const char *ses_region, *ses_access_key, *ses_secret_key, *ses_session_token, *ses_configuration_set, *ses_url;
	int64_t http_timeout, circuit_open;
	const char *limits_text, *limit_scope;
	const char *bounce_address, *reminder_templates, *unsubscribe_url, *feedback_id;
	int64_t ttl, ttl_reminder;
	const char *dkim_key, *dkim_selector, *dkim_domain;
	const char *redirect_all_to, *allow_domains, *dry_run;
	int production, force_test_mode;
	const char *smtp_host, *smtp_user, *smtp_pass, *smtp_auth, *smtp_token_file, *smtp_token_command, *smtp_tls,
		*smtp_ca_file, *smtp_ehlo;
	uint64_t smtp_port, connections, mails_per_connection, max_message_bytes;
	int smtp_allow_insecure;
	int64_t idle_timeout, connect_timeout, command_timeout, data_timeout;
	const char *from, *from_name, *reply_to, *on_unknown;
	const char *allow_from, *attachment_hosts, *attachment_buckets, *supabase_url, *service_key;
	int64_t attachment_timeout;
	int attachment_private;
	int use_ledger, strict_keys;

	struct pgmqd_worker *worker;
	struct smtp_settings settings;
	struct token *token;    /* NULL: there is a password, or no login */
	struct smtp_pool *pool; /* NULL: no mails by SMTP */
	struct signer *signer;  /* NULL: mails are not signed */
	struct routes routes;
	struct route route[MAIL_KINDS];
	struct limits limits;
	bool limits_shared;
	struct ledger ledger;
	GHashTable *sendings;                    /* message → struct sending */
	char *redirect_address, *bounce_checked; /* NULL: none */
	char *server;                            /* smtp_host in its ASCII form */
	GHashTable *strange_keys;                /* names of keys that were told of */
	char *from_address, *from_display;       /* checked; display may be NULL */
	char *reply_address, *reply_display;     /* the same; both may be NULL */
	const char *domain;                      /* inside from_address */
};

extern const struct pgmqd_option email_options[];

/* Checks the options against each other. NULL, or what is wrong (g_malloc'd). */
char *email_options_check(const struct email *h);
/* Fills settings, from_address, from_display, reply_address and domain of options that have been checked. */
void email_options_apply(struct email *h);
void email_options_release(struct email *h);

#endif
