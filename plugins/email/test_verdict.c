/* test_verdict.c: what each answer of a mail server means, one row a kind. */
#include "config.h"

#include "verdict.h"

#include <curl/curl.h>
#include <errno.h>
#include <glib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void replies(void **state)
{
	static const struct {
		enum smtp_stage stage;
		int code;
		const char *enhanced, *text;
		enum mail_class is;
	} rows[] = {
		{ STAGE_DOT, 250, "2.0.0", "Ok: queued", MAIL_SENT },
		{ STAGE_DOT, 299, "", "", MAIL_SENT },
		{ STAGE_DOT, 354, "", "", MAIL_UNKNOWN },
		/* greylisting, and other things that concern one recipient */
		{ STAGE_RCPT, 450, "4.2.0", "Recipient address rejected: Greylisted, see http://postgrey/",
			MAIL_LATER },
		{ STAGE_RCPT, 450, "4.7.1", "Greylisting in action, please come back later", MAIL_LATER },
		{ STAGE_RCPT, 451, "4.7.1", "try again later", MAIL_LATER },
		{ STAGE_DOT, 451, "4.7.1", "greylisted", MAIL_LATER },
		{ STAGE_RCPT, 450, "4.2.1", "receiving mail at a rate that prevents more", MAIL_LATER },
		{ STAGE_RCPT, 452, "4.2.2", "over quota", MAIL_LATER },
		{ STAGE_RCPT, 450, "", "mailbox busy", MAIL_LATER },
		{ STAGE_RCPT, 450, "4.1.2", "domain not found", MAIL_LATER },
		{ STAGE_RCPT, 552, "", "mailbox full", MAIL_LATER },
		{ STAGE_RCPT, 550, "5.2.2", "", MAIL_LATER },
		{ STAGE_DOT, 552, "5.2.2", "", MAIL_LATER },
		/* too fast, in all its shapes */
		{ STAGE_DOT, 454, "", "Throttling failure: Maximum sending rate exceeded.", MAIL_SLOWER },
		{ STAGE_MAIL, 421, "4.7.0", "Try again later", MAIL_SLOWER },
		{ STAGE_RCPT, 421, "", "", MAIL_SLOWER },
		{ STAGE_MAIL, 450, "4.7.1", "too many messages", MAIL_SLOWER },
		{ STAGE_MAIL, 451, "4.7.500", "Server busy", MAIL_SLOWER },
		{ STAGE_MAIL, 451, "4.3.2", "", MAIL_SLOWER },
		{ STAGE_RCPT, 452, "4.4.5", "", MAIL_SLOWER },
		{ STAGE_DATA, 452, "", "Too many messages in this session", MAIL_SLOWER },
		{ STAGE_RCPT, 451, "4.7.1", "rate limit exceeded", MAIL_SLOWER },
		{ STAGE_DOT, 450, "4.7.28", "unusual rate of mail", MAIL_SLOWER },
		{ STAGE_RCPT, 450, "", "RateLimited", MAIL_SLOWER },
		{ STAGE_RCPT, 450, "", "cannot operate; generated", MAIL_LATER },
		{ STAGE_MAIL, 432, "4.3.2", "Concurrent connections limit exceeded", MAIL_SLOWER },
		{ STAGE_DOT, 432, "", "Concurrent connections limit exceeded", MAIL_SLOWER },
		{ STAGE_DOT, 451, "", "You have exceeded your messaging limits", MAIL_SLOWER },
		{ STAGE_MAIL, 450, "", "too much mail from 192.0.2.1", MAIL_SLOWER },
		{ STAGE_MAIL, 450, "", "sent too quickly", MAIL_SLOWER },
		{ STAGE_DOT, 451, "", "Deferred due to unexpected volume or user complaints", MAIL_SLOWER },
		{ STAGE_RCPT, 452, "", "mailbox size limit exceeded", MAIL_LATER },
		/* the account's day is over */
		{ STAGE_DOT, 454, "", "Throttling failure: Daily message quota exceeded.", MAIL_QUOTA },
		{ STAGE_MAIL, 550, "5.4.5", "Daily user sending limit exceeded", MAIL_QUOTA },
		{ STAGE_DOT, 550, "5.4.5", "", MAIL_QUOTA },
		{ STAGE_DOT, 550, "5.1.90",
			"Your message can't be sent because you've reached your daily limit for "
			"message recipients",
			MAIL_QUOTA },
		{ STAGE_RCPT, 550, "5.7.232", "Your message can't be sent because your tenant exceeded its daily limit",
			MAIL_QUOTA },
		{ STAGE_DOT, 554, "5.2.0", "STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
			MAIL_QUOTA },
		{ STAGE_DOT, 550, "5.7.1", "Email quota exceeded.", MAIL_QUOTA },
		{ STAGE_RCPT, 550, "", "User a has exceeded its 24-hour sending limit.", MAIL_QUOTA },
		{ STAGE_MAIL, 550, "", "Domain a has exceeded the max emails per hour (100/100)", MAIL_QUOTA },
		{ STAGE_RCPT, 552, "", "<p>: mailbox quota exceeded", MAIL_LATER },
		{ STAGE_RCPT, 550, "", "<p>: the mailbox is over its quota", MAIL_PERMANENT },
		/* trouble of the server's own */
		{ STAGE_MAIL, 452, "4.3.1", "no room", MAIL_AWAY },
		{ STAGE_DATA, 451, "4.3.0", "queue file write error", MAIL_AWAY },
		{ STAGE_DATA, 451, "", "local error", MAIL_AWAY },
		{ STAGE_DOT, 451, "", "", MAIL_AWAY },
		{ STAGE_DATA, 354, "", "", MAIL_AWAY },
		{ STAGE_DATA, 250, "", "", MAIL_AWAY },
		{ STAGE_CONNECT, 421, "", "too many connections", MAIL_UNREACHED },
		{ STAGE_CONNECT, 454, "4.7.0", "TLS not available", MAIL_UNREACHED },
		{ STAGE_CONNECT, 450, "4.7.1", "greylisted", MAIL_UNREACHED },
		/* never */
		{ STAGE_DOT, 552, "", "", MAIL_PERMANENT },
		{ STAGE_DOT, 552, "5.3.4", "", MAIL_PERMANENT },
		{ STAGE_DOT, 554, "5.7.1", "", MAIL_PERMANENT },
		{ STAGE_DOT, 554, "5.7.9", "Message not accepted for policy reasons", MAIL_PERMANENT },
		{ STAGE_DATA, 550, "", "", MAIL_PERMANENT },
		{ STAGE_RCPT, 550, "5.1.1", "", MAIL_PERMANENT },
		{ STAGE_RCPT, 551, "", "", MAIL_PERMANENT },
		{ STAGE_RCPT, 553, "5.1.3", "", MAIL_PERMANENT },
		{ STAGE_MAIL, 552, "5.3.4", "", MAIL_PERMANENT },
		{ STAGE_MAIL, 554, "5.3.4", "", MAIL_PERMANENT },
		{ STAGE_RCPT, 554, "5.1.1", "<p>: relay says nobody", MAIL_PERMANENT },
		{ STAGE_DOT, 550, "5.7.1", "sender reputation: this is spam", MAIL_PERMANENT },
		/* never, and perhaps no other mail */
		{ STAGE_RCPT, 554, "5.7.1", "<p>: Relay access denied", MAIL_POLICY },
		{ STAGE_RCPT, 550, "", "relay not permitted", MAIL_POLICY },
		{ STAGE_RCPT, 551, "", "we do not relay", MAIL_POLICY },
		{ STAGE_RCPT, 550, "5.7.54", "SMTP; Unable to relay recipient in non-accepted domain", MAIL_POLICY },
		{ STAGE_RCPT, 553, "", "sorry, that domain isn't in my list of allowed rcpthosts", MAIL_POLICY },
		{ STAGE_RCPT, 553, "5.7.1", "<a>: Sender address rejected: not owned by user x", MAIL_POLICY },
		{ STAGE_RCPT, 550, "5.1.8", "<a>: Domain not found", MAIL_POLICY },
		{ STAGE_RCPT, 550, "", "Sender verify failed", MAIL_POLICY },
		{ STAGE_RCPT, 554, "5.7.1", "Service unavailable; Client host [192.0.2.1] blocked using x",
			MAIL_POLICY },
		{ STAGE_DATA, 550, "5.7.1", "Authentication required", MAIL_POLICY },
		{ STAGE_DOT, 554, "", "Message rejected: Email address is not verified.", MAIL_POLICY },
		{ STAGE_DOT, 554, "5.2.252", "SendAsDenied; a not allowed to send as b", MAIL_POLICY },
		{ STAGE_DOT, 550, "5.7.60", "Client does not have permissions to send as this sender", MAIL_POLICY },
		{ STAGE_DOT, 554, "", "Sending paused for this account.", MAIL_POLICY },
		{ STAGE_DOT, 550, "5.1.8", "Access denied, bad outbound sender", MAIL_POLICY },
		{ STAGE_DOT, 550, "5.7.501", "Access denied, spam abuse detected", MAIL_POLICY },
		{ STAGE_DATA, 550, "5.7.708", "Access denied, traffic not accepted from this IP", MAIL_POLICY },
		{ STAGE_DOT, 550, "5.7.1", "Sender signature not confirmed", MAIL_POLICY },
		{ STAGE_DOT, 550, "5.4.6", "Unusual sending activity detected", MAIL_POLICY },
		{ STAGE_RCPT, 554, "5.7.1", "", MAIL_POLICY_VAGUE },
		{ STAGE_RCPT, 554, "5.7.13", "", MAIL_POLICY_VAGUE },
		{ STAGE_RCPT, 550, "5.7.80", "", MAIL_POLICY_VAGUE },
		{ STAGE_RCPT, 554, "", "Transaction failed", MAIL_POLICY_VAGUE },
		{ STAGE_DATA, 554, "", "", MAIL_POLICY_VAGUE },
		/* settings */
		{ STAGE_RCPT, 550, "5.7.8", "", MAIL_CONFIG },
		{ STAGE_RCPT, 530, "5.7.0", "", MAIL_CONFIG },
		{ STAGE_MAIL, 530, "", "", MAIL_CONFIG },
		{ STAGE_RCPT, 533, "", "", MAIL_PERMANENT },
		{ STAGE_RCPT, 534, "", "", MAIL_CONFIG },
		{ STAGE_RCPT, 535, "", "", MAIL_CONFIG },
		{ STAGE_RCPT, 536, "", "", MAIL_PERMANENT },
		{ STAGE_RCPT, 538, "", "", MAIL_CONFIG },
		{ STAGE_MAIL, 552, "", "", MAIL_PERMANENT },
		{ STAGE_MAIL, 535, "5.7.8", "", MAIL_CONFIG },
		{ STAGE_MAIL, 538, "", "", MAIL_CONFIG },
		{ STAGE_MAIL, 553, "5.7.1", "", MAIL_CONFIG },
		{ STAGE_MAIL, 550, "", "", MAIL_CONFIG },
		{ STAGE_CONNECT, 535, "", "", MAIL_CONFIG },
		{ STAGE_CONNECT, 554, "", "", MAIL_CONFIG },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		enum mail_class is = verdict_reply(rows[i].stage, rows[i].code, rows[i].enhanced, rows[i].text);

		if (is != rows[i].is)
			fail_msg("%d %s %s: %d, not %d", rows[i].code, rows[i].enhanced, rows[i].text, (int)is,
				(int)rows[i].is);
	}
}

/* Failures of the connecting phase. */
static void connect_verdicts(void **state)
{
	static const struct {
		int curl, reply;
		long os;
		const char *text;
		enum mail_class is;
	} rows[] = {
		{ CURLE_COULDNT_RESOLVE_HOST, 0, 0, "", MAIL_UNREACHED },
		{ CURLE_COULDNT_CONNECT, 0, ECONNREFUSED, "", MAIL_UNREACHED },
		{ CURLE_OPERATION_TIMEDOUT, 0, 0, "", MAIL_UNREACHED },
		{ CURLE_RECV_ERROR, 0, 0, "", MAIL_UNREACHED },
		{ CURLE_WEIRD_SERVER_REPLY, 421, 0, "", MAIL_UNREACHED },
		{ CURLE_WEIRD_SERVER_REPLY, 554, 0, "", MAIL_CONFIG },
		{ CURLE_LOGIN_DENIED, 535, 0, "", MAIL_CONFIG },
		{ CURLE_LOGIN_DENIED, 454, 0, "", MAIL_UNREACHED },
		{ CURLE_LOGIN_DENIED, 0, 0, "", MAIL_CONFIG },
		{ CURLE_PEER_FAILED_VERIFICATION, 0, 0, "", MAIL_CONFIG },
		{ CURLE_USE_SSL_FAILED, 0, 0, "", MAIL_CONFIG },
		{ CURLE_USE_SSL_FAILED, 454, 0, "", MAIL_UNREACHED },
		{ CURLE_USE_SSL_FAILED, 502, 0, "", MAIL_CONFIG },
		{ CURLE_SSL_CACERT_BADFILE, 0, 0, "", MAIL_CONFIG },
		{ CURLE_SSL_CONNECT_ERROR, 0, 0, "wrong version number", MAIL_CONFIG },
		{ CURLE_SSL_CONNECT_ERROR, 0, ECONNRESET, "", MAIL_UNREACHED },
		{ CURLE_SSL_CONNECT_ERROR, 0, 0, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection",
			MAIL_UNREACHED },
		{ CURLE_SSL_CONNECT_ERROR, 0, 0, "unexpected eof while reading", MAIL_UNREACHED },
		{ CURLE_URL_MALFORMAT, 0, 0, "", MAIL_CONFIG },
	};

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		assert_int_equal(verdict_connect(rows[i].curl, rows[i].reply, rows[i].os, rows[i].text), rows[i].is);
}

/* Only a refusal at RCPT is of the recipient: the same code for the sender or the mail says nothing of it. */
static void recipients(void **state)
{
	(void)state;
	for (int code = 550; code <= 553; code++)
		assert_true(verdict_of_recipient(STAGE_RCPT, code));
	assert_false(verdict_of_recipient(STAGE_MAIL, 550));
	assert_false(verdict_of_recipient(STAGE_DATA, 550));
	assert_false(verdict_of_recipient(STAGE_DOT, 550));
	assert_false(verdict_of_recipient(STAGE_RCPT, 450));
	assert_false(verdict_of_recipient(STAGE_RCPT, 554));
}

/* A connection that has carried enough is told from mails that come too fast. */
static void connections(void **state)
{
	(void)state;
	assert_true(verdict_of_connection(452, "Too many recipients received in this session"));
	assert_true(verdict_of_connection(451, "too many messages on this connection"));
	assert_true(verdict_of_connection(550, "Maximum number of messages per session exceeded"));
	assert_true(verdict_of_connection(452, "Session limit reached, reconnect"));
	assert_false(verdict_of_connection(432, "Concurrent connections limit exceeded"));
	assert_false(verdict_of_connection(452, "too many recipients"));
	assert_false(verdict_of_connection(451, "the connection to the database broke"));
	assert_false(verdict_of_connection(250, "connection limit"));
}

/* The sender is at fault where MAIL was refused for good; a missing login is not the sender's. */
static void senders(void **state)
{
	(void)state;
	assert_true(verdict_of_sender(STAGE_MAIL, 553, "5.7.1"));
	assert_true(verdict_of_sender(STAGE_MAIL, 550, ""));
	assert_false(verdict_of_sender(STAGE_MAIL, 530, "5.7.0"));
	assert_false(verdict_of_sender(STAGE_MAIL, 550, "5.7.8"));
	assert_false(verdict_of_sender(STAGE_MAIL, 552, "5.3.4"));
	assert_false(verdict_of_sender(STAGE_RCPT, 553, "5.7.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replies),
		cmocka_unit_test(connect_verdicts),
		cmocka_unit_test(recipients),
		cmocka_unit_test(connections),
		cmocka_unit_test(senders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
