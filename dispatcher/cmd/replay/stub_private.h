/* stub_private.h: what the files of the stub share: a connection, and the protocols that it can speak. */
#ifndef STUB_PRIVATE_H
#define STUB_PRIVATE_H

#include "cmd/replay/stub.h"

#include <sys/queue.h>

struct event;
struct stub_tls;

struct bytes {
	char *data; /* with a NUL behind it */
	size_t len, room;
};

struct stub_conn {
	LIST_ENTRY(stub_conn) link;
	struct stub *stub;
	int fd;
	struct event *readable, *writable;
	void *tls; /* SSL *, or NULL */
	bool accepted;
	bool closing;   /* once all is written */
	bool upgrade;   /* STARTTLS was granted: TLS begins once all is written */
	char scheme[8]; /* of the URL */
	struct bytes in, out;
	size_t sent;
	void (*feed)(struct stub_conn *c); /* bytes have come */
	struct bytes mail;                 /* SMTP: what has come of it */
	char *from;
	struct cJSON *to;
	bool in_data;
	unsigned asking; /* SMTP: lines of a login that are still to come */
};

void bytes_add(struct bytes *b, const void *data, size_t len);
void bytes_drop(struct bytes *b, size_t len); /* the first ones */
void bytes_free(struct bytes *b);

/* For the protocols. */
void stub_say(struct stub_conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void stub_effect(struct stub_conn *c, struct cJSON *effect);
const struct cJSON *stub_answer(const struct stub_conn *c, const char *key, const char *text);
struct cJSON *stub_text(const char *data, size_t len, bool *is_text); /* as a string; in base64 when it is no text */

void stub_http_feed(struct stub_conn *c);
void stub_smtp_begin(struct stub_conn *c);
void stub_smtp_feed(struct stub_conn *c);

/* TLS with a certificate that was made a moment ago. NULL: this program is built without. */
struct stub_tls *stub_tls_new(void);
void stub_tls_free(struct stub_tls *t);
bool stub_tls_begin(struct stub_tls *t, struct stub_conn *c);
void stub_tls_end(struct stub_conn *c);
/* As of read() and write(): -1 with `errno`, which is EAGAIN when it has to wait. */
long stub_tls_read(struct stub_conn *c, void *data, size_t len);
long stub_tls_write(struct stub_conn *c, const void *data, size_t len);

#endif
