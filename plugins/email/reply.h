/* reply.h: an SMTP server's replies out of a stream of bytes, and our own bytes made fit for DATA. */
#ifndef EMAIL_REPLY_H
#define EMAIL_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#define REPLY_LINE_MAX 4096
#define REPLY_LINES_MAX 100
#define REPLY_BLANKS_MAX 3
#define REPLY_TEXT_MAX 512 /* what is kept of the text */

struct reply {
	int code;                      /* 200 to 599 */
	char enhanced[12];             /* "5.1.1", or "" */
	char text[REPLY_TEXT_MAX + 1]; /* of all lines, joined by spaces, without codes and controls; cut to fit */
};

/* Holds what has come of a reply so far. All zero is a fresh one. */
struct reply_parser {
	struct reply reply;
	char line[REPLY_LINE_MAX];
	size_t len, text_len;
	unsigned lines, blanks; /* blanks: empty lines in front of the reply */
};

enum reply_status { REPLY_MORE = 0, REPLY_COMPLETE, REPLY_BROKEN };

/* Eats bytes up to the end of one reply and says in *used how many. COMPLETE: parser->reply holds it until the next
 * call. BROKEN: it is not SMTP what comes there; the parser must not be fed again. */
enum reply_status reply_feed(struct reply_parser *p, const char *data, size_t len, size_t *used);

/* "550 5.1.1 no such user", safe for a log: addresses, and `recipient`, its local part and its domain (may be NULL),
 * become [address]; control characters go. g_malloc'd. */
char *reply_describe(const struct reply *r, const char *recipient);

/* The same for any text of a server's. */
char *reply_redact(const char *text, const char *recipient);

/* A reply from one whole line, as libcurl hands them to a header callback; false when it is none. */
bool reply_from_line(struct reply *r, const char *line, size_t len);

/* A mail's bytes as they follow 354: every line ends in CRLF, a leading dot is doubled, and CRLF . CRLF ends it all.
 * g_malloc'd; its length goes to *out_len. */
char *reply_stuff_dots(const char *data, size_t len, size_t *out_len);

#endif
