/* queue.h: what a worker asks of a queue: look, claim, settle, extend, sleep and wake up. Each kind of queue fills in a
 * table of functions: queue.c for a pgmq queue in PostgreSQL, cmd/plugin/queue_file.c for messages from a file. */
#ifndef QUEUE_H
#define QUEUE_H

#include "pg/pgconn.h"
#include "settings/limits.h"
#include "worker/message.h"

#include <stddef.h>

/* A look for messages: claims up to `n` that are due, those that fell due first or the most urgent. */
struct queue_look {
	unsigned n;
	bool full;       /* a look that may leave nothing out, however much it costs */
	bool ask_shared; /* also ask whether another worker has this queue */
	bool ask_due;    /* also ask when the next message falls due */
	bool small;      /* a large message comes without its text and headers, but with its size */
	bool hurry;      /* the queue is idle: one message may come ahead of the look's answer */
};

/* The answer. `due_ms` is the time until the next look makes sense (a day at most): the next message falls due then, or
 * a look that was not full is to be followed by one that is. It is known only of a look that got less than it asked
 * for. */
#define QUEUE_NOT_DUE INT64_MAX
struct queue_claim {
	const char *error, *sqlstate;
	bool ahead; /* the one message of a hurried look; the answer, with those that come after it, follows */
	int rows;
	int refused; /* so many more cannot be claimed because of their content: queue_claim_row() gives them after the
	                rows, `unreadable`, and they are not claimed again for a while */
	int64_t sent_ms; /* on the boottime clock: when the statement that brought the rows was sent, after others of
	                    the look that failed, maybe; 0: with the look */
	int64_t due_ms;
	int shared;     /* whether another worker has this queue, too: 1, or 2 while one is awake; 0; -1: not asked */
	bool changed;   /* the queue's table or its indexes are others now: probe it again */
	bool rewritten; /* a row is not as the claim wrote it: there may be a trigger that the last probe did not find
	                 */
	int silent; /* the server's notification queue fills up, so producers do not notify: 1 or 0; -1: not asked */
	const char *unreadable; /* these rows cannot be read, for this reason: they come without text and headers */
	const void *kept;       /* the rows, for queue_claim_row() */
};

/* The result for each message of a settling or an extension. */
enum queue_fate {
	QUEUE_LOST = 0, /* the claim does not hold the message any more: nothing was changed */
	QUEUE_SETTLED,  /* written, now or by an earlier try whose answer was lost; extended */
	QUEUE_LOCKED,   /* the claim holds it, but another session has locked the row: try again */
	QUEUE_REFUSED   /* the claim holds it, but a trigger of the table's owner keeps the row as it is */
};
/* The error of QUEUE_REFUSED, and its SQLSTATE: as if the trigger had raised an error. */
#define QUEUE_REFUSED_ERROR "a trigger on the queue's table keeps the row as it is"
#define QUEUE_REFUSED_STATE "P0000"
/* Why a row cannot be claimed when the claim would not be the one that was written. */
#define QUEUE_CHANGED_ERROR "a trigger on the queue's table changes msg_id, read_ct or vt of a row that is claimed"

struct queue_settled {
	const char *error, *sqlstate;
	bool lost; /* OUT_DONE_WITH: one of them was lost, so that the plugin's statement was rolled back */
	bool ours; /* OUT_DONE_WITH: the error is not of the plugin's statement */
	size_t n;
	const enum queue_fate *fate; /* one for each message, in the order given; NULL with an error */
};

/* `error` is NULL on success, else a line that says what is wrong and what to do. `warning` too may be NULL. */
typedef void (*queue_probe_cb)(void *arg, const char *error, const char *warning);
typedef void (*queue_claim_cb)(void *arg, const struct queue_claim *claim);
typedef void (*queue_lock_cb)(void *arg, bool ok);
typedef void (*queue_settled_cb)(void *arg, const struct queue_settled *s);
/* `why` is NULL when the queue is not paused, and when the database could not say (`error`). */
typedef void (*queue_pause_cb)(void *arg, const char *why, const char *error, const char *sqlstate);

/* Messages that an operator wants cancelled, if a claim of that number holds them. */
struct queue_cancel {
	int64_t id, born_us;
	int read_ct;
	const char *why;
};
typedef void (*queue_cancels_cb)(
	void *arg, const struct queue_cancel *cancels, size_t n, const char *error, const char *sqlstate);

/* The first member of every kind of queue. */
struct queue {
	const struct queue_ops *ops;
};

/* One function for each of the calls below; see there. */
struct queue_ops {
	void (*free)(struct queue *q);
	bool (*is_up)(const struct queue *q);
	void (*probe)(struct queue *q, queue_probe_cb cb, void *arg);
	bool (*has_dlq)(const struct queue *q);
	const char *(*order)(const struct queue *q);
	void (*claim)(struct queue *q, const struct queue_look *look, queue_claim_cb cb, void *arg);
	void (*claim_row)(const struct queue *q, const struct queue_claim *claim, int row, struct pgmqd_msg *m);
	void (*awake)(struct queue *q, queue_lock_cb cb, void *arg);
	void (*release_awake)(struct queue *q, bool held, queue_lock_cb cb, void *arg);
	void (*settle)(struct queue *q, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n, bool again,
		queue_settled_cb cb, void *arg);
	void (*extend)(struct queue *q, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg);
	void (*ask_pause)(struct queue *q, queue_pause_cb cb, void *arg);
	void (*ask_cancels)(struct queue *q, queue_cancels_cb cb, void *arg);
	void (*announce)(struct queue *q, const char *channel);
	void (*reconnect)(struct queue *q, const char *reason);
	void (*query)(struct queue *q, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb,
		void *arg);
};

/* Callbacks come after the call has returned, except those of queue_awake() and queue_release_awake(). */

/* The settings of a queue in PostgreSQL. */
struct queue_rules {
	int64_t lease_ms;      /* the visibility timeout */
	unsigned max_attempts; /* after that many a message comes without its text */
	bool archive;          /* what is done, instead of deleting it */
	bool grouped;          /* messages of one group run one at a time and in order */
	bool allow_unlogged;   /* the queue may be one that a crash of the server empties */
	bool records;          /* the plugin's statements of done_with may run without the archive */
	const char *then;      /* queues that the headers then and else may name; NULL or "": they are not followed */
	struct limits limits;  /* how many messages in a time, and how many at once */
};

/* The connections of a queue. */
struct plugin_db;
struct second;
struct queue_conns {
	struct pgconn *first;        /* for everything, if there are no others */
	struct second *second;       /* for what is done, while there is a backlog */
	struct plugin_db *plugin_db; /* for statements of plugins */
};

/* A queue in PostgreSQL; plugin and version go into dead letters. */
struct queue *queue_new(const struct queue_conns *conns, const char *name, const struct queue_rules *rules,
	const char *plugin, const char *version);

static inline void queue_free(struct queue *q)
{
	if (q)
		q->ops->free(q);
}

/* Whether statements can be sent now. */
static inline bool queue_is_up(const struct queue *q)
{
	return q->ops->is_up(q);
}

/* Looks at the queue's tables; needed after each (re)connect and when an error says that they have changed. */
static inline void queue_probe(struct queue *q, queue_probe_cb cb, void *arg)
{
	q->ops->probe(q, cb, arg);
}

/* Whether there is a place for dead letters; OUT_FAIL must not be settled without. */
static inline bool queue_has_dlq(const struct queue *q)
{
	return q->ops->has_dlq(q);
}

/* The order in which a claim picks messages, in words. */
static inline const char *queue_order(const struct queue *q)
{
	return q->ops->order(q);
}

static inline void queue_claim(struct queue *q, const struct queue_look *look, queue_claim_cb cb, void *arg)
{
	q->ops->claim(q, look, cb, arg);
}

/* Within the claim's callback: fills in what identifies the claim, attempt, priority, times and texts. A text_len
 * without a text: the text was not asked for (look.small), or there is no memory for it. */
static inline void queue_claim_row(const struct queue *q, const struct queue_claim *claim, int row, struct pgmqd_msg *m)
{
	q->ops->claim_row(q, claim, row, m);
}

/* The handshake of wakeup.c: takes the lock "awake". */
static inline void queue_awake(struct queue *q, queue_lock_cb cb, void *arg)
{
	q->ops->awake(q, cb, arg);
}

/* Gives "awake" up (if `held`), and tries to have "in flight" once. */
static inline void queue_release_awake(struct queue *q, bool held, queue_lock_cb cb, void *arg)
{
	q->ops->release_awake(q, held, cb, arg);
}

/* Writes the outcome of messages that share it (`again`: it may be written already). OUT_REPLACE takes one message at a
 * time, and so does OUT_DONE_WITH unless they are `shared` and have the same statement. OUT_DONE_WITH with `again` only
 * asks: a message whose fate is not QUEUE_SETTLED is still to be settled. */
static inline void queue_settle(struct queue *q, enum msg_outcome outcome, struct pgmqd_msg *const *msgs, size_t n,
	bool again, queue_settled_cb cb, void *arg)
{
	q->ops->settle(q, outcome, msgs, n, again, cb, arg);
}

/* Starts the leases of these messages anew. */
static inline void queue_extend(
	struct queue *q, struct pgmqd_msg *const *msgs, size_t n, queue_settled_cb cb, void *arg)
{
	q->ops->extend(q, msgs, n, cb, arg);
}

/* Asks whether an operator has paused the queue. */
static inline void queue_ask_pause(struct queue *q, queue_pause_cb cb, void *arg)
{
	q->ops->ask_pause(q, cb, arg);
}

/* Asks which messages are to be cancelled; a queue without operators has none. */
static inline void queue_ask_cancels(struct queue *q, queue_cancels_cb cb, void *arg)
{
	if (q->ops->ask_cancels)
		q->ops->ask_cancels(q, cb, arg);
}

/* Notifies all workers of this queue, so that they look. */
static inline void queue_announce(struct queue *q, const char *channel)
{
	q->ops->announce(q, channel);
}

/* Drops the session, which is of no use, and makes a new one. */
static inline void queue_reconnect(struct queue *q, const char *reason)
{
	q->ops->reconnect(q, reason);
}

/* Runs a plugin's own statement; cb may be NULL. */
static inline void queue_query(
	struct queue *q, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	q->ops->query(q, sql, nparams, params, cb, arg);
}

/* Whether an SQLSTATE means that the tables have changed under us and must be probed again. */
bool queue_is_stale(const char *sqlstate);

#endif
