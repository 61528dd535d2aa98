/* verify.h: whether an event comes from the mail service that it names: signatures of four services. */
#ifndef MAILEVENTS_VERIFY_H
#define MAILEVENTS_VERIFY_H

#include <glib.h>
#include <stdbool.h>

/* Resend (Svix, Standard Webhooks): `secret` is whsec_BASE64; `signatures` "v1,BASE64 v1,BASE64". */
bool verify_svix(const char *secret, const char *id, const char *timestamp, const char *body, const char *signatures);
/* SendGrid: ECDSA over the timestamp and the body; `key` is the public key, DER in base64. */
bool verify_sendgrid(const char *key, const char *timestamp, const char *body, const char *signature);
/* Mailgun: HMAC over the timestamp and a token, in hex. */
bool verify_mailgun(const char *key, const char *timestamp, const char *token, const char *signature);
/* Amazon SNS: RSA over `text` by a certificate (PEM); version "1" is SHA-1, "2" SHA-256. */
bool verify_sns(const char *pem, const char *version, const char *text, const char *signature);

/* Whether a key of the settings can be one at all. */
bool verify_svix_secret_ok(const char *secret);
bool verify_sendgrid_key_ok(const char *key);

#endif
