/* queue_private.h: what queue.c and queue_order.c, which hold the SQL, and queue_run.c, which runs it, share. */
#ifndef QUEUE_PRIVATE_H
#define QUEUE_PRIVATE_H

#include "worker/queue.h"

#define FENCE_MARK "pgmqd: lease lost" /* in the error by which the fence of done_with fails */
#define QUEUE_LARGE (1024U * 1024U)    /* bytes of text: a message for which there may be no memory */

/* What is small comes first: the index that pgmqd.prioritize_queue() in sql/020_pgmqd.sql makes is on the same
 * expression. */
#define QUEUE_RANK                                                                                                     \
	"(CASE WHEN pg_catalog.jsonb_typeof(message -> 'priority') = 'number' THEN - pg_catalog.floor((message -> "    \
	"'priority')::numeric) ELSE 0 END)"

enum stmt { /* new ones at the end: tests/faults/test_link.py knows the first ones by their numbers */
	ST_CLAIM,
	ST_DONE,
	ST_RETRY,
	ST_RELEASE,
	ST_FAIL,
	ST_REPLACE,
	ST_FENCE,
	ST_KNOWN,
	ST_EXTEND,
	ST_AWAKE,
	ST_UNLOCK,
	ST_FLIGHT,
	ST_TURN,
	ST_CLAIM_MANY,
	ST_DONE_AGAIN,
	ST_COUNT
};

struct queue {
	struct pgconn *pg;
	char *name; /* as configured and as in notifications */
	char *oid;  /* of the queue's table, as the first key of its advisory locks (-1 in flight, -2 awake, -3 present,
	               -4 turns) */
	char *mark; /* low-water mark: a time below which no visible row can be that was not seen */
	char *horizon; /* a time below which no transaction that still runs can bring a row: the mark's limit */
	char *fence;   /* the horizon to be, once all transactions up to fence_xid are over */
	unsigned long long fence_xid;
	int64_t fence_ms, claimed_ms; /* when the last fence was set, and when messages were claimed last */
	char *table;                  /* lower case, without the q_ */
	char *plugin, *version;
	int64_t lease_ms;
	unsigned max_attempts;
	bool archive, headers, a_headers, last_read, a_last_read, has_dlq, refunds;
	bool many;                    /* the last look got all it asked for */
	bool grouped, allow_unlogged; /* as configured */
	bool priority;                /* there is the index that pgmqd.prioritize_queue() makes */
	char stmt[ST_COUNT][24];
	char *text[ST_COUNT]; /* what they say, for where they cannot be prepared */
	bool pooled;
	queue_probe_cb probe_cb;
	void *probe_arg;
	unsigned preparing;
	char *probe_error, *probe_warning;
};

char *queue_pick_sql(
	const struct queue *q); /* the WITH items of a claim, the last of which is `picked`: the rows, locked */
char *queue_seen_sql(
	const struct queue *q, bool many); /* the time below which such a claim, $7 at most, has left nothing due */

#endif
