/* wirepart.h: a GMime part that is encoded while it is written. */
#ifndef EMAIL_WIREPART_H
#define EMAIL_WIREPART_H

#include <gmime/gmime.h>

/* After g_mime_init(), before the first part. */
void wirepart_start(void);

/* A part of this type, without content. The type is shared with other parts: nobody may change it. */
GMimeObject *wirepart_new(GMimeContentType *type);

/* Gives it content, which has its final line ends already and stays until the part goes or gets other content; base64
 * or quoted-printable. `own`: freed then, or NULL. */
void wirepart_fill(GMimeObject *object, GMimeContentEncoding encoding, const void *content, size_t len, void *own);

/* Takes the content out. */
void wirepart_empty(GMimeObject *object);

#endif
