/* fake_queue.h: a queue for tests of the message path: it keeps each call until the test answers it. */
#ifndef FAKE_QUEUE_H
#define FAKE_QUEUE_H

#include "process/stats.h"
#include "settings/settings.h"
#include "worker/plugin.h"
#include "worker/plugin_call.h"
#include "worker/queue.h"

#include <event2/event.h>

enum fake_kind {
	FAKE_PROBE,
	FAKE_CLAIM,
	FAKE_SETTLE,
	FAKE_EXTEND,
	FAKE_PAUSE,
	FAKE_AWAKE,
	FAKE_RELEASE,
	FAKE_QUERY,
	FAKE_CANCELS
};

/* One call that waits for its answer. */
struct fake_call {
	enum fake_kind kind;
	struct queue_look look;
	enum msg_outcome outcome;
	bool again, held;
	const char *reason, *class; /* of the first message */
	int64_t delay_ms;
	size_t n;
	int64_t ids[64]; /* of the first ones */
	char *param;     /* of a statement of the plugin: the first one */
	union {
		queue_probe_cb probe;
		queue_claim_cb claim;
		queue_settled_cb settled;
		queue_pause_cb pause;
		queue_cancels_cb cancels;
		queue_lock_cb lock;
		pgconn_result_cb query;
	} cb;
	void *arg;
};

/* A message that a claim brings. */
struct fake_row {
	int64_t id;
	int read_ct;
	const char *text;
	double priority;
	int64_t born;    /* 0: as the number */
	int64_t late_ms; /* it was due so long ago */
	size_t withheld; /* it comes without its text, which has this size */
	int nonce;
};

/* What a claim says of the queue, beside its rows. */
struct fake_about {
	int64_t due_ms;
	int shared, silent;
	int refused; /* so many of the last rows cannot be claimed */
	bool changed;
};

struct fake {
	struct queue queue; /* must be first */
	struct event_base *base;
	bool up, no_dlq;
	bool config_error;          /* the plugin answers each message so */
	bool stubborn, took;        /* it gives an outcome when its message is taken back; whether that counted */
	struct fake_about about;    /* of the claims that are answered from here on */
	struct fake_call calls[64]; /* in the order in which they were made */
	size_t ncalls;
	unsigned announced, reconnects;
	struct settings settings;
	struct queue_settings qs;
	struct stats *stats;
	struct stats_slot *slot;
	struct plugin *plugin; /* its deliver() keeps the messages */
	struct pgmqd_msg *delivered[64];
	unsigned ndelivered, cancelled;
	unsigned batches, batch; /* calls of deliver_batch(), and the messages of the last one */
};

/* Everything that a flow, or a part of one, needs. Only one at a time. */
struct fake *fake_new(void);
void fake_free(struct fake *f);
/* The connection is lost: what is under way is not answered, and what settling and leases keep for it is freed. */
void fake_lose(struct fake *f);
/* A worker for tests of one part; its messages are `all`. */
void fake_worker(struct fake *f, struct pgmqd_worker *w, struct messages *all);
/* A claimed message, in that state. */
struct pgmqd_msg *fake_message(struct pgmqd_worker *w, int64_t id, enum msg_state state);

size_t fake_count(const struct fake *f, enum fake_kind kind);
const struct fake_call *fake_peek(const struct fake *f, enum fake_kind kind); /* the first one; fails without one */

/* Each answers the first call of its kind. */
void fake_answer_probe(struct fake *f, const char *error);
void fake_answer_claim(struct fake *f, const struct fake_row *rows, int n);
void fake_come_ahead(struct fake *f, const struct fake_row *row); /* of the first claim, which stays unanswered */
void fake_fail_claim(struct fake *f, const char *sqlstate);
void fake_answer_settle(struct fake *f, enum queue_fate fate);
void fake_fail_settle(struct fake *f, const char *sqlstate);
void fake_fail_fence(struct fake *f, const char *sqlstate); /* done_with fails by our part of it */
void fake_answer_query(struct fake *f, const char *error);
void fake_answer_extend(struct fake *f, enum queue_fate fate);
void fake_fail_extend(struct fake *f, const char *sqlstate);
void fake_answer_pause(struct fake *f, const char *why);
void fake_fail_pause(struct fake *f, const char *sqlstate);
void fake_answer_cancels(struct fake *f, const struct queue_cancel *cancels, size_t n);
void fake_fail_cancels(struct fake *f, const char *sqlstate);
void fake_answer_lock(struct fake *f, enum fake_kind kind, bool ok);

/* Moves all clocks and timers on, and runs what is due. 0: only what can run now. */
void fake_advance(struct fake *f, int64_t ms);

#endif
