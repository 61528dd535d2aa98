/* sending.h: a message's mail on its way, and the one way in which it ends. */
#ifndef EMAIL_SENDING_H
#define EMAIL_SENDING_H

#include "ledger.h"
#include "message.h"
#include "options.h"
#include "provider.h"
#include "smtp.h"

#include <glib.h>
#include <stdbool.h>

/* How far it has come. */
enum sending_state {
	SENDING_NEW = 0,   /* also while its recipients are looked up, and its attachments fetched */
	SENDING_PACED,     /* waits for the limits */
	SENDING_ASKED,     /* waits for the ledger */
	SENDING_ANNOUNCED, /* the same, while the SMTP server hears of it */
	SENDING_UNDER_WAY  /* its provider has it */
};

struct sending {
	struct email *email;
	struct pgmqd_msg *msg;
	struct email_message parsed;
	struct pgmqd_rendered rendered;
	struct mime_mail parts;  /* points into the two above */
	char *original_to;       /* when it goes to somebody else */
	char *subject;           /* what `parts` points to, when it is not the message's or the template's own */
	struct cJSON *variables; /* the message's, with ours; NULL: as they are */
	char *list_unsubscribe, *feedback_id, *envelope; /* the same for headers and the sender */
	const char *fail_class;                          /* of a message that is refused; NULL: "permanent" */
	char *key;                                       /* what makes it the same mail; the ledger's key */
	char *message_id, *seed;
	char *bytes; /* the mail; NULL until it is composed */
	size_t len;
	struct signing *signing; /* while it is signed */
	char *signed_bytes;      /* the same with a DKIM signature, for SMTP; NULL without one */
	size_t signed_len;
	char *stuffed; /* the same with SMTP's dots; only once it is needed */

	enum mail_kind kind;
	enum sending_state state;
	struct way *way; /* the provider that has it or is to get it */
	unsigned tried;  /* bits of the ways that have refused it in this attempt */
	bool pinned;     /* it may be with that provider already, so no other one may get it */
	void (*away)(struct sending *s, int64_t wait_ms); /* or once its provider has gone away */
	const char *recipients[RECIPIENTS_MAX + 1];       /* of `mail` */
	struct fetch *fetch;                              /* attachments that still have to come; NULL: none */
	void (*paced)(struct sending *s);                 /* what follows once the limits allow it */
	struct smtp_mail mail;
	struct provider_request request;
	struct ledger_entry entry; /* empty without a ledger */
	bool repeated; /* it may have gone out before: the ledger is asked first, and not beside the conversation */
	/* The message's name; after a redrive, that of the first time. */
	gint64 root_id, root_enqueued;
	gint64 due;     /* real time, µs: when it should have gone out */
	bool was_held;  /* requeued by somebody who knew that it may have been sent */
	gint64 started; /* monotonic µs */
};

/* How a message ends. */
enum sending_end {
	END_SENT,    /* archived together with its ledger row */
	END_DONE,    /* archived: there is nothing to send */
	END_FAILED,  /* dead letter of class `class` */
	END_LATER,   /* seen again after delay_ms; below 0: by the queue's backoff */
	END_AWAY,    /* the queue waits for delay_ms */
	END_CONFIG,  /* the queue pauses */
	END_RECALLED /* the host has it back already */
};

/* The whole of an end. `text` is the reason, for the log, the ledger and a dead letter. */
struct sending_outcome {
	enum sending_end how;
	enum ledger_end row;
	const char *class;
	int64_t delay_ms;
	const char *text, *id; /* `id`: by which the provider knows what was sent */
};

/* A new one for a message. */
struct sending *sending_new(struct email *h, struct pgmqd_msg *m);
/* That of a message; NULL when there is none. */
struct sending *sending_find(struct email *h, struct pgmqd_msg *m);
/* The only way out: lets go of provider and ledger, settles the message, and frees the sending. */
void sending_end(struct sending *s, const struct sending_outcome *outcome);
/* Ends it so, with a reason made of `fmt`. */
void sending_stop(struct sending *s, enum sending_end how, const char *class, int64_t delay_ms, const char *fmt, ...)
	G_GNUC_PRINTF(5, 6);

#endif
