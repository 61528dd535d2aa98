/* queue.c: one pgmq queue as statements: look at the catalogue, claim, settle, extend. The only C file with queue SQL.
 *
 * pgmq's own functions are not used: read() walks over every delayed row, and archive(), delete() and set_vt() take a
 * message from whoever holds it. The statements here do to the tables what those functions do, find due rows by the
 * index on vt, and are fenced by (msg_id, read_ct): a lease that went to somebody else cannot be settled.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/sqltext.h"
#include "base/xalloc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct queue *queue_new(struct pgconn *c, const char *name, int64_t lease_ms, const struct queue_rules *rules,
	const char *plugin, const char *version)
{
	struct queue *q = xcalloc(1, sizeof(*q));

	q->pg = c;
	q->name = xstrdup(name);
	q->table = xstrdup(name);
	for (char *p = q->table; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	q->plugin = xstrdup(plugin);
	q->version = xstrdup(version ? version : "");
	q->lease_ms = lease_ms;
	q->max_attempts = rules->max_attempts;
	q->archive = rules->archive;
	q->grouped = rules->grouped;
	q->allow_unlogged = rules->allow_unlogged;
	return q;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	free(q->name);
	free(q->oid);
	free(q->mark);
	free(q->horizon);
	free(q->fence);
	free(q->table);
	free(q->plugin);
	free(q->version);
	free(q->probe_error);
	free(q->probe_warning);
	for (int i = 0; i < ST_COUNT; i++)
		free(q->text[i]);
	free(q);
}

bool queue_has_dlq(const struct queue *q)
{
	return q->has_dlq;
}

bool queue_is_stale(const char *sqlstate)
{
	static const char *const codes[] = { "42883", "42703", "42804", "42725", "42P01", "0A000", "26000", "3F000" };

	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
		if (strcmp(sqlstate, codes[i]) == 0)
			return true;
	return false;
}

/* ---- the texts ---- */

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
static char *sql_claim(const struct queue *q, bool many)
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
		q->table, (long long)q->lease_ms, q->last_read ? ", last_read_at = pg_catalog.clock_timestamp()" : "",
		q->headers ? "q.headers" : "NULL::jsonb AS headers",
		q->refunds ? "CASE WHEN c.read_ct > 1 THEN coalesce((SELECT r.n FROM pgmqd.refunds r WHERE r.queue = "
			     "$2::text AND "
			     "r.msg_id = c.msg_id AND r.read_ct < c.read_ct), 0) ELSE 0 END"
			   : "0 * length($2::text)",
		q->oid, pick, q->priority && !q->grouped ? "- " QUEUE_RANK "::float8" : "NULL::float8",
		q->priority ? "" : "NOT", q->max_attempts, seen, QUEUE_LARGE);
	free(pick);
	free(seen);
	return sql;
}

/* The rows of `want` whose lease still holds, deleted. By the key, and no join: its plan could be quadratic, where the
 * queue was nearly empty when it was made. */
static char *sql_gone(const struct queue *q)
{
	return xasprintf(
		"gone AS (DELETE FROM pgmq.\"q_%s\" q WHERE q.msg_id = ANY (ARRAY(SELECT w.msg_id FROM want w))"
		" AND ((q.msg_id, q.read_ct) IN (SELECT w.msg_id, w.read_ct FROM want w)) IS TRUE RETURNING q.*)",
		q->table);
}

/* What is copied into the archive. */
static char *sql_kept(const struct queue *q)
{
	const char *more = q->headers && q->a_headers ? ", headers" : "",
		   *read = q->last_read && q->a_last_read ? ", last_read_at" : "";

	if (!q->archive)
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
static char *sql_done(const struct queue *q, bool again)
{
	char *gone = sql_gone(q), *kept = sql_kept(q), *sql;

	if (!again)
		sql = xasprintf("WITH " WANT ", %s, %s SELECT msg_id FROM kept", gone, kept);
	else if (q->archive)
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
static char *sql_retry(const struct queue *q)
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
static char *sql_release(const struct queue *q)
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
static char *sql_fail(const struct queue *q)
{
	char *gone = sql_gone(q), *sql;
	char *plugin = sqltext_literal(q->plugin), *version = sqltext_literal(q->version),
	     *name = sqltext_literal(q->name);

	sql = xasprintf("WITH want AS (SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], "
			"$5::int[]) w(msg_id, read_ct, reason, class,"
			" attempts)), %1$s, put AS (INSERT INTO pgmq.\"q_%2$s_dlq\" (vt, message, headers) SELECT "
			"pg_catalog.clock_timestamp(), message,"
			" CASE WHEN jsonb_typeof(%3$s) = 'object' THEN %3$s ELSE '{}'::jsonb END || "
			"jsonb_build_object('pgmqd_dead',"
			" jsonb_build_object('queue', %4$s::text, 'msg_id', msg_id, 'read_ct', read_ct, 'attempts', "
			"attempts, 'enqueued_at', enqueued_at,"
			" 'died_at', pg_catalog.clock_timestamp(), 'class', class, 'reason', reason, 'plugin', "
			"%5$s::text, 'plugin_version', %6$s::text))"
			" FROM gone JOIN want USING (msg_id, read_ct) RETURNING 1)"
			" SELECT msg_id FROM gone UNION ALL SELECT w.msg_id FROM want w WHERE $6::bool AND EXISTS "
			"(SELECT FROM pgmq.\"q_%2$s_dlq\" d"
			" WHERE d.headers @> jsonb_build_object('pgmqd_dead', jsonb_build_object('msg_id', w.msg_id, "
			"'read_ct', w.read_ct)))",
		gone, q->table, q->headers ? "headers" : "NULL::jsonb", name, plugin, version);
	free(gone);
	free(plugin);
	free(version);
	free(name);
	return sql;
}

/* Replace: the remainder $3 goes out after $4 ms, the original into the archive. */
static char *sql_replace(const struct queue *q)
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
static char *sql_fence(const struct queue *q)
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
static char *sql_known(const struct queue *q)
{
	if (q->archive)
		return xasprintf(
			"SELECT a.msg_id FROM pgmq.\"a_%s\" a JOIN unnest($1::bigint[], $2::int[]) w(msg_id, read_ct)"
			" ON a.msg_id = w.msg_id AND a.read_ct = w.read_ct WHERE a.msg_id = ANY ($1::bigint[])",
			q->table);
	return xasprintf("SELECT w.msg_id FROM unnest($1::bigint[], $2::int[]) w(msg_id, read_ct)"
			 " WHERE NOT EXISTS (SELECT FROM pgmq.\"q_%s\" q WHERE q.msg_id = w.msg_id)",
		q->table);
}

/* Extend: the leases begin anew. */
static char *sql_extend(const struct queue *q)
{
	return xasprintf("UPDATE pgmq.\"q_%s\" q SET vt = pg_catalog.clock_timestamp() + interval '%lld milliseconds'"
			 " FROM unnest($1::bigint[], $2::int[]) w(msg_id, read_ct)"
			 " WHERE q.msg_id = ANY ($1::bigint[]) AND q.msg_id = w.msg_id AND q.read_ct = w.read_ct "
			 "RETURNING q.msg_id",
		q->table, (long long)q->lease_ms);
}

/* ---- the probe ---- */

/* Ends a probe: tells its result. */
static void probe_end(struct queue *q)
{
	char *error = q->probe_error, *warning = q->probe_warning;

	q->probe_error = q->probe_warning = NULL;
	q->probe_cb(q->probe_arg, error, warning);
	free(error);
	free(warning);
}

/* One statement was prepared, or not. */
static void probe_prepared(void *arg, const struct pgresult *r)
{
	struct queue *q = arg;

	if (r->error && !q->probe_error) {
		if (strcmp(r->sqlstate, "42501") == 0)
			q->probe_error = xasprintf(
				"queue \"%s\": %s; grant the daemon's role its rights (pgmqd migrate sets them)",
				q->name, r->error);
		else
			q->probe_error = xasprintf("queue \"%s\": %s", q->name, r->error);
	}
	if (--q->preparing == 0)
		probe_end(q);
}

/* Prepares one statement; `sql` is the queue's from here. */
static void probe_prepare(struct queue *q, enum stmt st, char *sql)
{
	static unsigned
		serial; /* a new name each time: the connection may know the old one, and other queues share it */

	snprintf(q->stmt[st], sizeof(q->stmt[st]), "q%u_%d", serial++, (int)st);
	q->preparing++;
	free(q->text[st]);
	q->text[st] = sql;
	/* behind a pooler only checked: the next statement may meet another session */
	pgconn_prepare(q->pg, q->pooled ? "" : q->stmt[st], sql, probe_prepared, q);
}

/* Whether a comma-separated list of columns has `name`. */
static bool has_column(const char *columns, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = columns; (p = strstr(p, name)) != NULL; p += n)
		if ((p == columns || p[-1] == ',') && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

/* What the catalogue says about the queue's tables. */
static void probe_looked(void *arg, const struct pgresult *r)
{
	struct queue *q = arg;
	bool queue = false, archive = false, trigger = false, unlogged = false, group_index = false;
	char *present;
	int rows = r->res && !r->error ? PQntuples(r->res) : 0;

	free(q->mark);
	free(q->horizon);
	free(q->fence);
	q->mark = q->horizon = q->fence = NULL;
	q->fence_ms = 0;
	q->headers = q->a_headers = q->last_read = q->a_last_read = q->has_dlq = q->refunds = q->priority = false;
	for (int i = 0; i < rows; i++) {
		const char *kind = PQgetvalue(r->res, i, 0), *cols = PQgetvalue(r->res, i, 1);

		if (strcmp(kind, "queue") == 0) {
			queue = true;
			q->headers = has_column(cols, "headers");
			q->last_read = has_column(cols, "last_read_at");
			trigger = strcmp(PQgetvalue(r->res, i, 2), "t") == 0;
			free(q->oid);
			q->oid = xasprintf("(%s)", PQgetvalue(r->res, i, 3));
			unlogged = strcmp(PQgetvalue(r->res, i, 4), "t") == 0;
			q->priority = strcmp(PQgetvalue(r->res, i, 5), "t") == 0;
			group_index = strcmp(PQgetvalue(r->res, i, 6), "t") == 0;
		} else if (strcmp(kind, "archive") == 0) {
			archive = true;
			q->a_headers = has_column(cols, "headers");
			q->a_last_read = has_column(cols, "last_read_at");
		} else if (strcmp(kind, "dlq") == 0) {
			q->has_dlq = has_column(cols, "headers");
		} else if (strcmp(kind, "refunds") == 0) {
			q->refunds = has_column(cols, "read_ct");
		}
	}
	if (r->error)
		q->probe_error = xasprintf("queue \"%s\": %s", q->name, r->error);
	else if (!queue)
		q->probe_error = xasprintf("queue \"%s\" does not exist; create it with SELECT pgmq.create('%s') and "
					   "SELECT pgmqd.attach_queue('%s')",
			q->name, q->name, q->name);
	else if (q->archive && !archive)
		q->probe_error = xasprintf(
			"queue \"%s\" has no archive table pgmq.a_%s; set on_done = delete or create the queue anew",
			q->name, q->table);
	else if (unlogged && !q->allow_unlogged)
		q->probe_error = xasprintf(
			"queue \"%s\" is unlogged, so a crash of the server empties it; make it safe with ALTER TABLE"
			" pgmq.\"q_%s\" SET LOGGED, or set allow_unlogged = yes if its messages may be lost",
			q->name, q->table);
	else if (q->grouped && !q->headers)
		q->probe_error = xasprintf(
			"queue \"%s\" has no column headers, and so no groups; update pgmq to 1.5 or later, or take"
			" ordered = group out",
			q->name);
	if (q->probe_error) {
		probe_end(q);
		return;
	}
	if (!q->has_dlq || !trigger || !q->refunds)
		q->probe_warning = xasprintf(
			"queue \"%s\" has no %s; run pgmqd migrate, then SELECT pgmqd.attach_queue('%s')", q->name,
			!q->refunds   ? "table pgmqd.refunds beside it, so that interrupted claims count as attempts"
			: !q->has_dlq ? "dead-letter queue, so that what fails for good is kept and tried again"
				      : "wake-up trigger, so that it is only polled",
			q->name);
	else if (q->grouped && !group_index)
		q->probe_warning = xasprintf(
			"queue \"%s\" has no index on its groups, so that claims are slow when it is long; run SELECT"
			" pgmqd.group_queue('%s')",
			q->name, q->name);
	q->preparing++; /* held until all are under way */
	probe_prepare(q, ST_CLAIM, sql_claim(q, false));
	probe_prepare(q, ST_CLAIM_MANY, sql_claim(q, true));
	probe_prepare(q, ST_DONE, sql_done(q, false));
	probe_prepare(q, ST_DONE_AGAIN, sql_done(q, true));
	probe_prepare(q, ST_RETRY, sql_retry(q));
	probe_prepare(q, ST_RELEASE, sql_release(q));
	if (q->has_dlq)
		probe_prepare(q, ST_FAIL, sql_fail(q));
	if (archive)
		probe_prepare(q, ST_REPLACE, sql_replace(q));
	probe_prepare(q, ST_FENCE, sql_fence(q));
	probe_prepare(q, ST_KNOWN, sql_known(q));
	probe_prepare(q, ST_EXTEND, sql_extend(q));
	probe_prepare(q, ST_AWAKE, xasprintf("SELECT pg_catalog.pg_try_advisory_lock(%s, -2)", q->oid));
	probe_prepare(q, ST_UNLOCK, xasprintf("SELECT pg_catalog.pg_advisory_unlock(%s, -2)", q->oid));
	probe_prepare(q, ST_FLIGHT,
		xasprintf("SELECT CASE WHEN pg_catalog.pg_try_advisory_lock(%s, -1) THEN "
			  "pg_catalog.pg_advisory_unlock(%s, -1)"
			  " ELSE false END",
			q->oid, q->oid));
	probe_prepare(q, ST_TURN, xasprintf("SELECT pg_catalog.pg_advisory_xact_lock(%s, -4)", q->oid));
	present = xasprintf("SELECT pg_catalog.pg_advisory_lock_shared(%s, -3)", q->oid);
	if (!q->pooled)
		pgconn_query(q->pg, NULL, present, 0, NULL, NULL, NULL);
	free(present);
	if (--q->preparing == 0)
		probe_end(q);
}

/* Whether the table has a valid index of that name; made by pgmqd.prioritize_queue() and pgmqd.group_queue(). */
#define HAS_INDEX(what)                                                                                                \
	"EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE "          \
	"i.indrelid = c.oid AND i.indisvalid"                                                                          \
	" AND x.relname = c.relname || '_" what "_idx')"

void queue_probe(struct queue *q, queue_probe_cb cb, void *arg)
{
	const char *params[1] = { q->table };

	q->probe_cb = cb;
	q->probe_arg = arg;
	q->preparing = 0;
	q->pooled = pgconn_is_pooled(q->pg);
	/* the statements must go by the vt and msg_id indexes even while the planner believes the tables to be empty */
	if (!q->pooled)
		pgconn_query(q->pg, NULL, "SELECT pg_catalog.set_config('enable_seqscan', 'off', false)", 0, NULL, NULL,
			NULL);
	pgconn_query(q->pg, NULL,
		"SELECT CASE WHEN n.nspname = 'pgmqd' THEN 'refunds' WHEN c.relname = 'q_' || $1::text THEN 'queue'"
		" WHEN c.relname = 'a_' || $1::text THEN 'archive' ELSE 'dlq' END,"
		" (SELECT pg_catalog.string_agg(a.attname::text, ',') FROM pg_catalog.pg_attribute a WHERE a.attrelid "
		"= c.oid AND a.attnum > 0"
		" AND NOT a.attisdropped),"
		" EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'pgmqd_wakeup' "
		"AND t.tgenabled IN"
		" ('O', 'A')), c.oid::int4,"
		" c.relpersistence = 'u', " HAS_INDEX("priority") ", " HAS_INDEX(
			"group") " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
				 " WHERE n.nspname = 'pgmq' AND c.relname IN ('q_' || $1::text, 'a_' || $1::text, 'q_' "
				 "|| $1::text || '_dlq')"
				 " OR n.nspname = 'pgmqd' AND c.relname = 'refunds'",
		1, params, probe_looked, q);
}

/* ---- the listener's ---- */

void queue_listen(struct pgconn *c, const char *channel, pgconn_result_cb cb, void *arg)
{
	char *sql = xasprintf("LISTEN \"%s\"", channel);

	pgconn_query(c, NULL, sql, 0, NULL, cb, arg);
	free(sql);
}

void queue_notify(struct pgconn *c, const char *channel, const char *payload, pgconn_result_cb cb, void *arg)
{
	const char *params[2] = { channel, payload };

	pgconn_query(c, NULL, "SELECT pg_catalog.pg_notify($1, $2)", 2, params, cb, arg);
}
