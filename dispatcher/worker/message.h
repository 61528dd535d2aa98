/* message.h: one claimed message and the four states it goes through; each state is a list of its queue's messages. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "base/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct cJSON;
struct pgmqd_worker;
struct stats_slot;

/* message_move() is the only function that changes it. */
enum msg_state {
	MSG_FREE = 0, /* in the pool */
	MSG_WAITING,  /* claimed, for a free slot of the plugin */
	MSG_RUNNING,  /* in the plugin's hands */
	MSG_SETTLED,  /* has its outcome, which the database does not know yet */
	MSG_SENT,     /* the statement that stores the outcome is under way */
	MSG_NSTATES
};

enum msg_outcome {
	OUT_NONE = 0,
	OUT_DONE,
	OUT_RETRY,
	OUT_FAIL,
	OUT_REPLACE,
	OUT_DONE_WITH,
	OUT_CONFIG,
	OUT_RELEASE,
	OUT_CANCEL, /* by an operator, while it was in hand */
	OUT_NOUTCOMES
};

/* Something that a plugin started for a message and that dies with it: a timer, a transfer, a query. */
struct msg_resource {
	TAILQ_ENTRY(msg_resource) link;
	void (*end)(struct msg_resource *r); /* ends it without its callback and frees it */
	struct pgmqd_msg *msg;
};

struct pgmqd_msg {
	TAILQ_ENTRY(pgmqd_msg) link;
	enum msg_state state;
	struct messages *all;        /* the lists it is on */
	struct pgmqd_worker *worker; /* whose message it is; NULL only before it is claimed */
	int64_t id;
	int read_ct, nonce; /* with id and born_us, what identifies the claim; see queue_sql.c */
	int64_t born_us;
	char *unreadable; /* why the database cannot print the message, which then has no text: a dead letter */
	unsigned attempt; /* claims that count */
	int64_t enqueued_us;
	int64_t due_us; /* when it could be claimed: enqueued, or at the end of its delay, of the pause before a retry,
	                   or of a lease */
	int64_t first_due_us; /* when it could be claimed for the first time: enqueued, or the end of the delay it was
	                         sent with */
	struct trace trace;   /* out of the headers; see trace.h */
	char span[TRACE_PARENT_SIZE]; /* what pgmqd_msg_traceparent() gave last */
	double priority;              /* a message of higher priority is delivered before lower ones */
	char *text, *headers;         /* as PostgreSQL printed them; text is NULL for an SQL null */
	size_t text_len;
	struct cJSON *json;
	bool json_tried;
	int64_t lease_ms;             /* boottime at which the lease ends */
	int64_t run_ms;               /* boottime at which it was given to the plugin */
	int64_t started_us, ended_us; /* real time */
	int64_t asked_us, claimed_us; /* real time of its claim, where spans are sent */
	TAILQ_HEAD(, msg_resource) resources;
	unsigned unheard; /* statements of the plugin without a callback: its outcome is stored after them */
	unsigned hand;    /* its place among the messages in hand, for the next process */
	void *data;       /* the plugin's own */
	unsigned *call;   /* in a batch: how many messages of its call are still with the plugin */
	bool together;    /* it was not alone in its call */
	bool apart;       /* its call for many has failed as a whole: it goes alone from here on */
	bool cancelling, cancelled;
	uint64_t settled_in; /* the call into the plugin (plugin_call_serial) in which it got its outcome */
	/* the outcome, once there is one */
	enum msg_outcome outcome;
	bool adopted; /* another claim holds it since its outcome was sent */
	bool again;   /* its settling was sent once and the answer was lost */
	unsigned
		unsure; /* done_with: 1: sent anew, since the try without an answer was not known; 2: asked once more */
	bool stuck;     /* the database refuses it for good: kept in memory */
	unsigned refused;   /* how often in a row, for a passing reason */
	unsigned renewed;   /* how often it had the tables looked at again, or the session made anew */
	unsigned batch_max; /* messages in its statement, after a larger batch with it was refused; 0: any number */
	int64_t send_at_ms; /* boottime before which it is not sent again */
	char *reason;
	const char *class;  /* of a failure: "permanent", "attempts", "deadline", "crash"; static text, or own_class */
	char own_class[32]; /* given by the plugin */
	int64_t delay_ms;
	char *result;  /* done_result's JSON, for the header then */
	char *sends;   /* messages that the plugin sends along with done: JSON objects with commas between them */
	bool recorded; /* done_with: its statement has run alone, since the message could not be archived */
	char *sql;     /* done_with's statement, or replace's JSON */
	bool shared;   /* done_batch: the statement is run once for all messages that have the same one */
	int nparams;
	char **params;
};
TAILQ_HEAD(msg_list, pgmqd_msg);

/* The messages of one queue: a list and a count for each state, in order of arrival; MSG_WAITING goes by priority. */
struct messages {
	struct msg_list list[MSG_NSTATES];
	unsigned count[MSG_NSTATES];
	unsigned calls;          /* of batches, of which messages are still with the plugin */
	struct stats_slot *slot; /* shows the counts, and the numbers in hand */
};

void messages_init(struct messages *all, struct stats_slot *slot);
unsigned messages_in_hand(const struct messages *all); /* claimed and without an outcome */
bool messages_are_none(const struct messages *all);

/* A new message, zeroed, MSG_FREE. message_move() puts it onto the list of its new state; no other function does. */
struct pgmqd_msg *message_new(struct messages *all, struct pgmqd_worker *worker);
void message_move(struct pgmqd_msg *m, enum msg_state to);
/* These messages, MSG_RUNNING, are given to the plugin in one call, which is over when all of them have moved on. */
void message_call(struct pgmqd_msg *const *msgs, size_t n);
/* The message of that number and birth that is in hand or on its way to the database, or NULL. */
struct pgmqd_msg *message_find(struct messages *all, int64_t id, int64_t born_us);
/* Whether one of these has that number: an answer names messages by their numbers, and numbers may begin again. */
#define MESSAGE_NUMBERS 64
struct message_numbers {
	uint64_t seen[MESSAGE_NUMBERS]; /* a bit for each remainder */
};
bool message_number_in(
	struct message_numbers *numbers, struct pgmqd_msg *const *msgs, size_t n, int64_t id); /* and remembers it */
/* The claim of `other`, of the same message, holds it now, and counts as an attempt, too. */
void message_adopt(struct pgmqd_msg *m, const struct pgmqd_msg *other);
/* Takes it off its list and ends its resources. Its memory is reused late, so that a stale pointer is noticed. */
void message_forget(struct pgmqd_msg *m);
void message_end_resources(struct pgmqd_msg *m);
const struct cJSON *message_json(struct pgmqd_msg *m);
/* The n-th parameter of the statement that these messages share: an array with one element for each; or that of the
 * only one. Malloc'd; NULL for an SQL null. */
char *message_param(struct pgmqd_msg *const *msgs, size_t count, int n);
/* When a message was first due. The first claim of one that was sent with a delay writes that time into its header
 * MESSAGE_DUE. */
#define MESSAGE_DUE "pgmqd_due_us"
int64_t message_first_due(const struct pgmqd_msg *m);
const char *outcome_name(enum msg_outcome o);
const char *message_why_over(const struct pgmqd_msg *m); /* why it takes no outcome: "is gone" */

#endif
