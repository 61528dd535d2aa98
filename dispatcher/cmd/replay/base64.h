/* base64.h: base64 as mails and JSON have it. */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>

char *base64_encode(const void *data, size_t len); /* malloc'd */
/* Decodes what fits, and passes over everything else; with a NUL behind it, malloc'd. */
char *base64_decode(const char *text, size_t len, size_t *n);

#endif
