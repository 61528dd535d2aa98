/* verdict.c: the tables that turn SMTP replies and libcurl's errors into one of five outcomes. */
#include "config.h"

#include "verdict.h"

#include <curl/curl.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define AT(stage) (1U << (stage))
#define ANYWHERE (~0U)
#define MAIL_IN_HAND (AT(STAGE_MAIL) | AT(STAGE_RCPT) | AT(STAGE_DATA) | AT(STAGE_DOT))

/* The first row that fits decides. `enhanced` is a prefix that ends at a dot or at the end; NULL: whatever it is. */
static const struct {
	unsigned stages;
	int low, high;
	const char *enhanced;
	enum mail_class is;
} rules[] = {
	{ ANYWHERE, 400, 499, NULL, MAIL_TRANSIENT }, /* 421 included */
	/* Login wanted or refused, TLS wanted (RFC 4954, RFC 3207), wherever a server thinks of it. */
	{ ANYWHERE, 530, 530, NULL, MAIL_CONFIG },
	{ ANYWHERE, 534, 535, NULL, MAIL_CONFIG },
	{ ANYWHERE, 538, 538, NULL, MAIL_CONFIG },
	{ ANYWHERE, 500, 599, "5.7.8", MAIL_CONFIG },
	{ ANYWHERE, 500, 599, "5.7.9", MAIL_CONFIG },
	{ ANYWHERE, 500, 599, "5.7.11", MAIL_CONFIG },
	/* The account's quota is used up. */
	{ ANYWHERE, 500, 599, "5.4.5", MAIL_CONFIG },
	/* A greeting, EHLO or login that is refused for good has nothing to do with the mail. */
	{ AT(STAGE_CONNECT), 500, 599, NULL, MAIL_CONFIG },
	/* A full mailbox empties: RFC 5321 4.5.3.1.10 wants 552 at RCPT read as 452. */
	{ ANYWHERE, 500, 599, "5.2.2", MAIL_TRANSIENT },
	{ AT(STAGE_RCPT), 552, 552, NULL, MAIL_TRANSIENT },
	/* MAIL names our own sender and the mail's size; but for the size every mail would be refused. */
	{ AT(STAGE_MAIL), 552, 552, NULL, MAIL_PERMANENT },
	{ AT(STAGE_MAIL), 500, 599, "5.3.4", MAIL_PERMANENT },
	{ AT(STAGE_MAIL), 500, 599, "5.2.3", MAIL_PERMANENT },
	{ AT(STAGE_MAIL), 500, 599, NULL, MAIL_CONFIG },
	{ MAIL_IN_HAND, 500, 599, NULL, MAIL_PERMANENT },
	{ AT(STAGE_DOT), 200, 299, NULL, MAIL_SENT },
	{ AT(STAGE_DOT), 300, 399, NULL, MAIL_UNKNOWN },
};

/* Whether `code` is `prefix` or goes on below it. */
static int enhanced_fits(const char *code, const char *prefix)
{
	size_t n;

	if (prefix == NULL)
		return 1;
	n = strlen(prefix);
	return strncmp(code, prefix, n) == 0 && (code[n] == '\0' || code[n] == '.');
}

enum mail_class verdict_reply(enum smtp_stage stage, int code, const char *enhanced)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if ((rules[i].stages & AT(stage)) != 0 && code >= rules[i].low && code <= rules[i].high &&
			enhanced_fits(enhanced, rules[i].enhanced))
			return rules[i].is;
	/* 2xx or 3xx out of turn: not a server that we understand just now, and nothing has been handed over. */
	return MAIL_TRANSIENT;
}

bool verdict_no_mailbox(enum smtp_stage stage, int code, const char *enhanced)
{
	/* Without an enhanced code, 550 may be anything: many servers say it of senders that they dislike. */
	static const char *const codes[] = { "5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10" };

	if (stage == STAGE_RCPT && code >= 550 && code <= 553)
		for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
			if (strcmp(enhanced, codes[i]) == 0)
				return true;
	return false;
}

/* CURLcodes of the connection phase that more patience does not cure. Everything else is transient. */
static const int config_codes[] = {
	CURLE_UNSUPPORTED_PROTOCOL,
	CURLE_URL_MALFORMAT,
	CURLE_NOT_BUILT_IN,
	CURLE_BAD_FUNCTION_ARGUMENT,
	CURLE_UNKNOWN_OPTION,
	CURLE_SSL_ENGINE_NOTFOUND,
	CURLE_SSL_CERTPROBLEM,
	CURLE_SSL_CIPHER,
	CURLE_PEER_FAILED_VERIFICATION,
	CURLE_USE_SSL_FAILED,
	CURLE_SSL_CACERT_BADFILE,
	CURLE_SSL_ISSUER_ERROR,
	CURLE_SSL_INVALIDCERTSTATUS,
	CURLE_LOGIN_DENIED,
	CURLE_REMOTE_ACCESS_DENIED,
};

enum mail_class verdict_connect(int curl_code, int reply_code, long os_errno, const char *text)
{
	/* These are told apart by the certificate or the capabilities, whatever was answered before. */
	if (curl_code == CURLE_PEER_FAILED_VERIFICATION || curl_code == CURLE_USE_SSL_FAILED)
		return reply_code >= 400 && reply_code < 500 ? MAIL_TRANSIENT : MAIL_CONFIG;
	if (reply_code >= 400)
		return verdict_reply(STAGE_CONNECT, reply_code, "");
	/* A handshake that fails is a mismatch of the two sides' TLS, unless the line just broke. */
	if (curl_code == CURLE_SSL_CONNECT_ERROR) {
		if (os_errno == ECONNRESET || os_errno == EPIPE || os_errno == ETIMEDOUT ||
			strstr(text, "SSL_ERROR_SYSCALL") != NULL || strstr(text, "unexpected eof") != NULL ||
			strstr(text, "reset by peer") != NULL)
			return MAIL_TRANSIENT;
		return MAIL_CONFIG;
	}
	for (size_t i = 0; i < sizeof(config_codes) / sizeof(config_codes[0]); i++)
		if (curl_code == config_codes[i])
			return MAIL_CONFIG;
	return MAIL_TRANSIENT;
}

const char *verdict_stage_name(enum smtp_stage stage)
{
	static const char *const names[] = { "the connection", "the sender", "the recipient", "the mail", "the mail" };

	return names[stage];
}
