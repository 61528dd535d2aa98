/* queue_sql.c: the statements of a pgmq queue as texts: claim, settle, extend, locks.
 *
 * pgmq's own functions are not used: read() walks over every delayed row, and archive(), delete() and set_vt() take a
 * message from the session that holds it. The statements here do to the tables what those functions do, find due rows
 * by the index on vt, and accept only the claim that holds the message:
 *
 *   msg_id    may begin again at 1: after a failover with a lost tail, a restore, drop and create, a crash of an
 *             unlogged table
 *   token     read_ct * 1000000 + nonce. The worker draws the nonce for each claim statement and writes it as the
 *             microseconds of vt; an extension keeps it, and whatever else moves vt (pgmq.set_vt, pgmq.read, a retry)
 *             takes the message away from the claim
 *   born      enqueued_at in microseconds
 *
 * Names of functions and types are qualified, and operators are used with the very types that pg_catalog has them for,
 * so that no other schema can offer a better match.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/sqltext.h"
#include "base/xalloc.h"
#include "process/proc.h"

#include <stdlib.h>
#include <unistd.h>

/* A time as microseconds; what lies far off becomes one of two bounds. */
#define MICROSECONDS(t)                                                                                                \
	"(pg_catalog.date_part('epoch', least(greatest(" t                                                             \
	", '1900-01-01Z'::pg_catalog.timestamptz), '2200-01-01Z'::pg_catalog.timestamptz)) * "                         \
	"1000000::pg_catalog.float8)::bigint"
#define BORN(row) MICROSECONDS(row ".enqueued_at")
#define NONCE(row) MICROSECONDS(row ".vt") " %% 1000000::bigint"
#define TOKEN(row) "(" row ".read_ct::bigint * 1000000 + " NONCE(row) ")"

/* The end of a lease that begins now: at least `seconds` long, and with the nonce (a fraction of a second) as its
 * microseconds. */
#define LEASE(seconds, nonce)                                                                                          \
	"pg_catalog.to_timestamp(pg_catalog.ceil(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) "         \
	"+ " seconds " - " nonce ") + " nonce ")"

/* Arrays $1 (ids), $2 (tokens) and $3 (births). As subqueries, so that a plan for these values is no cheaper than one
 * for all, which the server then keeps: making one takes longer than a small batch. */
#define CLAIMS "unnest((SELECT $1::bigint[]), (SELECT $2::bigint[]), (SELECT $3::bigint[])) w(msg_id, token, born)"
#define WANTED "ANY ((SELECT $1::bigint[])::bigint[])"
/* Whether a claim that is wanted holds the row. */
#define HELD(row)                                                                                                      \
	"((" row ".msg_id, " TOKEN(row) ", " BORN(row) ") IN (SELECT w.msg_id, w.token, w.born FROM " CLAIMS           \
						       ")) IS TRUE"
/* The claims as rows, for statements that need more of them. */
#define WANT "want AS (SELECT * FROM " CLAIMS ")"

/* SQL between macros would be laid out as arguments of theirs. */
/* clang-format off */

/* Writes into a setting of this transaction which claims a statement has written: for sql_still(). */
#define WRITTEN(rows, id, token, born)                                                                                 \
	"pg_catalog.set_config('pgmqd.claims', (SELECT pg_catalog.concat('{', pg_catalog.string_agg("                  \
	"pg_catalog.concat(" id ", '/', " token ", '/', " born "), ','), '}') FROM " rows "), true)"
/* Of a row that the claim returns: a number that it did not pick is no number; and what it has written, whatever a
 * trigger has made of it. */
#define CLAIM_ID "CASE WHEN c.msg_id = ANY (ARRAY(SELECT i.msg_id FROM picked i)) THEN c.msg_id END"
#define CLAIM_TOKEN                                                                                                    \
	"c.read_ct::bigint * 1000000 + ($7::pg_catalog.float8 * 1000000::pg_catalog.float8)::bigint"

/* ---- claims ---- */

/* The claim: the rows that queue_order.c picks, due and from the mark $3 on (seconds), then one row about the queue:
 * with $6, when that is not all there are, the time until the next that falls due; the low-water mark for the next
 * look; how long this one took; with $5, whether another worker holds the lock "present", and in the last column
 * whether one holds "awake"; whether the table is another one now, or, with $4, whether its index for priorities has
 * come or gone; with $4, whether the notification queue is so full that producers stay silent; and which rows were
 * picked and are still as they were, because a trigger keeps them so.
 * $7 is the claim's nonce, $9 are numbers that are passed over.
 *
 * A message that waits for its wake-up pays for every table that the statement opens, also for what is then not asked:
 * hence no join of the catalogue. A message that has had its attempts comes without its text, which may be the reason
 * why none of them ended; so does a large one with $8 = 1, which comes with its size instead, and every one with
 * $8 = 2, which reads nothing that may not be readable. Where RETURNING asks the table itself, it sees what was there
 * before: the time at which the message fell due. A large claim asks only for those claimed before, since that costs
 * something for each. The first claim of a message that was sent with a delay writes the end of that delay into its
 * headers, where it outlasts retries and kills. */
static char *sql_claim(const struct queue_pg *q)
{
	char *pick = queue_pick_sql(q, true), *table = sqltext_literal(q->queue_table),
	     *index = sqltext_literal(q->index), *sql;

	sql = xasprintf(
		"WITH %7$s, claimed AS (UPDATE %1$s q SET vt = (SELECT "
		LEASE("%2$lld.%13$03d::pg_catalog.float8", "$7::pg_catalog.float8") "), read_ct = CASE WHEN "
		"q.read_ct < 2147483647 THEN q.read_ct + 1 ELSE q.read_ct END%3$s%17$s WHERE q.msg_id = ANY "
		"(ARRAY(SELECT msg_id FROM picked)) RETURNING q.msg_id, q.read_ct, q.vt, q.enqueued_at, q.message, "
		"%4$s, CASE WHEN q.read_ct > 1 OR (SELECT pg_catalog.count(*) FROM picked) <= 32 THEN (SELECT "
		"was.vt FROM %1$s was WHERE was.msg_id = q.msg_id) END AS due, %5$s AS refunds) SELECT c.msg_id, "
		"c.read_ct, c.refunds, " BORN("c") ", CASE WHEN c.read_ct - c.refunds <= %10$u AND $8::int < 2 AND "
		"x.large IS NULL THEN c.message::text END, CASE WHEN $8::int < 2 AND x.large IS NULL THEN "
		"c.headers::text END, x.large::bigint, " NONCE("c") ", NULL::bigint, NULL::bool, %8$s, "
		"NULL::bool, NULL::bool, CASE WHEN c.due IS NOT NULL THEN " MICROSECONDS("c.due") " END, NULL::bool, "
		"NULL::text FROM claimed c, LATERAL (SELECT CASE WHEN $8::int = 2 THEN "
		"pg_catalog.pg_column_size(c.message) WHEN $8::int = 1 AND "
		"pg_catalog.octet_length(pg_catalog.concat(c.message, c.headers)) >= %11$u THEN "
		"pg_catalog.octet_length(pg_catalog.concat(c.message, c.headers)) END AS large) x UNION ALL "
		"SELECT NULL, NULL, NULL, NULL, %20$s, NULL, CASE WHEN $6::bool AND p.n < "
		"$1::int THEN %18$s"
		"pg_catalog.ceil(pg_catalog.date_part('epoch', least((SELECT pg_catalog.min(vt) FROM %1$s "
		"WHERE vt > (SELECT pg_catalog.clock_timestamp())), pg_catalog.clock_timestamp() + interval "
		"'1 day') - pg_catalog.clock_timestamp()) * 1000::pg_catalog.float8)::bigint%19$s END, "
		MICROSECONDS("least(%9$s, pg_catalog.statement_timestamp() - interval '1 second')")
		", (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - "
		"pg_catalog.statement_timestamp()) * 1000000::pg_catalog.float8)::bigint, CASE WHEN $5::bool "
		"THEN NOT CASE WHEN pg_catalog.pg_try_advisory_lock(%6$s, -3) THEN "
		"pg_catalog.pg_advisory_unlock(%6$s, -3) ELSE false END END, NULL, "
		"(%12$s::pg_catalog.regclass::pg_catalog.oid::int4 <> %6$s) OR CASE WHEN $4::bool THEN "
		"(pg_catalog.to_regclass(%14$s) IS NULL) = %15$s OR "
		QUEUE_TRIGGERS("%12$s::pg_catalog.regclass::pg_catalog.oid")
		" <> %21$s ELSE false END, CASE WHEN $4::bool THEN "
		"pg_catalog.pg_notification_queue_usage() >= 0.5::pg_catalog.float8 END, NULL, CASE WHEN $5::bool "
		"THEN NOT "
		"CASE WHEN pg_catalog.pg_try_advisory_lock_shared(%6$s, -2) THEN "
		"pg_catalog.pg_advisory_unlock_shared(%6$s, -2) ELSE false END END, CASE WHEN p.n > (SELECT "
		"pg_catalog.count(*) FROM claimed) THEN (SELECT pg_catalog.string_agg(pg_catalog.concat(q.msg_id, ' ', "
		"q.read_ct, ' ', " BORN("q") ", ' ', " MICROSECONDS("q.vt") " %% 1000000::bigint), ',') FROM %1$s q "
		"WHERE q.msg_id = ANY (ARRAY(SELECT i.msg_id FROM picked i)) AND q.msg_id <> ALL (ARRAY(SELECT "
		"i.msg_id FROM claimed i))) END FROM (SELECT pg_catalog.count(*) AS n%16$s FROM picked) p",
		q->queue_table, (long long)(q->rules.lease_ms / 1000),
		q->last_read ? ", last_read_at = pg_catalog.clock_timestamp()" : "",
		q->headers ? "q.headers" : "NULL::pg_catalog.jsonb AS headers",
		q->refunds ? "CASE WHEN q.read_ct > 1 THEN coalesce((SELECT r.n FROM pgmqd.refunds r WHERE r.queue = "
		"$2::text AND r.msg_id = q.msg_id AND r.read_ct < q.read_ct), 0) ELSE 0 END"
			   : "0 * pg_catalog.length($2::text)",
		q->oid, pick,
		q->priority && !q->rules.grouped && !q->rules.limits.key
			? "CASE WHEN $8::int < 2 THEN least(greatest(- " QUEUE_RANK ", -1000000000::numeric), "
		"1000000000::numeric)::pg_catalog.float8 END"
			: "NULL::pg_catalog.float8",
		queue_passes_over(q) || q->priority
			? "CASE WHEN p.n = $1::int THEN '-infinity'::pg_catalog.timestamptz END"
			: "CASE WHEN p.n = $1::int THEN p.last END",
		q->rules.max_attempts, QUEUE_LARGE, table, (int)(q->rules.lease_ms % 1000), index,
		q->priority ? "true" : "false",
		queue_passes_over(q) || q->priority ? "" : ", pg_catalog.max(vt) AS last",
		q->headers && q->set_headers
			? ", headers = CASE WHEN q.read_ct = 0 AND q.vt > q.enqueued_at + interval '1 second' AND "
		"coalesce(pg_catalog.jsonb_typeof(q.headers) = 'object', true) THEN coalesce(q.headers, "
		"'{}'::pg_catalog.jsonb) || pg_catalog.jsonb_build_object('" MESSAGE_DUE "', " MICROSECONDS("q.vt")
		") ELSE q.headers END"
			: "",
		limits_any(&q->rules.limits) ? "least(" : "",
		limits_any(&q->rules.limits) ? ", (SELECT h.ms FROM hold h))" : "",
		q->triggers ? WRITTEN("claimed c", CLAIM_ID, CLAIM_TOKEN, BORN("c")) : "NULL",
		q->triggers ? "true" : "false");
	free(pick);
	free(table);
	free(index);
	return sql;
}

/* The one fresh message that fell due first, with the mark $1 and the nonce $2, when nothing is to be known of it but
 * what stands in its row: a message that was claimed before or was sent with a delay is left to the claim that follows,
 * and so is a large one, whose text may be too long to be made.
 * Most of what a claim costs while the queue is idle is the start of its many parts, so this one has few: no second
 * table, no second look at this one. */
static char *sql_ahead(const struct queue_pg *q)
{
	return xasprintf(
		"WITH picked AS MATERIALIZED (SELECT msg_id, vt FROM %1$s WHERE vt >= "
		"pg_catalog.to_timestamp($1::pg_catalog.float8) AND vt <= (SELECT pg_catalog.clock_timestamp()) "
		"ORDER BY vt LIMIT 1 FOR UPDATE SKIP LOCKED) UPDATE %1$s q SET vt = "
		LEASE("%2$lld.%4$03d::pg_catalog.float8", "$2::pg_catalog.float8") ", read_ct = 1%3$s WHERE q.msg_id = "
		"(SELECT msg_id FROM picked) AND q.read_ct = 0 AND q.vt <= q.enqueued_at + interval '1 second' AND "
		"pg_catalog.pg_column_size(q.message) < %6$u "
		"RETURNING q.msg_id, q.read_ct, 0, " BORN("q") ", q.message::text, %5$s, NULL, " NONCE("q") ", NULL, "
		"NULL, NULL, NULL, NULL, (SELECT " MICROSECONDS("vt") " FROM picked)",
		q->queue_table, (long long)(q->rules.lease_ms / 1000),
		q->last_read ? ", last_read_at = pg_catalog.clock_timestamp()" : "", (int)(q->rules.lease_ms % 1000),
		q->headers ? "q.headers::text" : "NULL", QUEUE_LARGE);
}

/* The row that a claim of one would take, when it cannot be claimed: who it is, and the fraction of a second in its vt
 * that a claim would have as its nonce. Its parameters are the claim's. */
static char *sql_spot(const struct queue_pg *q)
{
	char *pick = queue_pick_sql(q, false), *sql;

	sql = xasprintf("WITH %2$s SELECT q.msg_id, q.read_ct, " BORN("q") ", " MICROSECONDS("q.vt")
		" %% 1000000::bigint FROM %1$s q WHERE q.msg_id = ANY (ARRAY(SELECT msg_id FROM picked)) AND "
		"pg_catalog.num_nulls($2::text, $4::bool, $5::bool, $6::bool, $7::pg_catalog.float8, $8::int) = 0",
		q->queue_table, pick);
	free(pick);
	return sql;
}

/* ---- settling ---- */

/* The rows of `want` that their claims hold, deleted. By the key, and no join: its plan could be quadratic, where the
 * queue was nearly empty when it was made. */
static char *sql_gone(const struct queue_pg *q)
{
	return xasprintf("gone AS (DELETE FROM %s q WHERE q.msg_id = " WANTED " AND " HELD("q")
		" RETURNING q.*)",
		q->queue_table);
}

/* The rows of `want` that their claims hold, locked, but for those that another session has locked. `more`: a condition
 * beside it. */
static char *sql_held_if(const struct queue_pg *q, const char *more)
{
	return xasprintf("held AS MATERIALIZED (SELECT q.msg_id FROM %s q WHERE q.msg_id = " WANTED
		" AND " HELD("q") "%s FOR UPDATE SKIP LOCKED)",
		q->queue_table, more);
}

/* The same without a condition. */
static char *sql_held(const struct queue_pg *q)
{
	return sql_held_if(q, "");
}

#define OF_HELD "ANY (ARRAY(SELECT h.msg_id FROM held h))"

/* The rows of `held`, deleted. Takes over `held`. */
static char *sql_gone_of(const struct queue_pg *q, char *held)
{
	char *sql = xasprintf(
		"%s, gone AS (DELETE FROM %s q WHERE q.msg_id = " OF_HELD " RETURNING q.*)", held, q->queue_table);

	free(held);
	return sql;
}

/* The same of those without a condition. */
static char *sql_held_gone(const struct queue_pg *q)
{
	return sql_gone_of(q, sql_held(q));
}

/* The rows that their claims hold and that another session has locked (true), or that are not in `changed`, because a
 * trigger keeps them as they were (null). */
static char *sql_locked(const struct queue_pg *q, const char *changed)
{
	return xasprintf("SELECT q.msg_id, true FROM %s q WHERE q.msg_id = " WANTED " AND " HELD("q")
		" AND q.msg_id <> ALL (ARRAY(SELECT h.msg_id FROM held h)) UNION ALL SELECT h.msg_id, NULL::bool FROM "
		"held h WHERE h.msg_id <> ALL (ARRAY(SELECT c.msg_id FROM %s c))",
		q->queue_table, changed);
}

/* The columns that are copied into the archive, where a trigger may put the row elsewhere. `aside`: a message whose
 * number the archive has given to another one goes in under a number below zero, and says so in its headers. */
static char *sql_kept(const struct queue_pg *q, bool aside)
{
	bool headers = q->headers && q->a_headers;
	const char *read = q->last_read && q->a_last_read ? ", last_read_at" : "";

	if (!q->rules.archive)
		return xstrdup("kept AS (SELECT msg_id FROM gone)");
	if (!aside)
		return xasprintf(
			"put AS (INSERT INTO %1$s (msg_id, read_ct, enqueued_at, vt, message%2$s%3$s) SELECT msg_id, "
		"read_ct, enqueued_at, vt, message%2$s%3$s FROM gone), kept AS (SELECT msg_id FROM gone)",
			q->archive_table, headers ? ", headers" : "", read);
	return xasprintf(
		"put AS (INSERT INTO %1$s (msg_id, read_ct, enqueued_at, vt, message%2$s%3$s) SELECT CASE "
		"WHEN g.taken THEN (SELECT least(pg_catalog.min(a.msg_id), 0::bigint) FROM %1$s a) - "
		"pg_catalog.row_number() OVER (ORDER BY g.taken DESC, g.msg_id) ELSE g.msg_id END, read_ct, "
		"enqueued_at, vt, message%4$s%3$s FROM (SELECT g.*, EXISTS (SELECT FROM %1$s a WHERE a.msg_id "
		"= g.msg_id) AS taken FROM gone g) g RETURNING 1), kept AS (SELECT msg_id FROM gone WHERE "
		"(SELECT pg_catalog.count(*) FROM put) >= 0)",
		q->archive_table, headers ? ", headers" : "", read,
		headers ? ", CASE WHEN g.taken THEN CASE WHEN pg_catalog.jsonb_typeof(headers) = 'object' THEN headers "
		"ELSE '{}'::pg_catalog.jsonb END || pg_catalog.jsonb_build_object('pgmqd_msg_id', g.msg_id) "
		"ELSE headers END"
			: "");
}

/* Which of the claims are known to be through: an earlier try has archived the message, or deleted it. Where it was
 * deleted, nothing is left but that the message is not there any more. */
static char *sql_known(const struct queue_pg *q)
{
	if (!q->rules.archive)
		return xasprintf(
			"SELECT w.msg_id, false FROM want w WHERE NOT EXISTS (SELECT FROM %s q WHERE q.msg_id = "
		"w.msg_id AND " BORN("q") " = w.born)",
			q->queue_table);
	return xasprintf("SELECT a.msg_id, false FROM %1$s a WHERE a.msg_id = " WANTED " AND " HELD("a")
		" UNION ALL SELECT w.msg_id, false FROM %1$s a JOIN want w ON " TOKEN("a")
		" = w.token AND " BORN("a") " = w.born WHERE a.msg_id < 0",
		q->archive_table);
}

/* The results of the messages, for queue_follow_sql(). */
#define RESULTS(n) "r.result", "unnest((SELECT $1::bigint[]), (SELECT $" n "::text[])) r(msg_id, result)"

/* The answer for the rows of `gone` or `kept`; where something follows, with what was not sent. */
#define FOLLOWED(rows)                                                                                                 \
	"SELECT k.msg_id, false, f.error FROM " rows " k LEFT JOIN followed f ON f.msg_id = k.msg_id WHERE (SELECT "   \
	"pg_catalog.count(*) FROM followed) >= 0"
#define kept_answer(q, rows) queue_follow_answer(q, "SELECT msg_id, false FROM " rows, FOLLOWED(rows))
#define NOT_FOLLOWED(q) queue_follow_answer(q, "", ", NULL::text")

/* Done, when nothing stands in the way: into the archive. */
static char *sql_done(const struct queue_pg *q)
{
	char *gone = sql_gone(q), *kept = sql_kept(q, false);
	char *follow = queue_follow_sql(q, "then", RESULTS("4")), *sql;

	sql = xasprintf("WITH %s, %s%s %s", gone, kept, follow, kept_answer(q, "kept"));
	free(gone);
	free(kept);
	free(follow);
	return sql;
}

/* Done, when something does: rows that are locked, numbers that the archive has given to other messages; $4: an earlier
 * try may have done it. */
static char *sql_done_careful(const struct queue_pg *q)
{
	char *gone = sql_held_gone(q), *kept = sql_kept(q, true), *locked = sql_locked(q, "gone"),
	     *known = sql_known(q);
	char *follow = queue_follow_sql(q, "then", RESULTS("5")), *sql;

	sql = xasprintf("WITH " WANT ", %1$s, %2$s, known AS (%3$s)%4$s %5$s UNION ALL SELECT l.*%6$s FROM (%7$s) l "
		"UNION ALL SELECT *%6$s FROM known WHERE $4::bool",
		gone, kept, known, follow, kept_answer(q, "kept"), NOT_FOLLOWED(q), locked);
	free(gone);
	free(kept);
	free(follow);
	free(locked);
	free(known);
	return sql;
}

char *queue_process_literal(void)
{
	char *name = xasprintf("%s, process %ld", proc_host(), (long)getpid()), *literal = sqltext_literal(name);

	free(name);
	return literal;
}

/* The record of a retry or, with `refund`, of a claim that does not count; each once. An entry of a later claim is of
 * another message, in a queue of the same name before this one. "": the database has no place for it. Malloc'd. */
static char *sql_retry_note(const struct queue_pg *q, bool refund)
{
	char *worker, *sql;

	if (refund)
		return xstrdup(q->refunds
			? ", note AS (INSERT INTO pgmqd.refunds AS r (queue, msg_id, n, read_ct) SELECT $6::text, "
		"msg_id, 1, read_ct FROM back ON CONFLICT (queue, msg_id) DO UPDATE SET read_ct = "
		"excluded.read_ct, n = CASE WHEN r.read_ct < excluded.read_ct THEN r.n + 1 ELSE 1 END WHERE "
		"r.read_ct <> excluded.read_ct)"
			: "");
	if (!q->attempts)
		return xstrdup("");
	worker = queue_process_literal();
	sql = xasprintf(
		", note AS (INSERT INTO pgmqd.attempts (queue, msg_id, read_ct, enqueued_at, started_at, worker, "
		"reason) SELECT $6::text, msg_id, read_ct, enqueued_at, CASE WHEN started > 0 THEN "
		"pg_catalog.to_timestamp(started::pg_catalog.float8 / 1000000::pg_catalog.float8) END, %s::text, "
		"pg_catalog.left(reason, 2000) FROM back ON CONFLICT DO NOTHING)", worker);
	free(worker);
	return sql;
}

/* Retry: visible again after $4 (milliseconds, an array), at a whole millisecond: a claim never has one, so that the
 * operators' functions tell what waits from what is in hand. $5: an earlier try may have done it, and then vt has lost
 * the nonce. $6 is the queue's name; of a retry, $7 are the reasons and $8 the times at which the attempts began. */
static char *sql_retry(const struct queue_pg *q, bool refund)
{
	char *held = sql_held(q), *locked = sql_locked(q, "back"), *note = sql_retry_note(q, refund), *sql;

	sql = xasprintf(
		"WITH want AS (SELECT * FROM unnest((SELECT $1::bigint[]), (SELECT $2::bigint[]), (SELECT "
		"$3::bigint[]), (SELECT $4::bigint[])%6$s) w(msg_id, token, born, delay%7$s)), %2$s, back AS "
		"(UPDATE %1$s q SET vt = pg_catalog.date_trunc('milliseconds', pg_catalog.clock_timestamp() + "
		"pg_catalog.make_interval(secs => w.delay::pg_catalog.float8 / 1000::pg_catalog.float8)) FROM "
		"want w WHERE q.msg_id = " OF_HELD " AND q.msg_id = w.msg_id AND " TOKEN("q")
		" = w.token RETURNING q.msg_id, q.read_ct, q.enqueued_at%7$s)%4$s SELECT msg_id, false FROM back "
		"UNION ALL %3$s UNION ALL SELECT q.msg_id, false FROM %1$s q JOIN want w ON q.msg_id = w.msg_id "
		"WHERE $5::bool AND q.msg_id = " WANTED " AND q.read_ct = w.token / 1000000 AND " BORN("q")
		" = w.born AND " TOKEN("q") " <> w.token%5$s",
		q->queue_table, held, locked, note, *note ? "" : " AND $6::text IS NOT NULL",
		refund ? "" : ", (SELECT $7::text[]), (SELECT $8::bigint[])", refund ? "" : ", reason, started");
	free(held);
	free(locked);
	free(note);
	return sql;
}

/* Cancelled by an operator: the database knows who wanted it and why, and writes that beside it. */
static char *sql_cancel(void)
{
	return xstrdup("SELECT c.id, c.locked FROM pgmqd.settle_cancelled($4::text, $1::bigint[], $2::bigint[], "
		"$3::bigint[]) c");
}

/* Fail: into the dead-letter queue, body untouched, the history in the headers. $4 reasons, $5 classes, $6 attempts,
 * $7: an earlier try may have done it, which the headers of the dead letters tell. Fails by a cast when a trigger keeps
 * a row out of the dead-letter queue: the message would be lost. */
static char *sql_fail(const struct queue_pg *q)
{
	char *gone = sql_held_gone(q), *locked = sql_locked(q, "gone"), *plugin = sqltext_literal(q->plugin),
	     *version = sqltext_literal(q->version), *name = sqltext_literal(q->name), *known, *follow, *sql;

	known = q->dlq_asks ? xasprintf("EXISTS (SELECT FROM %s d WHERE d.headers @> "
					"pg_catalog.jsonb_build_object('pgmqd_dead', pg_catalog.jsonb_build_object("
					"'msg_id', w.msg_id, 'claim', pg_catalog.concat(w.token, '/', w.born))))",
				      q->dlq_table)
			    : xstrdup("false");

	follow = queue_follow_sql(q, "else", "pg_catalog.to_jsonb(r.reason)::text", "want r");
	sql = xasprintf(
		"WITH want AS (SELECT * FROM unnest((SELECT $1::bigint[]), (SELECT $2::bigint[]), (SELECT "
		"$3::bigint[]), (SELECT $4::text[]), (SELECT $5::text[]), (SELECT $6::int[])) w(msg_id, "
		"token, born, reason, class, attempts)), %1$s, put AS (INSERT INTO %2$s (vt, message, "
		"headers) SELECT pg_catalog.clock_timestamp(), message, CASE WHEN "
		"pg_catalog.jsonb_typeof(%3$s) = 'object' THEN %3$s ELSE '{}'::pg_catalog.jsonb END || "
		"pg_catalog.jsonb_build_object('pgmqd_dead', pg_catalog.jsonb_build_object('queue', "
		"%4$s::text, 'msg_id', g.msg_id, 'read_ct', g.read_ct, 'claim', pg_catalog.concat(w.token, "
		"'/', w.born), 'attempts', w.attempts, 'enqueued_at', g.enqueued_at, 'died_at', "
		"pg_catalog.clock_timestamp(), 'class', w.class, 'reason', w.reason, 'plugin', %5$s::text, "
		"'plugin_version', %6$s::text)) FROM gone g JOIN want w ON g.msg_id = w.msg_id AND " TOKEN("g")
		" = w.token RETURNING 1)%9$s %10$s UNION ALL SELECT l.*%11$s FROM (%7$s) l UNION ALL SELECT "
		"w.msg_id, false%11$s FROM want w WHERE $7::bool AND %8$s UNION ALL SELECT NULL::bigint, "
		"pg_catalog.concat('a trigger keeps a row out of the dead-letter queue, of ', (SELECT "
		"pg_catalog.count(*) FROM gone))::bool%11$s WHERE (SELECT pg_catalog.count(*) FROM put) <> (SELECT "
		"pg_catalog.count(*) FROM gone)",
		gone, q->dlq_table, q->headers ? "g.headers" : "NULL::pg_catalog.jsonb", name, plugin, version, locked,
		known, follow, kept_answer(q, "gone"), NOT_FOLLOWED(q));
	free(follow);
	free(gone);
	free(locked);
	free(known);
	free(plugin);
	free(version);
	free(name);
	return sql;
}

/* Replace: the remainder $4 goes out after $5 ms, the original into the archive. $6: an earlier try may have done it.
 * The remainder has the original's unique key. While a producer has that key locked, the message counts as locked, so
 * that no claim waits behind this statement for the end of the producer's transaction. */
static char *sql_replace(const struct queue_pg *q)
{
	const char *free_key = q->keyed ? " AND pgmqd.key_is_free($7::text, q.msg_id, q.enqueued_at)" : "";
	char *gone = sql_gone_of(q, sql_held_if(q, free_key)), *kept = sql_kept(q, true),
	     *locked = sql_locked(q, "gone"), *known = sql_known(q), *sql;

	sql = xasprintf(
		"WITH " WANT ", %1$s, %2$s, known AS (%7$s), sent AS (INSERT INTO %3$s (vt, message%4$s) "
		"SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => "
		"$5::bigint::pg_catalog.float8 / 1000::pg_catalog.float8), $4::pg_catalog.jsonb%5$s FROM gone "
		"RETURNING msg_id, enqueued_at), keyed AS MATERIALIZED (%8$s) SELECT msg_id, false FROM kept WHERE "
		"(SELECT pg_catalog.count(*) FROM keyed) >= 0 UNION ALL %6$s UNION ALL SELECT * FROM known WHERE "
		"$6::bool",
		gone, kept, q->queue_table, q->headers ? ", headers" : "",
		q->headers ? ", CASE WHEN pg_catalog.jsonb_typeof(headers) = 'object' THEN headers ELSE "
		"'{}'::pg_catalog.jsonb END || pg_catalog.jsonb_build_object('pgmqd_root', coalesce(headers "
		"-> 'pgmqd_root'::text, pg_catalog.to_jsonb(msg_id)))"
			   : "",
		locked, known,
		q->keyed ? "SELECT pgmqd.key_goes_on($7::text, g.msg_id, g.enqueued_at, s.msg_id, s.enqueued_at) FROM "
		"gone g, sent s" : "SELECT $7::text");
	free(gone);
	free(kept);
	free(locked);
	free(known);
	return sql;
}

/* The fence of done_with: archives all the rows or fails by a cast, which rolls the plugin's statement back. The text
 * tells this failure from one of the plugin's statement, and a lost claim from rows that a trigger keeps. */
static char *sql_fence(const struct queue_pg *q)
{
	char *gone = sql_gone(q), *kept = sql_kept(q, true), *held = sql_held(q);
	char *follow = queue_follow_sql(q, "then", RESULTS("4")), *sql;

	sql = xasprintf("WITH %s, %s, %s%s SELECT CASE WHEN pg_catalog.count(*) = "
		"pg_catalog.cardinality($1::bigint[]) THEN 1 ELSE pg_catalog.concat(CASE WHEN EXISTS "
		"(SELECT FROM held) THEN '" FENCE_KEPT "' ELSE '" FENCE_MARK "' END, ' ', "
		"pg_catalog.count(*))::int END%s FROM kept",
		gone, kept, held, follow,
		queue_follow_answer(q, "", ", (SELECT pg_catalog.string_agg(f.msg_id::text, ', ') FROM followed "
			"f WHERE f.error IS NOT NULL), (SELECT pg_catalog.min(f.error) FROM followed f)"));
	free(follow);
	free(held);
	free(gone);
	free(kept);
	return sql;
}

/* Extend: the leases begin anew, and keep their nonces. */
static char *sql_extend(const struct queue_pg *q)
{
	char *held = sql_held(q), *locked = sql_locked(q, "more"), *sql;

	sql = xasprintf("WITH " WANT ", %2$s, more AS (UPDATE %1$s q SET vt = "
		LEASE("%4$lld.%5$03d::pg_catalog.float8",
			"((w.token %% 1000000::bigint)::pg_catalog.float8 / 1000000::pg_catalog.float8)")
		" FROM want w WHERE q.msg_id = " OF_HELD " AND q.msg_id = w.msg_id AND " TOKEN("q")
		" = w.token RETURNING q.msg_id) SELECT msg_id, false FROM more UNION ALL %3$s%6$s",
		q->queue_table, held, locked, (long long)(q->rules.lease_ms / 1000), (int)(q->rules.lease_ms % 1000),
		q->triggers ? " UNION ALL SELECT NULL, " WRITTEN(
			"want w WHERE w.msg_id = ANY (ARRAY(SELECT m.msg_id FROM more m))", "w.msg_id", "w.token",
			"w.born") " IS NULL" : "");
	free(held);
	free(locked);
	return sql;
}

/* Fails by a cast when one of the claims that the statement before has written is not what the row holds now. Their
 * triggers have run: a claim that is another one than the worker believes could not be settled, and the message would
 * be handled again. */
static char *sql_still(const struct queue_pg *q)
{
	return xasprintf("SELECT CASE WHEN n.changed = 0 THEN '1' ELSE pg_catalog.concat('" STILL_MARK
			 " ', n.changed) END::int FROM (SELECT pg_catalog.count(*) AS changed FROM unnest((SELECT "
			 "pg_catalog.current_setting('pgmqd.claims')::text[])) u(x) WHERE NOT EXISTS (SELECT FROM %s "
			 "q WHERE q.msg_id = nullif(pg_catalog.split_part(u.x, '/', 1), '')::bigint AND "
			 "pg_catalog.concat(q.msg_id, '/', " TOKEN("q") ", '/', " BORN("q") ") = u.x AND q.vt > "
			 "(SELECT pg_catalog.clock_timestamp()))) n",
		q->queue_table);
}

/* ---- locks ---- */

/* The handshake's locks; -1 is "in flight", -2 "awake", -3 "present". Anybody may take these: the listener watches
 * them. The turns of claims by group are a lock that needs a right. */
static char *sql_lock(const struct queue_pg *q, enum stmt st)
{
	char *table, *sql;

	if (st == ST_AWAKE)
		return xasprintf("SELECT pg_catalog.pg_try_advisory_lock(%s, -2)", q->oid);
	if (st == ST_RELEASE_AWAKE)
		return xasprintf("SELECT pg_catalog.pg_advisory_unlock(%s, -2)", q->oid);
	if (st == ST_IN_FLIGHT)
		return xasprintf("SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(%1$s, -1) THEN "
				 "pg_catalog.pg_advisory_unlock(%1$s, -1) ELSE false END",
			q->oid);
	table = sqltext_literal(q->table);
	sql = xasprintf("SELECT pgmqd.take_turn(%s)", table);
	free(table);
	return sql;
}

/* Which claims are known to be through, and nothing else. */
static char *sql_ask_known(const struct queue_pg *q)
{
	char *known = sql_known(q), *sql = xasprintf("WITH " WANT " %s", known);

	free(known);
	return sql;
}

char *queue_sql(const struct queue_pg *q, enum stmt st)
{
	switch (st) {
	case ST_CLAIM:
		return sql_claim(q);
	case ST_AHEAD:
		return sql_ahead(q);
	case ST_SPOT:
		return sql_spot(q);
	case ST_DONE:
		return sql_done(q);
	case ST_DONE_CAREFUL:
		return sql_done_careful(q);
	case ST_RETRY:
		return sql_retry(q, false);
	case ST_RELEASE:
		return sql_retry(q, true);
	case ST_FAIL:
		return sql_fail(q);
	case ST_REPLACE:
		return sql_replace(q);
	case ST_FENCE:
		return sql_fence(q);
	case ST_KNOWN:
		return sql_ask_known(q);
	case ST_CANCEL:
		return sql_cancel();
	case ST_EXTEND:
		return sql_extend(q);
	case ST_STILL:
		return sql_still(q);
	default:
		return sql_lock(q, st);
	}
}
