/* provider.h: the table by which the payment plugin knows a provider; a file per provider has one. */
#ifndef PAYMENT_PROVIDER_H
#define PAYMENT_PROVIDER_H

#include "pgmqd-plugin.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

struct cJSON;

/* The handle: the options. */
struct payment_handle {
	const char *provider, *base_url, *shop_id, *secret_key, *metadata_key;
	int test_mode;
	int64_t timeout, expire_after, not_found_for;
	const struct provider *way;
	struct pgmqd_worker *worker;
	struct check *checks; /* those under way */
};

/* Our row. */
struct payment_row {
	const char *id, *provider_id, *currency;
	int64_t minor;
};

/* The meaning of an answer. */
enum verdict {
	VERDICT_PENDING, /* the customer or the provider has still something to do */
	VERDICT_HELD,    /* the customer has paid, and the shop has yet to take the money */
	VERDICT_PAID,
	VERDICT_CANCELED,
	VERDICT_REFUNDED,  /* all of it */
	VERDICT_NOT_FOUND, /* not there, or not there yet */
	VERDICT_LATER,     /* too many questions, trouble on the other side, no answer */
	VERDICT_CONFIG,    /* the login or the address is wrong */
	VERDICT_REFUSED,   /* the question itself is wrong */
	VERDICT_MISMATCH   /* an answer that must not be believed: it is about another payment, or another amount */
};

struct provider_answer {
	enum verdict verdict;
	char status[40];       /* the provider's own word */
	char reason[240];      /* one line for people, "" when there is nothing to say */
	char paid_at[40];      /* as the provider writes it, "" when it does not */
	int64_t expires_at_ms; /* since 1970; 0 when the provider does not say */
	int64_t refunded_minor;
	int64_t wait_ms; /* the provider wants to be left alone so long */
};

struct provider {
	const char *name, *base_url;
	/* Whether an id may go into an address. */
	bool (*id_is_good)(const char *id);
	/* The question, on an easy handle that has a time limit and nothing else. False: out of memory. `headers` is
	 * freed by the caller. */
	bool (*ask)(
		const struct payment_handle *h, const struct payment_row *row, CURL *easy, struct curl_slist **headers);
	/* Judges an answer of HTTP status 200 to 599. */
	void (*judge)(const struct payment_handle *h, const struct payment_row *row, long status,
		const struct cJSON *body, struct provider_answer *out);
};

extern const struct provider provider_yookassa;

#endif
