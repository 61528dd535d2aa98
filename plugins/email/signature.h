/* signature.h: DKIM signatures (RFC 6376) for mails that go out by SMTP. */
#ifndef EMAIL_SIGNATURE_H
#define EMAIL_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

struct email;
struct signer;

/* Reads the key that the options name and tries it. NULL with *error NULL: no key is set; with *error (g_malloc'd): it
 * cannot be used. */
struct signer *signer_new(const struct email *h, char **error);
void signer_free(struct signer *signer);

/* The mail with its signature before it, g_malloc'd; NULL and *error (g_malloc'd) when it cannot be signed. `date`
 * (seconds since 1970) is the signature's: the same mail gets the same signature next time. */
char *signer_sign(struct signer *signer, const char *mail, size_t len, int64_t date, size_t *out_len, char **error);

#endif
