/* sign.c: signatures as Standard Webhooks has them. */
#include "config.h"

#include "sign.h"

#include <string.h>

#define PREFIX "whsec_"

guint8 *sign_key(const char *secret, gsize *len)
{
	const char *text = secret + strlen(PREFIX);
	size_t n;

	if (!g_str_has_prefix(secret, PREFIX)) {
		*len = strlen(secret);
		return g_memdup2(secret, *len + 1);
	}
	n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
	if (n == 0 || strlen(text) % 4 != 0 || strspn(text + n, "=") != strlen(text + n) || strlen(text + n) > 2)
		return NULL;
	return g_base64_decode(text, len);
}

char *sign(const guint8 *key, gsize key_len, const char *id, gint64 timestamp, const char *body, gsize body_len)
{
	GHmac *mac = g_hmac_new(G_CHECKSUM_SHA256, key, key_len);
	char *head = g_strdup_printf("%s.%" G_GINT64_FORMAT ".", id, timestamp), *text, *signature;
	guint8 digest[32];
	gsize len = sizeof(digest);

	g_hmac_update(mac, (const guchar *)head, -1);
	g_hmac_update(mac, (const guchar *)body, (gssize)body_len);
	g_hmac_get_digest(mac, digest, &len);
	text = g_base64_encode(digest, len);
	signature = g_strconcat("v1,", text, NULL);
	g_free(text);
	g_free(head);
	g_hmac_unref(mac);
	return signature;
}
