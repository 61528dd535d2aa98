/* queue_order.c: which of the due messages a claim picks: by the time they fell due, by priority, or one of each group
 * in turn.
 *
 * By time is what every queue does, with the index on vt alone. The other two cost an index, so they are for queues
 * that asked for it.
 *
 * Priority (pgmqd.prioritize_queue): the index is (rank, vt), the rank being minus the number in "priority". Levels -9
 * to 9 are looked through one by one, each from the low-water mark on, so that rows that are dead or not yet due cost
 * nothing; what lies beyond them comes in two ranges, whose dead and delayed rows are walked over.
 *
 * Groups (ordered = group): a message of a group may run when the table has none of its group with a lower number, and
 * none that is held. What is being handled or waits for a retry stays in the table, so that holds for
 * all dispatchers. Two claims at the same time could each miss what the other one takes: they take turns by a lock, had
 * before the claim's snapshot is taken. A queue with limits does the same; what they leave of a claim is in
 * queue_limit.c.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/xalloc.h"

#include <stdlib.h>

#define LEVELS "9"
/* Due rows that are tried one after the other before the groups are looked through: enough that a few slow groups do
 * not matter. */
#define CANDIDATES "1000"
#define GROUP "(headers ->> 'group'::text)"
#define CLAIMED "least(read_ct, 1)" /* 0: fresh, 1: claimed before */

/* How many a claim picks at most. */
static const char *pick_count(const struct queue_pg *q)
{
	return limits_any(&q->rules.limits) ? "(SELECT n FROM budget)" : "$1::int";
}

/* Due rows by the vt index from the mark on. */
static char *pick_by_time(const struct queue_pg *q)
{
	return xasprintf("picked AS MATERIALIZED (SELECT msg_id, vt FROM %s WHERE vt >= " MARK ""
			 " AND vt <= (SELECT pg_catalog.clock_timestamp())" NOT_REFUSED
			 " ORDER BY vt LIMIT %s FOR UPDATE SKIP LOCKED)",
		q->queue_table, pick_count(q));
}

/* One range of ranks, in order. */
static char *pick_ranks(const struct queue_pg *q, const char *condition)
{
	return xasprintf("SELECT r.msg_id FROM (SELECT msg_id FROM %s WHERE " QUEUE_RANK " %s AND vt >= " MARK
			 " AND vt <= " NOW NOT_REFUSED " ORDER BY " QUEUE_RANK
			 ", vt LIMIT %s FOR UPDATE SKIP LOCKED) r",
		q->queue_table, condition, pick_count(q));
}

/* The levels from the highest to the lowest. A comparison of rows, because only the index on both can answer it. */
static char *pick_by_priority(const struct queue_pg *q)
{
	char *above = pick_ranks(q, "< -" LEVELS "::numeric"), *below = pick_ranks(q, "> " LEVELS "::numeric"), *sql;

	sql = xasprintf("picked AS MATERIALIZED "
			"(SELECT msg_id FROM ("
			"%1$s UNION ALL SELECT l.msg_id FROM pg_catalog.generate_series(-" LEVELS ", " LEVELS ") rank,"
			" LATERAL (SELECT msg_id FROM %2$s WHERE (" QUEUE_RANK ", vt) >= (rank::numeric, " MARK ")"
			" AND (" QUEUE_RANK ", vt) <= (rank::numeric, " NOW ")" NOT_REFUSED " ORDER BY " QUEUE_RANK
			", vt LIMIT %4$s FOR UPDATE SKIP LOCKED) l"
			" UNION ALL %3$s) x LIMIT %4$s)",
		above, q->queue_table, below, pick_count(q));
	free(above);
	free(below);
	return sql;
}

/* A condition that is true when no message of the same group has to come before r, or runs. */
static char *group_is_free(const struct queue_pg *q, const char *r)
{
	return xasprintf("NOT EXISTS (SELECT FROM %1$s WHERE " GROUP " = %2$s.g AND " CLAIMED
			 " = 0 AND msg_id < %2$s.msg_id)"
			 " AND NOT EXISTS (SELECT FROM %1$s WHERE " GROUP " = %2$s.g AND " CLAIMED
			 " = 1 AND msg_id <> %2$s.msg_id"
			 " AND (msg_id < %2$s.msg_id OR vt > " NOW "))",
		q->queue_table, r);
}

/* The heads of groups that are free: of those among the due messages, in their order; and where all that were tried
 * wait for others, of all groups by the index, from any one on, so that each gets its turn. Messages without a group
 * are free. */
static char *pick_by_group(const struct queue_pg *q)
{
	char *tried = group_is_free(q, "c"), *head = group_is_free(q, "h"), *sql;

	sql = xasprintf(
		"due AS MATERIALIZED (SELECT msg_id, " GROUP " AS g FROM %1$s WHERE vt >= " MARK
		" AND vt <= " NOW NOT_REFUSED " ORDER BY vt LIMIT " CANDIDATES "),"
		" tried AS MATERIALIZED (SELECT c.msg_id FROM due c WHERE c.g IS NULL OR %2$s LIMIT %4$s),"
		" groups(g) AS (SELECT u.g FROM (SELECT (SELECT " GROUP " FROM %1$s WHERE " GROUP
		" IS NOT NULL ORDER BY " GROUP " LIMIT 1) AS g"
		" UNION ALL SELECT (SELECT " GROUP " FROM %1$s WHERE msg_id >= (SELECT pg_catalog.min(msg_id) + "
		"pg_catalog.floor(pg_catalog.random() * (pg_catalog.max(msg_id) -"
		" pg_catalog.min(msg_id) + 1)) FROM %1$s)::bigint ORDER BY msg_id LIMIT 1)) u WHERE u.g IS NOT NULL"
		" UNION SELECT n.g FROM groups w, LATERAL (SELECT " GROUP " AS g FROM %1$s WHERE " GROUP
		" > w.g ORDER BY " GROUP " LIMIT 1) n),"
		" others AS (SELECT h.msg_id FROM groups w, LATERAL (SELECT o.msg_id, o.vt, w.g FROM ("
		"(SELECT msg_id, vt FROM %1$s WHERE " GROUP " = w.g AND " CLAIMED
		" = 0 ORDER BY msg_id LIMIT 1) UNION ALL"
		" (SELECT msg_id, vt FROM %1$s WHERE " GROUP " = w.g AND " CLAIMED
		" = 1 ORDER BY msg_id LIMIT 1)) o ORDER BY o.msg_id LIMIT 1) h"
		" WHERE h.vt <= " NOW " AND %3$s UNION ALL"
		" (SELECT msg_id FROM %1$s WHERE " GROUP " IS NULL AND vt <= " NOW " ORDER BY msg_id LIMIT %4$s)),"
		" picked AS MATERIALIZED (SELECT msg_id FROM %1$s WHERE msg_id = ANY (ARRAY(SELECT p.msg_id "
		"FROM (SELECT t.msg_id FROM tried t"
		" UNION ALL SELECT o.msg_id FROM others o WHERE (SELECT pg_catalog.count(*) FROM due) = " CANDIDATES
		" AND (SELECT pg_catalog.count(*) FROM tried) < %4$s"
		" AND o.msg_id <> ALL (ARRAY(SELECT t.msg_id FROM tried t))) p LIMIT %4$s)) AND vt <= " NOW NOT_REFUSED
		" FOR UPDATE SKIP LOCKED)",
		q->queue_table, tried, head, pick_count(q));
	free(tried);
	free(head);
	return sql;
}

bool queue_passes_over(const struct queue_pg *q)
{
	return q->rules.grouped || limits_any(&q->rules.limits);
}

/* The rows of a queue without limits, or within their budget. */
static char *pick(const struct queue_pg *q)
{
	return q->rules.grouped ? pick_by_group(q) : q->priority ? pick_by_priority(q) : pick_by_time(q);
}

char *queue_pick_sql(const struct queue_pg *q, bool claims)
{
	bool limited = limits_any(&q->rules.limits), clock = limited || q->rules.grouped || q->priority;
	char *budget = limited ? queue_limit_budget(q) : xstrdup("");
	char *picked = q->rules.limits.key ? queue_limit_pick(q) : pick(q);
	char *spend = limited && claims ? queue_limit_spend(q) : xstrdup("");
	char *sql = xasprintf("%s%s%s%s%s", q->rules.grouped || q->rules.limits.key ? "RECURSIVE " : "",
		clock ? CLOCK ", " : "", budget, picked, spend);

	free(budget);
	free(picked);
	free(spend);
	return sql;
}

const char *queue_pg_order(const struct queue *base)
{
	const struct queue_pg *q = (const struct queue_pg *)(const void *)base;

	return q->rules.limits.key ? "by key" : q->rules.grouped ? "by group" : q->priority ? "by priority" : "by time";
}
