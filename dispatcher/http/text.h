/* text.h: text in a URL: UTF-8 in percent-encoding. */
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the text is UTF-8 in percent-encoding: each % with two hex digits. */
bool http_text_is_encoded(const char *text, size_t len);

/* A malloc'd copy without percent-encoding; with `form`, + is a blank. NULL when a % is not followed by two hex digits,
 * or when the result has a NUL or is not UTF-8. */
char *http_text_decode(const char *text, size_t len, bool form);

#endif
