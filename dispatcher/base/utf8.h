/* utf8.h: text that others wrote: whether it is UTF-8, and made fit for the database and the log. */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The length of the UTF-8 character at `s`, of which `left` bytes may be read; 0 when there is none (RFC 3629: no
 * overlong form, no surrogate). It never reads past a byte that does not continue the character, such as a NUL. */
size_t utf8_length(const unsigned char *s, size_t left);

/* Whether the bytes are UTF-8. */
bool utf8_is_valid(const char *text, size_t len);

/* Replaces, in place, each byte that is not part of valid UTF-8 by "?" and each control character by a blank, and cuts
 * the text at `max` bytes without splitting a character. */
void utf8_clean(char *text, unsigned long max);

#endif
