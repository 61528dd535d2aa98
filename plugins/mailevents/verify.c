/* verify.c: signatures: HMAC by GLib, ECDSA and RSA by libcrypto. */
#include "config.h"

#include "verify.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#define SVIX_PREFIX "whsec_"

/* HMAC-SHA256 over two texts. */
static void hmac(const guint8 *key, gsize len, const char *a, const char *b, guint8 digest[32])
{
	GHmac *mac = g_hmac_new(G_CHECKSUM_SHA256, key, len);
	gsize size = 32;

	g_hmac_update(mac, (const guchar *)a, -1);
	g_hmac_update(mac, (const guchar *)b, -1);
	g_hmac_get_digest(mac, digest, &size);
	g_hmac_unref(mac);
}

bool verify_svix_secret_ok(const char *secret)
{
	gsize len = 0;

	if (!g_str_has_prefix(secret, SVIX_PREFIX))
		return false;
	g_free(g_base64_decode(secret + strlen(SVIX_PREFIX), &len));
	return len >= 16;
}

bool verify_svix(const char *secret, const char *id, const char *timestamp, const char *body, const char *signatures)
{
	gsize len;
	guint8 *key = g_base64_decode(secret + strlen(SVIX_PREFIX), &len), digest[32];
	char *head = g_strdup_printf("%s.%s.", id, timestamp), **list = g_strsplit(signatures, " ", -1);
	bool good = false;

	hmac(key, len, head, body, digest);
	for (char **s = list; *s != NULL; s++) {
		gsize n;
		guint8 *given;

		if (!g_str_has_prefix(*s, "v1,"))
			continue;
		given = g_base64_decode(*s + 3, &n);
		good = good || (n == sizeof(digest) && CRYPTO_memcmp(given, digest, n) == 0);
		g_free(given);
	}
	g_strfreev(list);
	g_free(head);
	g_free(key);
	return good;
}

/* The public key out of DER in base64; NULL when it is none. */
static EVP_PKEY *public_key(const char *base64)
{
	gsize len;
	guint8 *der = g_base64_decode(base64, &len);
	const unsigned char *p = der;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)len);

	g_free(der);
	return key;
}

bool verify_sendgrid_key_ok(const char *key)
{
	EVP_PKEY *k = public_key(key);
	bool good = k != NULL && EVP_PKEY_base_id(k) == EVP_PKEY_EC;

	EVP_PKEY_free(k);
	return good;
}

/* A signature over two texts. */
static bool signed_by(EVP_PKEY *key, const EVP_MD *hash, const char *a, const char *b, const char *signature)
{
	gsize len;
	guint8 *sig = g_base64_decode(signature, &len);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good = ctx != NULL && key != NULL && len > 0 && EVP_DigestVerifyInit(ctx, NULL, hash, NULL, key) == 1 &&
	            EVP_DigestVerifyUpdate(ctx, a, strlen(a)) == 1 && EVP_DigestVerifyUpdate(ctx, b, strlen(b)) == 1 &&
	            EVP_DigestVerifyFinal(ctx, sig, len) == 1;

	EVP_MD_CTX_free(ctx);
	g_free(sig);
	return good;
}

bool verify_sendgrid(const char *key, const char *timestamp, const char *body, const char *signature)
{
	EVP_PKEY *k = public_key(key);
	bool good = signed_by(k, EVP_sha256(), timestamp, body, signature);

	EVP_PKEY_free(k);
	return good;
}

bool verify_mailgun(const char *key, const char *timestamp, const char *token, const char *signature)
{
	guint8 digest[32];
	char hex[65];

	hmac((const guint8 *)key, strlen(key), timestamp, token, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		g_snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return strlen(signature) == 64 && CRYPTO_memcmp(hex, signature, 64) == 0;
}

bool verify_sns(const char *pem, const char *version, const char *text, const char *signature)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	EVP_PKEY *key = cert != NULL ? X509_get_pubkey(cert) : NULL;
	bool good = key != NULL &&
	            signed_by(key, strcmp(version, "2") == 0 ? EVP_sha256() : EVP_sha1(), text, "", signature);

	EVP_PKEY_free(key);
	X509_free(cert);
	BIO_free(bio);
	return good;
}
