/* verdict.c: the tables that turn SMTP replies and libcurl's errors into the classes of outcomes. */
#include "config.h"

#include "verdict.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#define AT(stage) (1U << (stage))
#define ANYWHERE (~0U)
#define ENVELOPE (AT(STAGE_RCPT) | AT(STAGE_DATA))
#define MAIL_IN_HAND (AT(STAGE_MAIL) | AT(STAGE_RCPT) | AT(STAGE_DATA) | AT(STAGE_DOT))

/* The words of a text for which a rule fits. */
enum says { ANYTHING = 0, SAYS_GREYLIST, SAYS_SLOWER, SAYS_QUOTA, SAYS_ALLOWANCE, SAYS_US, SAYS_SENDER };

/* The first row that fits decides. `enhanced` is a prefix that ends at a dot or at the end; NULL: whatever it is. */
static const struct {
	unsigned stages;
	int low, high;
	const char *enhanced;
	enum says says;
	enum mail_class is;
} rules[] = {
	/* Before there is a mail, a server that says "not now" is as good as away. */
	{ AT(STAGE_CONNECT), 400, 499, NULL, ANYTHING, MAIL_UNREACHED },
	/* The recipient's mailbox, its quota and its rate are no affair of the others. */
	{ ANYWHERE, 400, 499, "4.1", ANYTHING, MAIL_LATER },
	{ ANYWHERE, 400, 499, "4.2", ANYTHING, MAIL_LATER },
	{ ANYWHERE, 400, 499, NULL, SAYS_GREYLIST, MAIL_LATER },
	/* The account's day is over: Amazon says so with 454, Google and Microsoft with 550. */
	{ ANYWHERE, 500, 599, "5.4.5", ANYTHING, MAIL_QUOTA },
	{ MAIL_IN_HAND, 400, 499, NULL, SAYS_QUOTA, MAIL_QUOTA },
	{ MAIL_IN_HAND, 500, 599, NULL, SAYS_ALLOWANCE, MAIL_QUOTA },
	/* Too fast. */
	{ ANYWHERE, 421, 421, NULL, ANYTHING, MAIL_SLOWER },
	{ ANYWHERE, 400, 499, "4.3.2", ANYTHING, MAIL_SLOWER },
	{ ANYWHERE, 400, 499, "4.4.5", ANYTHING, MAIL_SLOWER },
	{ ANYWHERE, 400, 499, NULL, SAYS_SLOWER, MAIL_SLOWER },
	/* 4.7.1 for a recipient is greylisting, in whatever words. */
	{ AT(STAGE_RCPT), 400, 499, "4.7.1", ANYTHING, MAIL_LATER },
	{ ANYWHERE, 400, 499, "4.7", ANYTHING, MAIL_SLOWER },
	/* Its disk, its queue: every mail would be refused. */
	{ ANYWHERE, 400, 499, "4.3", ANYTHING, MAIL_AWAY },
	{ AT(STAGE_MAIL) | AT(STAGE_DATA) | AT(STAGE_DOT), 400, 499, NULL, ANYTHING, MAIL_AWAY },
	{ ANYWHERE, 400, 499, NULL, ANYTHING, MAIL_LATER },
	/* Login wanted or refused, TLS wanted (RFC 4954, RFC 3207), wherever a server thinks of it. */
	{ ANYWHERE, 530, 530, NULL, ANYTHING, MAIL_CONFIG },
	{ ANYWHERE, 534, 535, NULL, ANYTHING, MAIL_CONFIG },
	{ ANYWHERE, 538, 538, NULL, ANYTHING, MAIL_CONFIG },
	/* Of the mail itself 5.7.9 is said as well (Yahoo, of its policies): that is no login. */
	{ AT(STAGE_RCPT), 500, 599, "5.7.8", ANYTHING, MAIL_CONFIG },
	{ AT(STAGE_RCPT), 500, 599, "5.7.9", ANYTHING, MAIL_CONFIG },
	{ AT(STAGE_RCPT), 500, 599, "5.7.11", ANYTHING, MAIL_CONFIG },
	/* A greeting, EHLO or login that is refused for good has nothing to do with the mail. */
	{ AT(STAGE_CONNECT), 500, 599, NULL, ANYTHING, MAIL_CONFIG },
	/* A full mailbox empties: RFC 5321 4.5.3.1.10 wants 552 at RCPT read as 452. */
	{ ANYWHERE, 500, 599, "5.2.2", ANYTHING, MAIL_LATER },
	{ AT(STAGE_RCPT), 552, 552, NULL, ANYTHING, MAIL_LATER },
	/* MAIL names our own sender and the mail's size; but for the size every mail would be refused. */
	{ AT(STAGE_MAIL), 552, 552, NULL, ANYTHING, MAIL_PERMANENT },
	{ AT(STAGE_MAIL), 500, 599, "5.3.4", ANYTHING, MAIL_PERMANENT },
	{ AT(STAGE_MAIL), 500, 599, "5.2.3", ANYTHING, MAIL_PERMANENT },
	{ AT(STAGE_MAIL), 500, 599, NULL, ANYTHING, MAIL_CONFIG },
	/* These codes name the recipient. */
	{ ENVELOPE, 500, 599, "5.1.1", ANYTHING, MAIL_PERMANENT },
	{ ENVELOPE, 500, 599, "5.1.2", ANYTHING, MAIL_PERMANENT },
	{ ENVELOPE, 500, 599, "5.1.3", ANYTHING, MAIL_PERMANENT },
	{ ENVELOPE, 500, 599, "5.1.6", ANYTHING, MAIL_PERMANENT },
	{ ENVELOPE, 500, 599, "5.1.10", ANYTHING, MAIL_PERMANENT },
	/* A refused client, login, sender or right to relay likely concerns every mail. Servers tell of the sender at
	 * RCPT, too. */
	{ MAIL_IN_HAND, 500, 599, "5.1.7", ANYTHING, MAIL_POLICY },
	{ MAIL_IN_HAND, 500, 599, "5.1.8", ANYTHING, MAIL_POLICY },
	{ ENVELOPE, 500, 599, NULL, SAYS_US, MAIL_POLICY },
	{ MAIL_IN_HAND, 500, 599, NULL, SAYS_SENDER, MAIL_POLICY },
	{ ENVELOPE, 500, 599, "5.7", ANYTHING, MAIL_POLICY_VAGUE },
	{ ENVELOPE, 554, 554, NULL, ANYTHING, MAIL_POLICY_VAGUE },
	{ MAIL_IN_HAND, 500, 599, NULL, ANYTHING, MAIL_PERMANENT },
	{ AT(STAGE_DOT), 200, 299, NULL, ANYTHING, MAIL_SENT },
	{ AT(STAGE_DOT), 300, 399, NULL, ANYTHING, MAIL_UNKNOWN },
};

/* Whether `code` is `prefix` or goes on below it. */
static bool enhanced_fits(const char *code, const char *prefix)
{
	size_t n;

	if (prefix == NULL)
		return true;
	n = strlen(prefix);
	return strncmp(code, prefix, n) == 0 && (code[n] == '\0' || code[n] == '.');
}

/* Whether a text has one of the words, in whatever case; `whole`: not inside a longer word. */
static bool has_word(const char *text, const char *const *words, size_t n, bool whole)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(words[i]);

		for (const char *p = text; (p = strcasestr(p, words[i])) != NULL; p++)
			if (!whole ||
				((p == text || !isalpha((unsigned char)p[-1])) && !isalpha((unsigned char)p[len])))
				return true;
	}
	return false;
}

#define HAS(text, list, whole) has_word(text, list, sizeof(list) / sizeof((list)[0]), whole)

bool verdict_says_slower(const char *text)
{
	static const char *const parts[] = { "too many", "too much mail", "too fast", "too quickly", "too frequent",
		"throttl", "quota", "ratelimit", "slow down", "concurrent", "unexpected volume" };
	static const char *const words[] = { "rate", "rates" };
	static const char *const limit[] = { "limit", "maximum" }, *const over[] = { "exceed", "reached" };
	static const char *const room[] = { "mailbox", "size", "storage", "disk" };

	return HAS(text, parts, false) || HAS(text, words, true) ||
	       (HAS(text, limit, false) && HAS(text, over, false) && !HAS(text, room, false));
}

bool verdict_says_quota(const char *text)
{
	static const char *const when[] = { "daily", "per day", "24 hour", "24-hour", "for today" };
	static const char *const what[] = { "quota", "limit", "maximum", "exceeded" };

	return HAS(text, when, false) && HAS(text, what, false);
}

bool verdict_says_allowance(const char *text)
{
	static const char *const ours[] = { "sending limit", "sending quota", "submission quota", "submissionquota",
		"email quota", "messaging limit", "emails per hour", "messages per hour", "hourly limit",
		"hourly quota", "credits exceeded", "allowed to send: recipient limit" };

	return verdict_says_quota(text) || HAS(text, ours, false);
}

/* Whether a text says what a rule wants. */
static bool text_fits(const char *text, enum says says)
{
	static const char *const grey[] = { "greylist", "graylist", "grey list", "gray list", "grey-list",
		"gray-list" };
	static const char *const us[] = { "relay", "rcpthosts", "sender", "authenticat", "not authori", "client host",
		"blocked using", "blacklist", "blocklist", "block list", "reverse dns", "not owned by" };
	static const char *const sender[] = { "sendasdenied", "send as this sender", "not verified", "relay access",
		"sender signature", "sending paused", "sending suspended", "paused for this account",
		"suspended for this account", "sending activity", "outgoing blocked", "bad outbound", "banned send",
		"spam abuse", "tenant", "traffic not accepted" };

	switch (says) {
	case ANYTHING:
		return true;
	case SAYS_GREYLIST:
		return HAS(text, grey, false);
	case SAYS_SLOWER:
		return verdict_says_slower(text);
	case SAYS_QUOTA:
		return verdict_says_quota(text);
	case SAYS_ALLOWANCE:
		return verdict_says_allowance(text);
	case SAYS_US:
		return HAS(text, us, false);
	case SAYS_SENDER:
		return HAS(text, sender, false);
	}
	return false;
}

enum mail_class verdict_reply(enum smtp_stage stage, int code, const char *enhanced, const char *text)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if ((rules[i].stages & AT(stage)) != 0 && code >= rules[i].low && code <= rules[i].high &&
			enhanced_fits(enhanced, rules[i].enhanced) && text_fits(text, rules[i].says))
			return rules[i].is;
	/* 2xx or 3xx out of turn: not a server that we understand just now, and nothing has been handed over. */
	return MAIL_AWAY;
}

bool verdict_of_connection(int code, const char *text)
{
	static const char *const where[] = { "session", "connection" };
	static const char *const what[] = { "too many", "enough", "limit", "exceed", "max", "reconnect" };

	return code >= 400 && HAS(text, where, false) && HAS(text, what, false) &&
	       strcasestr(text, "concurrent") == NULL;
}

bool verdict_of_recipient(enum smtp_stage stage, int code)
{
	return stage == STAGE_RCPT && code >= 550 && code <= 553;
}

bool verdict_of_sender(enum smtp_stage stage, int code, const char *enhanced)
{
	return stage == STAGE_MAIL && code >= 550 && code <= 554 && !enhanced_fits(enhanced, "5.7.8") &&
	       !enhanced_fits(enhanced, "5.7.9") && !enhanced_fits(enhanced, "5.7.11") &&
	       verdict_reply(stage, code, enhanced, "") == MAIL_CONFIG;
}

/* CURLcodes of the connection phase that more patience does not cure. With everything else there is no connection just
 * now. */
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
		return reply_code >= 400 && reply_code < 500 ? MAIL_UNREACHED : MAIL_CONFIG;
	if (reply_code >= 400)
		return verdict_reply(STAGE_CONNECT, reply_code, "", "");
	/* A handshake that fails is a mismatch of the two sides' TLS, unless the line just broke. */
	if (curl_code == CURLE_SSL_CONNECT_ERROR) {
		if (os_errno == ECONNRESET || os_errno == EPIPE || os_errno == ETIMEDOUT ||
			strstr(text, "SSL_ERROR_SYSCALL") != NULL || strstr(text, "unexpected eof") != NULL ||
			strstr(text, "reset by peer") != NULL)
			return MAIL_UNREACHED;
		return MAIL_CONFIG;
	}
	for (size_t i = 0; i < sizeof(config_codes) / sizeof(config_codes[0]); i++)
		if (curl_code == config_codes[i])
			return MAIL_CONFIG;
	return MAIL_UNREACHED;
}

const char *verdict_stage_name(enum smtp_stage stage)
{
	static const char *const names[] = { "the connection", "the sender", "the recipient", "the mail", "the mail" };

	return names[stage];
}
