/* signature.c: DKIM signatures by libopendkim, with an RSA key; without that library a key in the settings is refused.
 */
#include "config.h"

#include "signature.h"

#include "options.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#ifdef WITH_DKIM

#include <dkim.h>

#define PIECE ((size_t)1 << 20) /* some milliseconds */

struct signer {
	DKIM_LIB *lib;
	char *key; /* PEM */
	const char *selector, *domain;
};

struct signing {
	struct signer *signer;
	DKIM *dkim; /* NULL: it could not begin */
	DKIM_STAT rc;
	const char *mail;
	size_t len, done;
	int64_t date;
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
	struct signing *signing;
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
		signing = signing_new(signer, trial, sizeof(trial) - 1, 1);
		(void)signing_step(signing, &made, &len, error);
		signing_free(signing);
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

/* The time in signatures made from now on. */
static void set_date(const struct signing *g)
{
	uint64_t fixed = (uint64_t)g->date;

	dkim_options(g->signer->lib, DKIM_OP_SETOPT, DKIM_OPTS_FIXEDTIME, &fixed, sizeof(fixed));
}

struct signing *signing_new(struct signer *signer, const char *mail, size_t len, int64_t date)
{
	struct signing *g = g_new0(struct signing, 1);

	g->signer = signer;
	g->mail = mail;
	g->len = len;
	g->date = date;
	g->rc = DKIM_STAT_OK;
	set_date(g);
	g->dkim = dkim_sign(signer->lib, (const u_char *)"mail", NULL, (dkim_sigkey_t)signer->key,
		(const u_char *)signer->selector, (const u_char *)signer->domain, DKIM_CANON_RELAXED,
		DKIM_CANON_RELAXED, DKIM_SIGN_RSASHA256, -1, &g->rc);
	return g;
}

void signing_free(struct signing *g)
{
	if (g != NULL && g->dkim != NULL)
		dkim_free(g->dkim);
	g_free(g);
}

bool signing_step(struct signing *g, char **out, size_t *out_len, char **error)
{
	size_t n = MIN(PIECE, g->len - g->done);
	u_char *value;
	size_t value_len;
	GString *all;

	*out = NULL;
	if (g->dkim != NULL && g->rc == DKIM_STAT_OK)
		g->rc = dkim_chunk(g->dkim, (u_char *)(uintptr_t)(g->mail + g->done), n);
	g->done += n;
	if (g->done < g->len && g->dkim != NULL && g->rc == DKIM_STAT_OK)
		return false;
	set_date(g); /* another mail may have begun meanwhile */
	if (g->dkim != NULL && g->rc == DKIM_STAT_OK)
		g->rc = dkim_chunk(g->dkim, NULL, 0);
	if (g->dkim != NULL && g->rc == DKIM_STAT_OK)
		g->rc = dkim_eom(g->dkim, NULL);
	if (g->dkim != NULL && g->rc == DKIM_STAT_OK)
		g->rc = dkim_getsighdr_d(g->dkim, strlen("DKIM-Signature: "), &value, &value_len);
	if (g->dkim != NULL && g->rc == DKIM_STAT_OK) {
		all = g_string_sized_new(g->len + 1024);
		append_header(all, (const char *)value);
		g_string_append_len(all, g->mail, (gssize)g->len);
		*out_len = all->len;
		*out = g_string_free(all, FALSE);
	} else {
		const char *said = g->dkim != NULL ? dkim_geterror(g->dkim) : NULL;

		*error = g_strdup_printf(
			"dkim_key: the mail cannot be signed: %s; it must be a private RSA key in PEM form",
			said != NULL ? said : dkim_getresultstr(g->rc));
	}
	return true;
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

struct signing *signing_new(struct signer *signer, const char *mail, size_t len, int64_t date)
{
	(void)signer, (void)mail, (void)len, (void)date;
	return NULL;
}

void signing_free(struct signing *signing)
{
	(void)signing;
}

bool signing_step(struct signing *signing, char **out, size_t *out_len, char **error)
{
	(void)signing, (void)out_len;
	*out = NULL;
	*error = g_strdup("built without DKIM");
	return true;
}

#endif
