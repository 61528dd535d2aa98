/* signature.h: DKIM signatures (RFC 6376) for mails that go out by SMTP. */
#ifndef EMAIL_SIGNATURE_H
#define EMAIL_SIGNATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct email;
struct signer;

/* Reads the key that the options name and tries it. NULL with *error NULL: no key is set; with *error (g_malloc'd): it
 * cannot be used. */
struct signer *signer_new(const struct email *h, char **error);
void signer_free(struct signer *signer);

/* The signature of one mail, made in pieces, so that a large one holds up no other. */
struct signing;

/* Begins the signature of a mail, which must stay where it is. `date` (seconds since 1970) is the signature's: the same
 * mail gets the same signature next time. */
struct signing *signing_new(struct signer *signer, const char *mail, size_t len, int64_t date);
void signing_free(struct signing *signing);

/* Signs the next piece. False: there is more to do. True: *out is the mail with its signature before it, g_malloc'd, or
 * NULL with *error (g_malloc'd) when it cannot be signed. */
bool signing_step(struct signing *signing, char **out, size_t *out_len, char **error);

#endif
