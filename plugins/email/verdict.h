/* verdict.h: what a server's answer, or a failure of the connection, means for a mail. */
#ifndef EMAIL_VERDICT_H
#define EMAIL_VERDICT_H

/* Where in the conversation. */
enum smtp_stage { STAGE_CONNECT = 0, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_DOT };

enum smtp_class {
	SMTP_SENT = 0,  /* the server has taken the mail over */
	SMTP_TRANSIENT, /* not now */
	SMTP_PERMANENT, /* never */
	SMTP_CONFIG,    /* no mail would get through: settings, login, certificate, quota */
	SMTP_UNKNOWN    /* the connection went away between the final dot and its answer */
};

/* A refusal, or at STAGE_DOT any reply. `enhanced` may be "". */
enum smtp_class verdict_reply(enum smtp_stage stage, int code, const char *enhanced);

/* A CURLcode that ended the connection phase. `reply_code` is the last reply's code that was a refusal, or 0;
 * `os_errno` is CURLINFO_OS_ERRNO; `text` is libcurl's error text. */
enum smtp_class verdict_connect(int curl_code, int reply_code, long os_errno, const char *text);

/* What the server was asked to do, for "the server refused WHAT". */
const char *verdict_stage_name(enum smtp_stage stage);

#endif
