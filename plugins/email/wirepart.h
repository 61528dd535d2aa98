/* wirepart.h: a GMime part that is encoded while it is written. */
#ifndef EMAIL_WIREPART_H
#define EMAIL_WIREPART_H

#include <gmime/gmime.h>

/* After g_mime_init(), before the first part. */
void wirepart_start(void);

/* A part of this type with this content, which has its final line ends already and outlives the part; base64 or
 * quoted-printable. `own`: freed with the part, or NULL. The type is shared with other parts: nobody may change it. */
GMimeObject *wirepart_new(GMimeContentType *type, GMimeContentEncoding encoding, const void *content, size_t len, void *own);

#endif
