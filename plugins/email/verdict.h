/* verdict.h: what a server's answer, or a failure of the connection, means for a mail. */
#ifndef EMAIL_VERDICT_H
#define EMAIL_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

/* Where in the conversation. */
enum smtp_stage { STAGE_CONNECT = 0, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_DOT };

enum mail_class {
	MAIL_SENT = 0,     /* the other side has taken the mail over */
	MAIL_LATER,        /* it does not take this mail now: greylisting, a full mailbox */
	MAIL_SLOWER,       /* it takes no more mails at this rate */
	MAIL_QUOTA,        /* it takes no more mails until its quota is renewed */
	MAIL_AWAY,         /* it is in trouble: overloaded, out of order, the connection broke */
	MAIL_UNREACHED,    /* there was no connection at all */
	MAIL_PERMANENT,    /* never */
	MAIL_POLICY,       /* never, and likely no other mail: relaying, the sender, the client; doubt.c decides */
	MAIL_POLICY_VAGUE, /* the same, in words that may also mean this one recipient */
	MAIL_CONFIG,       /* no mail would get through: settings, login, certificate */
	MAIL_UNKNOWN       /* the connection went away between the whole mail and its answer */
};

/* How a mail ended. Valid inside the callback that tells of it only. */
struct mail_result {
	enum mail_class is;
	char *text;        /* for people: the answer, or what is wrong; without addresses */
	char *id;          /* by which the provider knows a mail that was sent; NULL: none told */
	int64_t delay_ms;  /* wanted before the next try; 0: none told */
	bool of_recipient; /* the recipient was refused for good: perhaps nobody has the address */
	bool of_sender;    /* the sender was refused: every mail that has it would be */
	bool hold;         /* an unknown one that must not be repeated whatever the policy is */
};

/* A refusal, or at STAGE_DOT any reply. `enhanced` and `text` may be "". */
enum mail_class verdict_reply(enum smtp_stage stage, int code, const char *enhanced, const char *text);

/* Whether a text says that mails come too fast, or that the quota of a day is used up. */
bool verdict_says_slower(const char *text);
bool verdict_says_quota(const char *text);

/* Whether a refusal is about how much the account may send, which renews itself. A mailbox that is full is not. */
bool verdict_says_allowance(const char *text);

/* Whether a refusal says that the connection has carried enough, and nothing of the mail. */
bool verdict_of_connection(int code, const char *text);

/* Whether a refusal is of the recipient, for good. Whether nobody has the address follows from the enhanced code, by
 * the one table of these: pgmqd.names_recipient() in sql/042_suppression.sql. */
bool verdict_of_recipient(enum smtp_stage stage, int code);

/* Whether a refusal is of the sender. */
bool verdict_of_sender(enum smtp_stage stage, int code, const char *enhanced);

/* A CURLcode that ended the connection phase. `reply_code` is the last reply's code that was a refusal, or 0;
 * `os_errno` is CURLINFO_OS_ERRNO; `text` is libcurl's error text. */
enum mail_class verdict_connect(int curl_code, int reply_code, long os_errno, const char *text);

/* The command that the server was given, for "the server refused WHAT". */
const char *verdict_stage_name(enum smtp_stage stage);

#endif
