/* sending.h: a message's mail on its way: from the message to its bytes, to a provider, and to an outcome. */
#ifndef EMAIL_SENDING_H
#define EMAIL_SENDING_H

#include "ledger.h"
#include "message.h"
#include "options.h"
#include "provider.h"
#include "smtp.h"

#include <glib.h>
#include <stdbool.h>

struct sending {
	struct email *email;
	struct pgmqd_msg *msg;
	struct email_message parsed;
	struct pgmqd_rendered rendered;
	struct mime_mail parts; /* points into the two above */
	char *original_to;      /* when it goes to somebody else */
	char *subject;          /* what `parts` points to, when it is not the message's or the template's own */
	char *list_unsubscribe, *feedback_id, *envelope; /* the same for headers and the sender */
	const char *fail_class;                          /* of a message that is refused; NULL: "permanent" */
	char *key;                                       /* what makes it the same mail; the ledger's key */
	char *message_id, *seed;
	char *bytes; /* the mail */
	size_t len;
	char *signed_bytes; /* the same with a DKIM signature, for SMTP; NULL without one */
	size_t signed_len;
	char *stuffed; /* the same with SMTP's dots; only once it is needed */

	enum mail_kind kind;
	struct way *way;        /* the provider that has it or is to get it */
	unsigned tried;         /* bits of the ways that have refused it in this attempt */
	bool pinned;            /* it may be with that provider already, so no other one may get it */
	bool composed, granted; /* the bytes are there; the ledger has agreed */
	bool announced;         /* SMTP: in the pool while the ledger is being asked */
	bool under_way;         /* handed to the provider */
	struct smtp_mail mail;
	struct provider_request request;
	struct ledger_entry entry; /* empty without a ledger */
	bool repeated; /* it may have gone out before: the ledger is asked first, and not beside the conversation */
	/* What names the message: after a redrive, what named it the first time. */
	gint64 root_id, root_enqueued;
	bool was_held;  /* put back by somebody who knew that it may have been sent */
	gint64 started; /* monotonic µs */
};

/* compose.c */

/* Takes the message apart and names the mail. NULL, or why the message can never be sent (g_malloc'd). */
char *compose_begin(struct sending *s);
/* What a link to unsubscribe names; g_malloc'd. */
char *compose_unsubscribe_token(const struct sending *s);
/* Renders and makes the bytes. The same; with *config set, why no message can be. */
char *compose_end(struct sending *s, bool *config);

/* outcome.c */

/* Settles the message, or hands the mail to the next provider. The sending may be gone afterwards. */
void outcome_of(struct sending *s, const struct mail_result *result);
/* The ledger has answered. */
void outcome_of_ledger(void *arg, enum ledger_answer is, const char *provider, const char *why);

/* email.c */

/* Announces the mail: the provider is chosen and the limits allow it. */
void sending_start(struct sending *s);
/* Hands the mail to its provider, once it is composed and the ledger has agreed. */
void sending_go(struct sending *s);
/* Asks the ledger whether it may go. */
void sending_ask(struct sending *s);
/* Takes it back from its provider; the outcome is no longer told. */
void sending_recall(struct sending *s);
/* Forgets a sending that is not in the table; its mail must not be under way. */
void sending_free(struct sending *s);

/* httpmail.c */

/* Submits the request of an HTTP provider; outcome_of() is told how it went, later. */
void httpmail_send(struct sending *s);
void httpmail_clear(struct sending *s);

#endif
