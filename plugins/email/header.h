/* header.h: texts in headers, as RFC 2047 wants them. Input has passed address_header_check(). */
#ifndef EMAIL_HEADER_H
#define EMAIL_HEADER_H

#include <stddef.h>

/* The value of an unstructured header whose name has `name_len` characters: as it is when it is plain ASCII,
 * else as encoded words. Folded with LF and a space. g_malloc'd. */
char *header_text(const char *text, size_t name_len);

/* The value of a structured header (In-Reply-To, List-Help), which is ASCII: folded only. g_malloc'd. */
char *header_folded(const char *text, size_t name_len);

/* The value of a header with one mailbox; `display` may be NULL or "". g_malloc'd. */
char *header_mailbox(const char *display, const char *address, size_t name_len);

/* `text` as one encoded word, or NULL when it is too long for that. g_malloc'd. */
char *header_word(const char *text);

#endif
