/* queue.h: one pgmq queue as statements: look at the catalogue, claim, settle, extend; the only door to queue SQL. */
#ifndef QUEUE_H
#define QUEUE_H

#include "pg/pgconn.h"
#include "worker/message.h"

#include <stddef.h>

struct queue;

/* What the settings say of a queue. */
struct queue_rules {
	unsigned max_attempts; /* after that many a message comes without its text */
	bool archive;          /* what is done, instead of deleting it */
	bool grouped;          /* messages of one group run one at a time and in order */
	bool allow_unlogged;   /* the queue may be one that a crash of the server empties */
};

/* `lease_ms` is the visibility timeout; plugin and version go into dead letters. */
struct queue *queue_new(struct pgconn *c, const char *name, int64_t lease_ms, const struct queue_rules *rules,
	const char *plugin, const char *version);
void queue_free(struct queue *q);

/* Looks the queue's tables up and prepares the statements for what they are; to be done after every (re)connect and
 * when queue_is_stale() says so. `error` is NULL on success, else a line that says what is wrong and what to do.
 * `warning` too may be NULL. */
typedef void (*queue_probe_cb)(void *arg, const char *error, const char *warning);
void queue_probe(struct queue *q, queue_probe_cb cb, void *arg);

/* Whether there is a place for dead letters; OUT_FAIL must not be settled without. */
bool queue_has_dlq(const struct queue *q);

/* What a claim picks first, in words. */
const char *queue_order(const struct queue *q);

/* Whether an SQLSTATE means that the tables have changed under us and must be probed again. */
bool queue_is_stale(const char *sqlstate);

/* Claims up to n visible messages under the visibility timeout: those that fell due first, or the most urgent. `due_ms`
 * is the time until the next message that is not yet visible falls due (a day at most), asked for by `due` and known
 * only of a look that got less than it asked for: finding it takes a walk over what was claimed and settled within the
 * lease. A look that is not `full` begins at the low-water mark, below which nothing can be that was not seen before.
 * `ask`: also whether the queue is shared. `small`: what is large comes without its text and headers. */
#define QUEUE_NOT_DUE INT64_MAX
struct queue_claim {
	const char *error, *sqlstate;
	int rows;
	int64_t due_ms;
	int shared;   /* whether another worker has this queue, too: 1 or 0; -1: not asked */
	bool changed; /* the queue's indexes are others now: probe it again */
	const PGresult *res;
};
typedef void (*queue_claim_cb)(void *arg, const struct queue_claim *claim);
void queue_claim(struct queue *q, unsigned n, bool full, bool ask, bool due, bool small, queue_claim_cb cb, void *arg);
/* Fills id, read_ct, attempt, priority, texts. A text_len without a text: there is no memory for it. */
void queue_claim_row(const struct queue_claim *claim, int row, struct pgmqd_msg *m);

/* The handshake of wakeup.c: takes the lock "awake"; gives it up (if `held`) and tries to have "in flight" once. */
typedef void (*queue_lock_cb)(void *arg, bool ok);
void queue_awake(struct queue *q, queue_lock_cb cb, void *arg);
void queue_doze(struct queue *q, bool held, queue_lock_cb cb, void *arg);

/* Tells the database the outcome of messages that share it (`again`: it may know already). The callback gets the
 * ids for which the lease still held; the others were lost. OUT_REPLACE takes one message at a time, and so
 * does OUT_DONE_WITH unless they are `shared` and have the same statement; OUT_DONE_WITH with `again` only asks, and an
 * id that does not come back is still to be settled. */
struct queue_settled {
	const char *error, *sqlstate;
	bool lost; /* OUT_DONE_WITH: the lease of one of them was lost, the plugin's statement was rolled back */
	int nids;
	const PGresult *res;
};
typedef void (*queue_settled_cb)(void *arg, const struct queue_settled *s);
void queue_settle(struct queue *q, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n, bool again,
	queue_settled_cb cb, void *arg);
int64_t queue_settled_id(const struct queue_settled *s, int row);

/* Starts the leases of these messages anew, fenced like a settling. */
void queue_extend(struct queue *q, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg);

/* Asks whether an operator has paused the queue: `why` is NULL when not, and when nobody can tell (`error`). */
typedef void (*queue_pause_cb)(void *arg, const char *why, const char *error);
void queue_pause(struct queue *q, queue_pause_cb cb, void *arg);

/* The listener's statements, here because they name the channel: LISTEN, and a notification to oneself. */
void queue_listen(struct pgconn *c, const char *channel, pgconn_result_cb cb, void *arg);
void queue_notify(struct pgconn *c, const char *channel, const char *payload, pgconn_result_cb cb, void *arg);

#endif
