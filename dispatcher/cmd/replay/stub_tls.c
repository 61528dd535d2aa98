/* stub_tls.c: the stub's side of TLS, so that https and SMTP with TLS can be recorded, too. */
#include "config.h"

#include "cmd/replay/stub_private.h"

#include "base/xalloc.h"

#include <errno.h>
#include <stdlib.h>

#ifdef WITH_TLS
#include <openssl/ssl.h>

struct stub_tls {
	SSL_CTX *context;
};

#define LIFE_S 86400L

/* A certificate that signs itself; no client verifies it. */
static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();

	if (!x || !key || !ASN1_INTEGER_set(X509_get_serialNumber(x), 1) ||
		!X509_gmtime_adj(X509_getm_notBefore(x), -LIFE_S) || !X509_gmtime_adj(X509_getm_notAfter(x), LIFE_S) ||
		!X509_set_pubkey(x, key) || !X509_sign(x, key, EVP_sha256()))
		abort();
	return x;
}

struct stub_tls *stub_tls_new(void)
{
	struct stub_tls *t = xcalloc(1, sizeof(*t));
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = make_certificate(key);

	t->context = SSL_CTX_new(TLS_server_method());
	if (!t->context || SSL_CTX_use_certificate(t->context, x) != 1 || SSL_CTX_use_PrivateKey(t->context, key) != 1)
		abort();
	SSL_CTX_set_mode(t->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	X509_free(x);
	EVP_PKEY_free(key);
	return t;
}

void stub_tls_free(struct stub_tls *t)
{
	if (!t)
		return;
	SSL_CTX_free(t->context);
	free(t);
}

bool stub_tls_begin(struct stub_tls *t, struct stub_conn *c)
{
	SSL *tls = t ? SSL_new(t->context) : NULL;

	if (!tls)
		return false;
	if (SSL_set_fd(tls, c->fd) != 1)
		abort();
	SSL_set_accept_state(tls);
	c->tls = tls;
	return true;
}

void stub_tls_end(struct stub_conn *c)
{
	SSL_free(c->tls);
	c->tls = NULL;
}

/* The errno for a call that did not succeed. */
static long outcome(struct stub_conn *c, int rc)
{
	int why = SSL_get_error(c->tls, rc);

	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
	return -1;
}

long stub_tls_read(struct stub_conn *c, void *data, size_t len)
{
	int rc = SSL_read(c->tls, data, (int)len);

	c->accepted = SSL_is_init_finished(c->tls);
	return rc > 0 ? rc : outcome(c, rc);
}

long stub_tls_write(struct stub_conn *c, const void *data, size_t len)
{
	int rc = SSL_write(c->tls, data, (int)len);

	return rc > 0 ? rc : outcome(c, rc);
}
#else
struct stub_tls *stub_tls_new(void)
{
	return NULL;
}

void stub_tls_free(struct stub_tls *t)
{
	(void)t;
}

bool stub_tls_begin(struct stub_tls *t, struct stub_conn *c)
{
	(void)t, (void)c;
	return false;
}

void stub_tls_end(struct stub_conn *c)
{
	(void)c;
}

long stub_tls_read(struct stub_conn *c, void *data, size_t len)
{
	(void)c, (void)data, (void)len;
	errno = EPROTO;
	return -1;
}

long stub_tls_write(struct stub_conn *c, const void *data, size_t len)
{
	(void)c, (void)data, (void)len;
	errno = EPROTO;
	return -1;
}
#endif
