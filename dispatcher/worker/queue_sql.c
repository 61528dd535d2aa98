/* queue_sql.c: the statements of a pgmq queue as texts: claim, settle, extend, locks.
 *
 * pgmq's own functions are not used: read() walks over every delayed row, and archive(), delete() and set_vt() take a
 * message from the session that holds it. The statements here do to the tables what those functions do, find due rows
 * by the index on vt, and are fenced by (msg_id, read_ct): a claim that has lost its message cannot settle it.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/sqltext.h"
#include "base/xalloc.h"

#include <stdlib.h>

/* The claim: the rows that queue_order.c picks, due and from the mark $3 on, then one row about the queue: with $6,
 * when that is not all there are, the time until the next that falls due, what the mark is made of (clock, oldest
 * running transaction and this one's own, which $8 asks for where nothing is claimed; and, with `many`, the last row's
 * vt as it was in this look's snapshot, up to the horizon $7), with $5 whether another worker holds the lock "present",
 * and with $4 whether the index for priorities has come or gone. A message that waits for its wake-up pays for every
 * table that the statement opens, also for what is then not asked: hence no join of the catalogue, and `seen` only
 * where the last look got all it asked for. A message that has had its attempts comes without its text, which may be
 * what none of them survived; with $9, a large one comes with its size instead. Where RETURNING asks the table itself,
 * it sees what was there before: the time at which the message fell due. A large claim asks only for those claimed
 * before, since that costs something for each. */
static char *sql_claim(const struct queue_pg *q, bool many)
{
	char *pick = queue_pick_sql(q), *seen = queue_seen_sql(q, many), *sql;

	sql = xasprintf(
		"WITH %7$s, claimed AS (UPDATE pgmq.\"q_%1$s\" q SET vt = pg_catalog.clock_timestamp() + interval "
		"'%2$lld milliseconds',"
		" read_ct = q.read_ct + 1%3$s WHERE q.msg_id = ANY (ARRAY(SELECT msg_id FROM picked))"
		" RETURNING q.msg_id, q.read_ct, q.enqueued_at, q.message, %4$s,"
		" CASE WHEN q.read_ct > 1 OR (SELECT count(*) FROM picked) <= 32 THEN (SELECT was.vt FROM "
		"pgmq.\"q_%1$s\" was WHERE was.msg_id = q.msg_id) END AS due)"
		" SELECT c.msg_id, c.read_ct, x.refunds,"
		" (pg_catalog.date_part('epoch', least(greatest(c.enqueued_at, '1900-01-01Z'::timestamptz), "
		"pg_catalog.clock_timestamp())) * 1000000)::bigint,"
		" CASE WHEN c.read_ct - x.refunds <= %10$u AND x.large IS NULL THEN c.message::text END, CASE WHEN "
		"x.large IS NULL THEN c.headers::text END,"
		" x.large::bigint, NULL::text, NULL::text, NULL::bool,"
		" %8$s, NULL::bool, NULL::text, (pg_catalog.date_part('epoch', least(greatest(c.enqueued_at, c.due, "
		"'1900-01-01Z'::timestamptz),"
		" pg_catalog.clock_timestamp())) * 1000000)::bigint FROM claimed c, LATERAL (SELECT %5$s AS refunds, "
		"CASE WHEN $9::bool"
		" AND octet_length(concat(c.message, c.headers)) >= %12$u THEN octet_length(concat(c.message, "
		"c.headers)) END AS large) x"
		" UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, CASE WHEN $6::bool AND (SELECT count(*) FROM "
		"picked) < $1::int THEN"
		" (extract(epoch FROM least((SELECT min(vt) FROM pgmq.\"q_%1$s\" WHERE vt > (SELECT "
		"pg_catalog.clock_timestamp())),"
		" pg_catalog.clock_timestamp() + interval '1 day') - pg_catalog.clock_timestamp()) * 1000)::bigint "
		"END, (pg_catalog.now() - interval '1 second')::text,"
		" concat_ws(':', pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()),"
		" CASE WHEN $8::bool OR (SELECT count(*) FROM picked) > 0 THEN pg_catalog.pg_current_xact_id() END),"
		" CASE WHEN $5::bool THEN NOT CASE WHEN pg_catalog.pg_try_advisory_lock(%6$s, -3) THEN "
		"pg_catalog.pg_advisory_unlock(%6$s, -3)"
		" ELSE false END END, NULL, CASE WHEN $4::bool THEN "
		"pg_catalog.to_regclass('pgmq.\"q_%1$s_priority_idx\"') IS %9$s NULL END, %11$s, NULL",
		q->table, (long long)q->rules.lease_ms,
		q->last_read ? ", last_read_at = pg_catalog.clock_timestamp()" : "",
		q->headers ? "q.headers" : "NULL::jsonb AS headers",
		q->refunds ? "CASE WHEN c.read_ct > 1 THEN coalesce((SELECT r.n FROM pgmqd.refunds r WHERE r.queue = "
			     "$2::text AND "
			     "r.msg_id = c.msg_id AND r.read_ct < c.read_ct), 0) ELSE 0 END"
			   : "0 * length($2::text)",
		q->oid, pick, q->priority && !q->rules.grouped ? "- " QUEUE_RANK "::float8" : "NULL::float8",
		q->priority ? "" : "NOT", q->rules.max_attempts, seen, QUEUE_LARGE);
	free(pick);
	free(seen);
	return sql;
}

/* The rows of `want` whose lease still holds, deleted. By the key, and no join: its plan could be quadratic, where the
 * queue was nearly empty when it was made. */
static char *sql_gone(const struct queue_pg *q)
{
	return xasprintf(
		"gone AS (DELETE FROM pgmq.\"q_%s\" q WHERE q.msg_id = ANY (ARRAY(SELECT w.msg_id FROM want w))"
		" AND ((q.msg_id, q.read_ct) IN (SELECT w.msg_id, w.read_ct FROM want w)) IS TRUE RETURNING q.*)",
		q->table);
}

/* What is copied into the archive. */
static char *sql_kept(const struct queue_pg *q)
{
	const char *more = q->headers && q->a_headers ? ", headers" : "",
		   *read = q->last_read && q->a_last_read ? ", last_read_at" : "";

	if (!q->rules.archive)
		return xstrdup("kept AS (SELECT msg_id FROM gone)");
	return xasprintf("kept AS (INSERT INTO pgmq.\"a_%1$s\" (msg_id, read_ct, enqueued_at, vt, message%2$s%3$s)"
			 " SELECT msg_id, read_ct, enqueued_at, vt, message%2$s%3$s FROM gone RETURNING msg_id)",
		q->table, more, read);
}

/* Arrays $1 (ids) and $2 (read counts). As subqueries, so that a plan for these values is no cheaper than one for all,
 * which the server then keeps: making one takes longer than a small batch. */
#define WANT "want AS (SELECT * FROM unnest((SELECT $1::bigint[]), (SELECT $2::int[])) w(msg_id, read_ct))"

/* Done: into the archive. Said `again`, also what the earlier, unanswered try has archived under the same lease counts.
 */
static char *sql_done(const struct queue_pg *q, bool again)
{
	char *gone = sql_gone(q), *kept = sql_kept(q), *sql;

	if (!again)
		sql = xasprintf("WITH " WANT ", %s, %s SELECT msg_id FROM kept", gone, kept);
	else if (q->rules.archive)
		sql = xasprintf(
			"WITH " WANT
			", %s, %s SELECT msg_id FROM kept UNION ALL SELECT a.msg_id FROM pgmq.\"a_%s\" a JOIN want w"
			" ON a.msg_id = w.msg_id AND a.read_ct = w.read_ct WHERE a.msg_id = ANY ($1::bigint[])",
			gone, kept, q->table);
	else /* a deleted row leaves no trace: only the holder of the lease can have deleted it */
		sql = xasprintf("WITH " WANT
				", %s, %s SELECT msg_id FROM kept UNION ALL SELECT w.msg_id FROM want w WHERE NOT"
				" EXISTS (SELECT FROM pgmq.\"q_%s\" q WHERE q.msg_id = w.msg_id)",
			gone, kept, q->table);
	free(gone);
	free(kept);
	return sql;
}

/* Retry: visible again after $3 (milliseconds, an array). */
static char *sql_retry(const struct queue_pg *q)
{
	return xasprintf(
		"UPDATE pgmq.\"q_%s\" q SET vt = pg_catalog.clock_timestamp() + w.delay * interval '1 millisecond'"
		" FROM unnest($1::bigint[], $2::int[], $3::bigint[]) w(msg_id, read_ct, delay)"
		" WHERE q.msg_id = ANY ($1::bigint[]) AND q.msg_id = w.msg_id AND q.read_ct = w.read_ct RETURNING "
		"q.msg_id, q.read_ct",
		q->table);
}

/* Release: like a retry, and the claim is written down as one that does not count; once, however often it is said. What
 * was written of a later claim is of another message, in a queue of the same name before this one. $4 is the queue's
 * name. */
static char *sql_release(const struct queue_pg *q)
{
	char *retry = sql_retry(q), *sql;

	if (q->refunds)
		sql = xasprintf("WITH back AS (%s), note AS (INSERT INTO pgmqd.refunds AS r (queue, msg_id, n, read_ct)"
				" SELECT $4::text, msg_id, 1, read_ct FROM back ON CONFLICT (queue, msg_id) DO UPDATE "
				"SET read_ct = excluded.read_ct,"
				" n = CASE WHEN r.read_ct < excluded.read_ct THEN r.n + 1 ELSE 1 END WHERE r.read_ct "
				"<> excluded.read_ct)"
				" SELECT msg_id FROM back",
			retry);
	else
		sql = xasprintf("WITH back AS (%s) SELECT msg_id FROM back WHERE $4::text IS NOT NULL", retry);
	free(retry);
	return sql;
}

/* Fail: into the dead-letter queue, body untouched, the history in the headers. $3 reasons, $4 classes, $5 attempts, $6
 * again. */
static char *sql_fail(const struct queue_pg *q)
{
	char *gone = sql_gone(q), *sql;
	char *plugin = sqltext_literal(q->plugin), *version = sqltext_literal(q->version),
	     *name = sqltext_literal(q->name);

	sql = xasprintf("WITH want AS (SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], "
			"$5::int[]) w(msg_id, read_ct, reason, class,"
			" attempts)), %1$s, put AS (INSERT INTO pgmq.\"%2$s\" (vt, message, headers) SELECT "
			"pg_catalog.clock_timestamp(), message,"
			" CASE WHEN jsonb_typeof(%3$s) = 'object' THEN %3$s ELSE '{}'::jsonb END || "
			"jsonb_build_object('pgmqd_dead',"
			" jsonb_build_object('queue', %4$s::text, 'msg_id', msg_id, 'read_ct', read_ct, 'attempts', "
			"attempts, 'enqueued_at', enqueued_at,"
			" 'died_at', pg_catalog.clock_timestamp(), 'class', class, 'reason', reason, 'plugin', "
			"%5$s::text, 'plugin_version', %6$s::text))"
			" FROM gone JOIN want USING (msg_id, read_ct) RETURNING 1)"
			" SELECT msg_id FROM gone UNION ALL SELECT w.msg_id FROM want w WHERE $6::bool AND EXISTS "
			"(SELECT FROM pgmq.\"%2$s\" d"
			" WHERE d.headers @> jsonb_build_object('pgmqd_dead', jsonb_build_object('msg_id', w.msg_id, "
			"'read_ct', w.read_ct)))",
		gone, q->dlq ? q->dlq : "", q->headers ? "headers" : "NULL::jsonb", name, plugin, version);
	free(gone);
	free(plugin);
	free(version);
	free(name);
	return sql;
}

/* Replace: the remainder $3 goes out after $4 ms, the original into the archive. */
static char *sql_replace(const struct queue_pg *q)
{
	char *gone = sql_gone(q), *kept = sql_kept(q), *sql;
	const char *col = q->headers ? ", headers" : "";

	sql = xasprintf("WITH " WANT ", %1$s, %2$s, sent AS (INSERT INTO pgmq.\"q_%3$s\" (vt, message%4$s) SELECT "
			"pg_catalog.clock_timestamp()"
			" + $4::bigint * interval '1 millisecond', $3::jsonb%5$s FROM gone RETURNING 1)"
			" SELECT msg_id FROM kept UNION ALL SELECT a.msg_id FROM pgmq.\"a_%3$s\" a JOIN want w ON "
			"a.msg_id = w.msg_id AND"
			" a.read_ct = w.read_ct WHERE $5::bool",
		gone, kept, q->table, col,
		q->headers ? ", CASE WHEN jsonb_typeof(headers) = 'object' THEN headers ELSE '{}'::jsonb END || "
			     "jsonb_build_object('pgmqd_root', coalesce(headers -> 'pgmqd_root', to_jsonb(msg_id)))"
			   : "");
	free(gone);
	free(kept);
	return sql;
}

/* The fence of done_with: archives all the rows or fails by a cast, which rolls the plugin's statement back. The text
 * tells this failure from one of the plugin's statement. */
static char *sql_fence(const struct queue_pg *q)
{
	char *gone = sql_gone(q), *kept = sql_kept(q), *sql;

	sql = xasprintf("WITH " WANT
			", %s, %s SELECT CASE WHEN count(*) = cardinality($1::bigint[]) THEN 1 ELSE ('" FENCE_MARK
			" ' || count(*))::int"
			" END FROM kept",
		gone, kept);
	free(gone);
	free(kept);
	return sql;
}

/* Which of the rows were settled under the lease in question, by a statement whose answer was lost. */
static char *sql_known(const struct queue_pg *q)
{
	if (q->rules.archive)
		return xasprintf(
			"SELECT a.msg_id FROM pgmq.\"a_%s\" a JOIN unnest($1::bigint[], $2::int[]) w(msg_id, read_ct)"
			" ON a.msg_id = w.msg_id AND a.read_ct = w.read_ct WHERE a.msg_id = ANY ($1::bigint[])",
			q->table);
	return xasprintf("SELECT w.msg_id FROM unnest($1::bigint[], $2::int[]) w(msg_id, read_ct)"
			 " WHERE NOT EXISTS (SELECT FROM pgmq.\"q_%s\" q WHERE q.msg_id = w.msg_id)",
		q->table);
}

/* Extend: the leases begin anew. */
static char *sql_extend(const struct queue_pg *q)
{
	return xasprintf("UPDATE pgmq.\"q_%s\" q SET vt = pg_catalog.clock_timestamp() + interval '%lld milliseconds'"
			 " FROM unnest($1::bigint[], $2::int[]) w(msg_id, read_ct)"
			 " WHERE q.msg_id = ANY ($1::bigint[]) AND q.msg_id = w.msg_id AND q.read_ct = w.read_ct "
			 "RETURNING q.msg_id",
		q->table, (long long)q->rules.lease_ms);
}

/* The handshake's locks; -1 is "in flight", -2 "awake", -3 "present", -4 the turns of claims by group. */
static char *sql_lock(const struct queue_pg *q, enum stmt st)
{
	if (st == ST_AWAKE)
		return xasprintf("SELECT pg_catalog.pg_try_advisory_lock(%s, -2)", q->oid);
	if (st == ST_RELEASE_AWAKE)
		return xasprintf("SELECT pg_catalog.pg_advisory_unlock(%s, -2)", q->oid);
	if (st == ST_IN_FLIGHT)
		return xasprintf("SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(%1$s, -1) THEN "
				 "pg_catalog.pg_advisory_unlock(%1$s, -1) ELSE false END",
			q->oid);
	return xasprintf("SELECT pg_catalog.pg_advisory_xact_lock(%s, -4)", q->oid);
}

char *queue_sql(const struct queue_pg *q, enum stmt st)
{
	switch (st) {
	case ST_CLAIM:
	case ST_CLAIM_MANY:
		return sql_claim(q, st == ST_CLAIM_MANY);
	case ST_DONE:
	case ST_DONE_AGAIN:
		return sql_done(q, st == ST_DONE_AGAIN);
	case ST_RETRY:
		return sql_retry(q);
	case ST_RELEASE:
		return sql_release(q);
	case ST_FAIL:
		return sql_fail(q);
	case ST_REPLACE:
		return sql_replace(q);
	case ST_FENCE:
		return sql_fence(q);
	case ST_KNOWN:
		return sql_known(q);
	case ST_EXTEND:
		return sql_extend(q);
	default:
		return sql_lock(q, st);
	}
}
