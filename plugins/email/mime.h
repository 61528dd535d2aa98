/* mime.h: the bytes of a mail. The same input gives the same bytes, always. */
#ifndef EMAIL_MIME_H
#define EMAIL_MIME_H

#include "message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIME_EXTRA_MAX 12

/* Everything that is in the mail; checked by address.h's checks before. NULL is "none" but for from, to, subject. */
struct mime_mail {
	const char *from, *from_name;
	const struct recipients *rcpt; /* those of bcc stay out of it */
	const char *reply_to, *reply_name;
	const char *subject;
	const char *text, *html; /* at least one; any line ends */
	const char *message_id;  /* without < and > */
	const char *seed;        /* hex digits; boundaries are made of them */
	int64_t date;            /* seconds since 1970 */
	const struct email_attachment *attachments;
	size_t nattachments;
	struct { /* further headers, printable ASCII without line breaks, short */
		const char *name, *value;
	} extra[MIME_EXTRA_MAX];
	size_t nextra;
	const struct pairs *headers;         /* of the message's own; NULL: none */
	const struct pairs *tags, *metadata; /* for mail services only; NULL: none */
};

/* The whole mail: CRLF line ends, seven bits, no line over 998 octets, g_malloc'd. NULL and *error (a constant) when it
 * would not be that. */
char *mime_compose(const struct mime_mail *mail, size_t *len, const char **error);

/* Whether an attachment belongs to the HTML, which shows it. */
bool mime_is_inline(const struct mime_mail *mail, const struct email_attachment *a);

/* Hex SHA-256 over the parts (NULL counts as empty), each with its length, so that no two lists of parts are alike. */
char *mime_digest(const char *const *parts, size_t n);

/* Before the first mail and after the last. */
void mime_start(void);
void mime_stop(void);

#endif
