/* verdict.h: what a server's answer, or a failure of the connection, means for a mail. */
#ifndef EMAIL_VERDICT_H
#define EMAIL_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

/* Where in the conversation. */
enum smtp_stage { STAGE_CONNECT = 0, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_DOT };

enum mail_class {
	MAIL_SENT = 0,  /* the other side has taken the mail over */
	MAIL_TRANSIENT, /* not now */
	MAIL_PERMANENT, /* never */
	MAIL_CONFIG,    /* no mail would get through: settings, login, certificate, quota */
	MAIL_UNKNOWN    /* the connection went away between the whole mail and its answer */
};

/* How a mail ended. Valid inside the callback that tells of it only. */
struct mail_result {
	enum mail_class is;
	char *text;       /* for people: the answer, or what is wrong; without addresses */
	char *id;         /* by which the provider knows a mail that was sent; NULL: none told */
	int64_t delay_ms; /* wanted before the next try; 0: none told */
	bool throttled;   /* too many, too fast */
	bool unreached;   /* there was no connection at all */
	bool no_mailbox;  /* nobody has this address, and nobody will have it tomorrow */
	bool hold;        /* an unknown one that must not be repeated whatever the policy is */
};

/* A refusal, or at STAGE_DOT any reply. `enhanced` may be "". */
enum mail_class verdict_reply(enum smtp_stage stage, int code, const char *enhanced);

/* Whether a refusal says that the recipient's mailbox does not exist. */
bool verdict_no_mailbox(enum smtp_stage stage, int code, const char *enhanced);

/* A CURLcode that ended the connection phase. `reply_code` is the last reply's code that was a refusal, or 0;
 * `os_errno` is CURLINFO_OS_ERRNO; `text` is libcurl's error text. */
enum mail_class verdict_connect(int curl_code, int reply_code, long os_errno, const char *text);

/* What the server was asked to do, for "the server refused WHAT". */
const char *verdict_stage_name(enum smtp_stage stage);

#endif
