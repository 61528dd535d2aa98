/* signature.c: DKIM signatures by libopendkim, with an RSA key; without that library a key in the settings is refused.
 */
#include "config.h"

#include "signature.h"

#include "options.h"

#include <string.h>

#ifdef WITH_DKIM

#include <dkim.h>

struct signer {
	DKIM_LIB *lib;
	char *key; /* PEM */
	const char *selector, *domain;
};

/* The headers that are signed when they are there: a reader sees them or acts on them. */
static const u_char *const signed_headers[] = { (const u_char *)"from", (const u_char *)"reply-to",
	(const u_char *)"to", (const u_char *)"subject", (const u_char *)"date", (const u_char *)"message-id",
	(const u_char *)"mime-version", (const u_char *)"content-type", (const u_char *)"content-transfer-encoding",
	(const u_char *)"list-unsubscribe", (const u_char *)"list-unsubscribe-post", (const u_char *)"auto-submitted",
	(const u_char *)"feedback-id", NULL };
/* A second one of these, added on the way, breaks the signature. */
static const u_char *const oversigned_headers[] = { (const u_char *)"from", (const u_char *)"to",
	(const u_char *)"subject", (const u_char *)"date", (const u_char *)"content-type", NULL };

void signer_free(struct signer *signer)
{
	if (signer == NULL)
		return;
	if (signer->lib != NULL)
		dkim_close(signer->lib);
	if (signer->key != NULL)
		memset(signer->key, 0, strlen(signer->key));
	g_free(signer->key);
	g_free(signer);
}

struct signer *signer_new(const struct email *h, char **error)
{
	static const char trial[] = "From: a@example.test\r\nSubject: x\r\n\r\nx\r\n";
	struct signer *signer;
	GError *why = NULL;
	char *made;
	size_t len;

	*error = NULL;
	if (h->dkim_key == NULL || h->dkim_key[0] == '\0')
		return NULL;
	signer = g_new0(struct signer, 1);
	signer->selector = h->dkim_selector;
	signer->domain = h->dkim_domain != NULL && h->dkim_domain[0] != '\0' ? h->dkim_domain : h->domain;
	if (!g_file_get_contents(h->dkim_key, &signer->key, NULL, &why)) {
		*error = g_strdup_printf("dkim_key: %s", why->message);
		g_error_free(why);
	} else if ((signer->lib = dkim_init(NULL, NULL)) == NULL ||
		   dkim_options(signer->lib, DKIM_OP_SETOPT, DKIM_OPTS_SIGNHDRS, (void *)signed_headers,
			   sizeof(u_char **)) != DKIM_STAT_OK ||
		   dkim_options(signer->lib, DKIM_OP_SETOPT, DKIM_OPTS_OVERSIGNHDRS, (void *)oversigned_headers,
			   sizeof(u_char **)) != DKIM_STAT_OK) {
		*error = g_strdup("dkim_key: libopendkim cannot be set up");
	} else {
		made = signer_sign(signer, trial, sizeof(trial) - 1, 1, &len, error);
		g_free(made);
	}
	if (*error == NULL)
		return signer;
	signer_free(signer);
	return NULL;
}

/* Appends the header; the library breaks its lines in its own way. */
static void append_header(GString *out, const char *value)
{
	g_string_append(out, "DKIM-Signature: ");
	for (; *value != '\0'; value++) {
		if (*value == '\n')
			g_string_append_c(out, '\r');
		if (*value != '\r')
			g_string_append_c(out, *value);
	}
	g_string_append(out, "\r\n");
}

char *signer_sign(struct signer *signer, const char *mail, size_t len, int64_t date, size_t *out_len, char **error)
{
	uint64_t fixed = (uint64_t)date;
	DKIM_STAT rc = DKIM_STAT_OK;
	GString *out = NULL;
	u_char *value;
	size_t value_len;
	DKIM *d;

	dkim_options(signer->lib, DKIM_OP_SETOPT, DKIM_OPTS_FIXEDTIME, &fixed, sizeof(fixed));
	d = dkim_sign(signer->lib, (const u_char *)"mail", NULL, (dkim_sigkey_t)signer->key,
		(const u_char *)signer->selector, (const u_char *)signer->domain, DKIM_CANON_RELAXED,
		DKIM_CANON_RELAXED, DKIM_SIGN_RSASHA256, -1, &rc);
	if (d != NULL)
		rc = dkim_chunk(d, (u_char *)mail, len);
	if (d != NULL && rc == DKIM_STAT_OK)
		rc = dkim_chunk(d, NULL, 0);
	if (d != NULL && rc == DKIM_STAT_OK)
		rc = dkim_eom(d, NULL);
	if (d != NULL && rc == DKIM_STAT_OK)
		rc = dkim_getsighdr_d(d, strlen("DKIM-Signature: "), &value, &value_len);
	if (d != NULL && rc == DKIM_STAT_OK) {
		out = g_string_sized_new(len + 1024);
		append_header(out, (const char *)value);
		g_string_append_len(out, mail, (gssize)len);
		*out_len = out->len;
	} else {
		const char *said = d != NULL ? dkim_geterror(d) : NULL;

		*error = g_strdup_printf(
			"dkim_key: the mail cannot be signed: %s; it must be a private RSA key in PEM form",
			said != NULL ? said : dkim_getresultstr(rc));
	}
	if (d != NULL)
		dkim_free(d);
	return out != NULL ? g_string_free(out, FALSE) : NULL;
}

#else

struct signer *signer_new(const struct email *h, char **error)
{
	*error = h->dkim_key == NULL || h->dkim_key[0] == '\0'
	                 ? NULL
	                 : g_strdup("dkim_key: this pgmqd is built without DKIM; build it with libopendkim "
				    "(--with-dkim), or take dkim_key out");
	return NULL;
}

void signer_free(struct signer *signer)
{
	(void)signer;
}

char *signer_sign(struct signer *signer, const char *mail, size_t len, int64_t date, size_t *out_len, char **error)
{
	(void)signer, (void)mail, (void)len, (void)date, (void)out_len;
	*error = g_strdup("built without DKIM");
	return NULL;
}

#endif
