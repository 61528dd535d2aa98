/* talk.h: the SMTP conversation on one connection: one mail after another, and what each reply means for it. */
#ifndef EMAIL_TALK_H
#define EMAIL_TALK_H

#include "conn.h"
#include "recipients.h"

struct talk;

/* One mail on its way. The caller owns it and all it points to, and keeps it until `done` has run or it was taken
 * back. */
struct smtp_mail {
	const char *from;      /* ASCII envelope addresses */
	const char *const *to; /* ends with NULL */
	const char *data;      /* after reply_stuff_dots() */
	size_t len;
	bool bulk;                        /* goes after every mail that is not */
	bool held;                        /* sender and recipients are announced, and no more before smtp_release() */
	bool partial;                     /* a recipient that is refused for now does not keep it from the others */
	char refused[RECIPIENTS_MAX][12]; /* of each recipient that was refused for good: the enhanced code; "": none */
	void (*done)(void *arg, const struct mail_result *result);
	void *arg;
	/* the pool's own */
	struct talk *talk; /* NULL while it waits */
	GList link;        /* in the queue of waiting mails */
	bool fresh_only;   /* it has had its retry: a connection that was used before will not do again */
};

/* The event that the conversation waits for. READY alone can take a mail. */
enum talk_state {
	TALK_CONNECTING = 0,
	TALK_READY,
	TALK_MAIL,  /* the answer to MAIL, */
	TALK_RCPT,  /* to each RCPT, */
	TALK_HELD,  /* smtp_release(), since the recipients were taken */
	TALK_DATA,  /* the answer to DATA */
	TALK_BODY,  /* the mail's bytes are being written */
	TALK_DOT,   /* the answer to the final dot */
	TALK_EMPTY, /* the same, for a mail that was refused after DATA had been sent ahead */
	TALK_RSET,
	TALK_QUIT,
	TALK_DEAD
};

/* The calls to the pool. */
struct talk_events {
	void (*look)(
		void *arg); /* a conversation became ready, or dead: soon, outside its callbacks, somebody must look */
	void (*connected)(void *arg);
	void (*failed)(void *arg, struct talk *t, enum mail_class is, const char *text); /* there is no connection */
	void (*again)(void *arg, struct smtp_mail *mail); /* the mail is to go out once more, over a new connection */
};

struct talk {
	const struct talk_events *events;
	void *arg;
	GList link; /* in the pool's list */
	struct conn *conn;
	enum talk_state state;
	struct smtp_mail *mail; /* NULL once its outcome is known, though replies may still be due */
	unsigned mails;         /* begun on this connection */
	bool spent;             /* the server takes no more mails here: QUIT instead of RSET */
	unsigned rcpt_due;      /* answers to RCPT that are still to come */
	bool data_ahead;        /* DATA was sent before the recipients were answered */
	bool recipient_taken;   /* RCPT was answered 2xx for a mail that is gone */
	unsigned taken;         /* recipients that were accepted, */
	struct reply refusal;   /* and what was said to one that was not; code 0: none */
	bool refused_for_now;
};

/* Starts to connect. NULL: libcurl cannot speak SMTP to this server. */
struct talk *talk_open(const struct smtp_settings *settings, struct pgmqd_worker *worker,
	const struct conn_login *login, const char *token, const struct talk_events *events, void *arg);
/* Frees one that is DEAD, or at the end, after a farewell, any one. */
void talk_free(struct talk *t);

/* Each of these may end the mail, and does so as its last act. */

/* Starts a mail on a READY conversation. */
void talk_start(struct talk *t, struct smtp_mail *mail);
/* The mail need not be held any more. */
void talk_release(struct talk *t);
/* Takes the mail back without an outcome: before its bytes go out the connection stays of use. */
void talk_recall(struct talk *t);
/* Says QUIT on a READY conversation and waits for the answer for a short while. */
void talk_quit(struct talk *t);
/* Whether the server may have all of the mail. */
bool talk_may_have_arrived(const struct talk *t);
/* Ends a mail with all that is known; takes the texts. */
void talk_end(struct smtp_mail *mail, struct mail_result *result);

#endif
