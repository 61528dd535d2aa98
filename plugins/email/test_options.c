/* test_options.c: settings of the email plugin that contradict each other, and what the good ones lead to. */
#include "config.h"

#include "options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The smallest set of options. */
static struct email minimal(void)
{
	return (struct email){ .provider = "smtp",
		.smtp_host = "mail.example.test",
		.smtp_port = 587,
		.smtp_tls = "auto",
		.smtp_auth = "auto",
		.connections = 5,
		.mails_per_connection = 100,
		.max_message_bytes = 25 << 20,
		.idle_timeout = 15000,
		.connect_timeout = 30000,
		.command_timeout = 60000,
		.data_timeout = 120000,
		.http_timeout = 30000,
		.attachment_timeout = 30000,
		.circuit_open = 60000,
		.from = "noreply@example.test",
		.from_name = "Little Otter" };
}

/* Checks that `h` is refused with `word` in the reason. */
static void assert_refused(struct email h, const char *word)
{
	char *reason = email_options_check(&h);

	assert_non_null(reason);
	if (strstr(reason, word) == NULL)
		fail_msg("%s is not in: %s", word, reason);
	g_free(reason);
}

/* Changes one field of the smallest set. */
#define REFUSED(word, ...)                                                                                             \
	do {                                                                                                           \
		struct email h = minimal();                                                                            \
		__VA_ARGS__;                                                                                           \
		assert_refused(h, word);                                                                               \
	} while (0)

static void refused(void **state)
{
	(void)state;
	REFUSED("smtp_host", h.smtp_host = "mail.example.test/x");
	REFUSED("smtp_host", h.smtp_host = "a@b");
	REFUSED("resend_url: http would send the key", h.provider = "resend"; h.resend_key = "k";
		h.resend_url = "http://api.resend.test");
	REFUSED("ses_url: http would send the key", h.provider = "ses"; h.ses_url = "http://localhost.example.test");
	REFUSED("mailgun_url: http would send the key", h.provider = "mailgun";
		h.mailgun_url = "http://127.0.0.1.example.test");
	REFUSED("sendgrid_api_key", h.provider = "sendgrid"; h.sendgrid_url = "http://127.0.0.1:8025");
	REFUSED("smtp_port", h.smtp_port = 0);
	REFUSED("smtp_port", h.smtp_port = 65536);
	REFUSED("smtp_pass is missing", h.smtp_user = "u");
	REFUSED("smtp_user is missing", h.smtp_token_file = "/t");
	REFUSED("only one", h.smtp_user = "u", h.smtp_token_file = "/t", h.smtp_token_command = "t");
	REFUSED("needs smtp_token_file", h.smtp_user = "u", h.smtp_pass = "p", h.smtp_auth = "xoauth2");
	REFUSED("needs a password", h.smtp_user = "u", h.smtp_token_file = "/t", h.smtp_auth = "plain");
	REFUSED("smtp_user is missing", h.smtp_pass = "p");
	REFUSED("smtp_tls", h.smtp_tls = "none");
	REFUSED("smtp_tls", h.smtp_tls = "none"; h.smtp_host = "127.0.0.1.example.test");
	REFUSED("smtp_ehlo", h.smtp_ehlo = "a b");
	REFUSED("smtp_ehlo", h.smtp_ehlo = "a\r\nMAIL");
	REFUSED("connections", h.connections = 0);
	REFUSED("mails_per_connection", h.mails_per_connection = 0);
	REFUSED("data_timeout", h.data_timeout = 0);
	REFUSED("max_message_bytes", h.max_message_bytes = 10);
	REFUSED("from", h.from = "noreply");
	REFUSED("from", h.from = "a <b@e.test>\r\nBcc: <c@e.test>");
	REFUSED("from_name", h.from_name = "a\nb");
	REFUSED("reply_to", h.reply_to = "nobody");
	REFUSED("names no provider", h.provider = ",");
	REFUSED("pigeon is none of", h.provider = "smtp, pigeon");
	REFUSED("smtp stands there twice", h.provider = "smtp smtp");
	REFUSED("provider_reminder", h.provider_reminder = "pigeon");
	REFUSED("smtp_host (SMTP_HOST) is missing", h.smtp_host = "");
	REFUSED("resend_api_key (RESEND_API_KEY) is missing", h.provider = "resend");
	REFUSED("sendgrid_api_key", h.provider_reminder = "sendgrid");
	REFUSED("mailgun_api_key", h.provider = "smtp,mailgun");
	REFUSED("mailgun_domain", h.provider = "mailgun"; h.mailgun_key = "k"; h.mailgun_domain = "a/b");
	REFUSED("ses_region", h.provider = "ses"; h.ses_region = "eu.evil.example.test/");
	REFUSED("ses_access_key_id", h.provider = "ses"; h.ses_region = "eu-west-1");
	REFUSED("ses_secret_access_key", h.provider = "ses"; h.ses_region = "eu-west-1"; h.ses_access_key = "AKIA");
	REFUSED("http_timeout", h.http_timeout = 0);
	REFUSED("attachment_timeout", h.attachment_timeout = 0);
	REFUSED("attachment_buckets", h.attachment_buckets = "reports");
}

/* Lists of providers become routes that share what they have in common. */
static void routes(void **state)
{
	struct email h = minimal();

	(void)state;
	h.provider = "Resend, SMTP"; /* an old worker's .env may write it so */
	h.provider_reminder = "smtp";
	h.resend_key = "re_1";
	assert_null(email_options_check(&h));
	email_options_apply(&h);
	assert_int_equal(h.routes.n, 2);
	assert_int_equal(h.route[MAIL_TRANSACTIONAL].n, 2);
	assert_string_equal(h.route[MAIL_TRANSACTIONAL].ways[0]->provider->name, "resend");
	assert_int_equal(h.route[MAIL_REMINDER].n, 1);
	assert_ptr_equal(h.route[MAIL_REMINDER].ways[0], h.route[MAIL_TRANSACTIONAL].ways[1]);
	assert_string_equal(h.ledger.safe, "resend");
	email_options_release(&h);
}

/* An option that is given empty counts as not given. */
static void empty(void **state)
{
	struct email h = minimal();

	(void)state;
	h.smtp_user = h.smtp_pass = h.smtp_ca_file = h.smtp_ehlo = h.reply_to = h.from_name = "";
	assert_null(email_options_check(&h));
	email_options_apply(&h);
	assert_null(h.settings.user);
	assert_null(h.settings.ca_file);
	assert_null(h.reply_address);
	assert_string_equal(h.settings.ehlo, "example.test");
	email_options_release(&h);
}

/* Loopback needs no encryption, and a second request for none is granted. */
static void plain_text(void **state)
{
	static const char *const hosts[] = { "127.0.0.1", "127.1.2.3", "localhost", "mail.localhost", "::1" };
	struct email h = minimal();

	(void)state;
	h.smtp_tls = "none";
	for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
		h.smtp_host = hosts[i];
		assert_null(email_options_check(&h));
	}
	h.smtp_host = "mail.example.test";
	h.smtp_allow_insecure = 1;
	assert_null(email_options_check(&h));
}

/* The encryption by port and by word. */
static void encryption(void **state)
{
	static const struct {
		unsigned port;
		const char *word;
		enum smtp_tls is;
	} rows[] = {
		{ 587, "auto", SMTP_TLS_STARTTLS },
		{ 465, "auto", SMTP_TLS_IMPLICIT },
		{ 25, "auto", SMTP_TLS_STARTTLS },
		{ 2525, "auto", SMTP_TLS_STARTTLS },
		{ 465, "starttls", SMTP_TLS_STARTTLS },
		{ 587, "tls", SMTP_TLS_IMPLICIT },
		{ 587, "none", SMTP_TLS_NONE },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct email h = minimal();

		h.smtp_port = rows[i].port;
		h.smtp_tls = rows[i].word;
		email_options_apply(&h);
		assert_int_equal(h.settings.tls, rows[i].is);
		email_options_release(&h);
	}
}

/* The sender in its two forms. */
static void sender(void **state)
{
	static const struct {
		const char *from, *from_name, *address, *display;
	} rows[] = {
		{ "noreply@example.test", "Little Otter", "noreply@example.test", "Little Otter" },
		{ "Clinic <noreply@example.test>", "Little Otter", "noreply@example.test", "Clinic" },
		{ "\"A, B\" <noreply@example.test>", "Little Otter", "noreply@example.test", "A, B" },
		{ "<noreply@example.test>", "Little Otter", "noreply@example.test", "Little Otter" },
		{ "noreply@пример.рф", "Клиника", "noreply@xn--e1afmkfd.xn--p1ai", "Клиника" },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct email h = minimal();

		h.from = rows[i].from;
		h.from_name = rows[i].from_name;
		assert_null(email_options_check(&h));
		email_options_apply(&h);
		assert_string_equal(h.from_address, rows[i].address);
		assert_string_equal(h.from_display, rows[i].display);
		assert_string_equal(h.settings.ehlo, strchr(rows[i].address, '@') + 1);
		email_options_release(&h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused),
		cmocka_unit_test(empty),
		cmocka_unit_test(plain_text),
		cmocka_unit_test(encryption),
		cmocka_unit_test(sender),
		cmocka_unit_test(routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
