/* sign.h: signatures as Standard Webhooks has them. */
#ifndef SIGN_H
#define SIGN_H

#include <glib.h>

/* The key behind "whsec_BASE64", or the text itself. NULL when the base64 is broken. */
guint8 *sign_key(const char *secret, gsize *len);

/* "v1,BASE64" of HMAC-SHA256 over "id.timestamp.body". g_malloc'd. */
char *sign(const guint8 *key, gsize key_len, const char *id, gint64 timestamp, const char *body, gsize body_len);

#endif
