/* ledger.h: the mail ledger (table pgmqd.mail_log): asks before a mail goes out whether it did before, and writes down
 * how it went. */
#ifndef EMAIL_LEDGER_H
#define EMAIL_LEDGER_H

#include "pgmqd-plugin.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct event;
struct ledger_batch;

/* Of one worker. All zero to begin with. */
struct ledger {
	struct pgmqd_worker *worker;
	char *safe;        /* providers to which a mail may be given twice: "resend,..."; they know it by its key */
	bool resend;       /* what may have been sent is sent again; else held */
	bool warned;       /* that it cannot be used: said once */
	int64_t off_until; /* monotonic µs: not tried before that */
	unsigned serial;   /* of tokens */
	/* Mails that were sent, whose messages may still come again: while the archive cannot be written, they do. */
	GHashTable *sent;  /* message and key → token */
	GQueue sent_order; /* of the same names, the oldest first */
	GQueue waiting;    /* of entries: what is asked while a question is under way goes into the next one together */
	struct ledger_batch *flight;
	struct event *flush;
	struct pgmqd_timer *again; /* the database is away */
	bool wants_secret;
	char *secret; /* of the installation, for ledger_bounce_token(); NULL until the ledger has answered */
};

enum ledger_answer {
	LEDGER_GO,         /* send it; also when there is no ledger */
	LEDGER_AGAIN,      /* send it, though it may have been sent before, by `provider` */
	LEDGER_SENT,       /* it was sent before */
	LEDGER_UNKNOWN,    /* it may have been sent before, and is to be held */
	LEDGER_SUPPRESSED, /* its recipient gets no such mail; `why` is the reason */
	LEDGER_BUSY,       /* another message is sending the same mail */
	LEDGER_FAILED      /* the ledger cannot be written just now: try again later; `why` says more */
};

/* How a mail ended that was not sent for sure; REFUSED: its recipient was, for good. */
enum ledger_end { LEDGER_NOT_SENT, LEDGER_REFUSED, LEDGER_MAYBE_SENT };

/* One mail's row. The caller keeps it until the message is settled or cancelled. */
struct ledger_entry {
	struct ledger *ledger;
	struct pgmqd_msg *msg;
	char *key, *token, *template, *message_id, *to;
	const char *provider; /* that is to have it; a constant */
	bool optional;        /* a mail that one can unsubscribe from */
	char *unsubscribe;    /* by this token; NULL: there is no link in it */
	bool resend;          /* of this mail, whatever the ledger's policy is */
	bool asked; /* mail_begin was sent, and is on its way or answered: there is, or may be, a row to be closed */
	bool answered;
	bool usable;                /* the answer was one of the ledger's */
	GList link;                 /* in the ledger's waiting ones */
	bool is_waiting, alone;     /* alone: a question together with others failed */
	struct ledger_batch *batch; /* in which it was asked, until that is answered */
	guint slot;                 /* there */
	/* Runs once, later, or at once when there is no ledger; not any more after ledger_clear(). */
	void (*answer)(void *arg, enum ledger_answer is, const char *provider, const char *why);
	void *arg;
};

/* Whether an error means that there is no ledger for us: no table, function or schema, or no right to them. */
bool ledger_is_absence(const char *sqlstate);
/* Appends an element to the text of an array, "{" or what comes before it included; NULL is null. */
void ledger_append(GString *list, const char *value);

/* Before the first entry and after the last; start keeps `safe` and `resend`. */
void ledger_start(struct ledger *l, struct pgmqd_worker *w);
void ledger_stop(struct ledger *l);
/* Fills an entry in; the texts are copied. */
void ledger_entry_init(struct ledger_entry *e, struct ledger *l, struct pgmqd_msg *m, const char *key,
	const char *template, const char *message_id, const char *to);
/* Asks whether the mail may go out, by that provider. Once more for another provider: the row changes hands. */
void ledger_begin(struct ledger_entry *e, const char *provider);
/* Whether this worker has sent this very message's mail already, though it is here again. Then the row says so from now
 * on, by itself; `e` is of no more use. */
bool ledger_knows(struct ledger_entry *e);
/* The mail was sent: settles the message, row and archive together. `id`: the provider's name for it, or NULL. */
void ledger_sent(struct ledger_entry *e, const char *reply, const char *id);
/* It was not, or may have been; before the message is settled, also while it is being cancelled. */
void ledger_end(struct ledger_entry *e, enum ledger_end end, const char *reply);
void ledger_clear(struct ledger_entry *e);
/* The token that tells a bounce of the mail with this key from a forged one: 32 letters, g_malloc'd. NULL: the secret
 * is not known. pgmqd.bounce_token() makes the same. */
char *ledger_bounce_token(const struct ledger *l, const char *key);

#endif
