/* queue_private.h: what queue.c, which holds the SQL, and queue_call.c, which runs it, share. */
#ifndef QUEUE_PRIVATE_H
#define QUEUE_PRIVATE_H

#include "queue.h"

#define FENCE_MARK "pgmqd: lease lost" /* in the error by which the fence of done_with fails */

enum stmt { ST_CLAIM, ST_DONE, ST_RETRY, ST_RELEASE, ST_FAIL, ST_REPLACE, ST_FENCE, ST_KNOWN, ST_EXTEND, ST_AWAKE, ST_UNLOCK, ST_FLIGHT, ST_COUNT };

struct queue {
	struct pgconn *pg;
	char *name;  /* as configured and as in notifications */
	char *oid;   /* of the queue's table, as the first key of its advisory locks (-1 in flight, -2 awake, -3 present) */
	char *mark;  /* low-water mark: a time below which no visible row can be that was not seen */
	char *fence; /* the mark to be, once all transactions up to fence_xid are over */
	unsigned long long fence_xid;
	char *table; /* lower case, without the q_ */
	char *plugin, *version;
	int64_t lease_ms;
	unsigned max_attempts;
	bool archive, headers, a_headers, last_read, a_last_read, has_dlq, refunds;
	char stmt[ST_COUNT][24];
	char *text[ST_COUNT]; /* what they say, for where they cannot be prepared */
	bool pooled;
	queue_probe_cb probe_cb;
	void *probe_arg;
	unsigned preparing;
	char *probe_error, *probe_warning;
};

#endif
