/* queue.c: one pgmq queue in PostgreSQL: what its tables are, and the statements that fit them. The statements' texts
 * are in queue_sql.c and queue_order.c, queue_run.c and queue_claim.c run them. These are the only C files with queue
 * SQL.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/xalloc.h"
#include "pg/sqlstate.h"
#include "process/proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct queue *queue_new(const struct queue_conns *conns, const char *name, const struct queue_rules *rules,
	const char *plugin, const char *version)
{
	static unsigned serial;
	struct queue_pg *q = xcalloc(1, sizeof(*q));

	q->queue.ops = &queue_run_ops;
	q->serial = serial++;
	q->pg = conns->first;
	q->second = conns->second;
	q->plugin_db = conns->plugin_db;
	q->name = xstrdup(name);
	q->plugin = xstrdup(plugin);
	q->version = xstrdup(version ? version : "");
	q->rules = *rules;
	return &q->queue;
}

void queue_pg_free(struct queue *base)
{
	struct queue_pg *q = queue_pg(base);

	free(q->fence);
	free(q->name);
	free(q->oid);
	free(q->present);
	free(q->table);
	free(q->queue_table);
	free(q->archive_table);
	free(q->dlq_table);
	free(q->index);
	queue_forget_refused(q);
	free(q->unreadable);
	free(q->plugin);
	free(q->version);
	free(q->probe_warning);
	for (int i = 0; i < ST_COUNT; i++)
		free(q->statement[i].text);
	free(q);
}

bool queue_is_stale(const char *sqlstate)
{
	return sqlstate_class(sqlstate) == SQLSTATE_STALE;
}

/* ---- the probe ---- */

/* Ends a probe: tells its result. Takes over `error`. */
static void probe_end(struct queue_pg *q, char *error)
{
	char *warning = q->probe_warning;

	q->probe_warning = NULL;
	q->probe_cb(q->probe_arg, error, error ? NULL : warning);
	free(error);
	free(warning);
}

/* The claim was prepared, or not. */
static void probe_prepared(void *arg, const struct pgresult *r)
{
	struct queue_pg *q = arg;

	if (!r->error)
		probe_end(q, NULL);
	else
		probe_end(q, xasprintf("queue \"%s\": %s%s", q->name, r->error,
				     strcmp(r->sqlstate, "42501") == 0
					     ? "; grant the daemon's role its rights (pgmqd migrate sets them)"
					     : ""));
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

/* The queue's tables, as the catalogue describes them. */
struct found {
	const char *ruled; /* a table with a rule, which none of our statements can do with */
	bool queue, archive, trigger, unlogged, group_index, rates, keys;
};

/* Replaces a text by another one. */
static void replace(char **text, const char *by)
{
	free(*text);
	*text = xstrdup(by);
}

/* Takes one row of the catalogue's answer. */
static void probe_row(struct queue_pg *q, struct found *found, const PGresult *res, int row)
{
	const char *kind = PQgetvalue(res, row, 0), *table = PQgetvalue(res, row, 1), *cols = PQgetvalue(res, row, 2);

	if (*PQgetvalue(res, row, 14) == 't')
		found->ruled = table;
	if (strcmp(kind, "queue") == 0) {
		found->queue = true;
		replace(&q->queue_table, table);
		q->headers = has_column(cols, "headers");
		q->last_read = has_column(cols, "last_read_at");
		found->trigger = PQgetvalue(res, row, 3)[0] == 't';
		free(q->oid);
		q->oid = xasprintf("(%s)", PQgetvalue(res, row, 4));
		found->unlogged = PQgetvalue(res, row, 5)[0] == 't';
		q->priority = PQgetvalue(res, row, 6)[0] == 't';
		found->group_index = PQgetvalue(res, row, 7)[0] == 't';
		replace(&q->index, PQgetvalue(res, row, 8));
		replace(&q->table, PQgetvalue(res, row, 9));
		q->set_headers = PQgetvalue(res, row, 10)[0] == 't';
		q->held_index = PQgetvalue(res, row, 11)[0] == 't';
		q->follows = PQgetvalue(res, row, 13)[0] == 't';
		q->triggers = PQgetvalue(res, row, 15)[0] == 't';
		q->keyed = PQgetvalue(res, row, 16)[0] == 't';
		q->key_index = q->rules.limits.key && strcmp(PQgetvalue(res, row, 12), q->rules.limits.key) == 0;
	} else if (strcmp(kind, "archive") == 0) {
		found->archive = true;
		replace(&q->archive_table, table);
		q->a_headers = has_column(cols, "headers");
		q->a_last_read = has_column(cols, "last_read_at");
	} else if (strcmp(kind, "dlq") == 0) {
		replace(&q->dlq_table, table);
		q->has_dlq = has_column(cols, "headers");
		q->dlq_asks = PQgetvalue(res, row, 3)[0] == 't';
	} else if (strcmp(kind, "rates") == 0) {
		found->rates = true;
	} else if (strcmp(kind, "keys") == 0) {
		found->keys = has_column(cols, "held_until");
	} else if (strcmp(kind, "attempts") == 0) {
		q->attempts = true;
	} else if (strcmp(kind, "refunds") == 0) {
		q->refunds = has_column(cols, "read_ct");
	}
}

/* Why the queue cannot be worked with, or NULL. Malloc'd. */
static char *probe_error(const struct queue_pg *q, const struct found *found)
{
	if (!found->queue)
		return xasprintf("queue \"%s\" does not exist; create it with SELECT pgmq.create('%s') and "
				 "SELECT pgmqd.attach_queue('%s')",
			q->name, q->name, q->name);
	if (found->ruled)
		return xasprintf("table %s of queue \"%s\" has a rule (CREATE RULE), with which PostgreSQL refuses the "
				 "statements that claim and settle; use a trigger instead, and DROP RULE it",
			found->ruled, q->name);
	if (q->rules.archive && !found->archive)
		return xasprintf(
			"queue \"%s\" has no archive table beside %s; set on_done = delete or create the queue anew",
			q->name, q->queue_table);
	if (found->unlogged && !q->rules.allow_unlogged)
		return xasprintf(
			"queue \"%s\" is unlogged, so a crash of the server empties it; make it safe with ALTER TABLE"
			" %s SET LOGGED, or set allow_unlogged = yes if its messages may be lost",
			q->name, q->queue_table);
	if (limits_any(&q->rules.limits) && !found->rates)
		return xasprintf(
			"queue \"%s\" has limits, and the database has no table pgmqd.rates that the daemon's role"
			" may write; run pgmqd migrate",
			q->name);
	if (q->rules.limits.key && !found->keys)
		return xasprintf(
			"queue \"%s\" has limits for each key, and the database has no table pgmqd.keys with a "
			"column held_until; run pgmqd migrate",
			q->name);
	if (q->rules.limits.key && strncmp(q->rules.limits.key, "header:", 7) == 0 && !q->headers)
		return xasprintf(
			"queue \"%s\" has no column headers, and so no key \"%s\"; update pgmq to 1.5 or later, or"
			" take the key from the body",
			q->name, q->rules.limits.key);
	if (queue_follows(q) && (!q->headers || !q->follows))
		return xasprintf("queue \"%s\" has the setting then, but %s", q->name,
			q->headers ? "the database has no pgmqd.follow(); run pgmqd migrate"
				   : "no column headers; update pgmq to 1.5 or later");
	if (q->rules.grouped && !q->headers)
		return xasprintf(
			"queue \"%s\" has no column headers, and so no groups; update pgmq to 1.5 or later, or take"
			" ordered = group out",
			q->name);
	return NULL;
}

/* A description of missing parts that slow the queue, or NULL. Malloc'd. */
static char *probe_warning(const struct queue_pg *q, const struct found *found)
{
	if (!q->has_dlq || !found->trigger || !q->refunds)
		return xasprintf("queue \"%s\" has no %s; run pgmqd migrate, then SELECT pgmqd.attach_queue('%s')",
			q->name,
			!q->refunds   ? "table pgmqd.refunds beside it, so that interrupted claims count as attempts"
			: !q->has_dlq ? "dead-letter queue, so that what fails for good is kept and tried again"
				      : "wake-up trigger, so that it is only polled",
			q->name);
	if (q->rules.grouped && !found->group_index)
		return xasprintf(
			"queue \"%s\" has no index on its groups, so that claims are slow when it is long; run SELECT"
			" pgmqd.group_queue('%s')",
			q->name, q->name);
	if (q->rules.limits.key && !q->key_index)
		return xasprintf(
			"queue \"%s\" has no index on its key, so that many messages of one key hide those of others; "
			"run SELECT pgmqd.limit_queue('%s', '%s')",
			q->name, q->name, q->rules.limits.key);
	if ((q->rules.limits.at_once || q->rules.limits.of_a_key) && !q->held_index)
		return xasprintf(
			"queue \"%s\" has no index on what is in hand, so that delayed messages slow claims down; "
			"run SELECT pgmqd.limit_queue('%s')",
			q->name, q->name);
	return NULL;
}

/* Holds "present" for the table as long as the session lasts, and lets the locks on a former table of that name go. */
static void probe_locks(struct queue_pg *q)
{
	char *sql;

	if (q->pooled || (q->present && strcmp(q->present, q->oid) == 0))
		return;
	if (q->present) {
		sql = xasprintf("SELECT pg_catalog.pg_advisory_unlock_shared(%1$s, -3), "
				"pg_catalog.pg_advisory_unlock(%1$s, -2)",
			q->present);
		pgconn_query(q->pg, NULL, sql, 0, NULL, NULL, NULL);
		free(sql);
	}
	sql = xasprintf("SELECT pg_catalog.pg_advisory_lock_shared(%s, -3)", q->oid);
	pgconn_query(q->pg, NULL, sql, 0, NULL, NULL, NULL);
	free(sql);
	replace(&q->present, q->oid);
}

/* The database has taken the limits, or not; it may say that another dispatcher has others. */
static void probe_told_limits(void *arg, const struct pgresult *r)
{
	struct queue_pg *q = arg;

	q->told_limits = !r->error;
	if (!r->error && PQntuples(r->res) == 1 && !PQgetisnull(r->res, 0, 0))
		log_warn("queue \"%s\": %s: neither is kept to until they are the same", q->name,
			PQgetvalue(r->res, 0, 0));
}

/* Tells the database the limits, for those who only look; once that there are none any more. It does not matter when
 * that fails. Processes of one dispatcher have the same parent. */
static void probe_tell_limits(struct queue_pg *q)
{
	const struct limits *l = &q->rules.limits;
	char rate[40], burst[40], at_once[16], of_a_key[16], dispatcher[100];
	const char *params[9] = { q->table, l->key, rate, burst, l->rate_by_key ? "t" : "f", l->rate_here ? "t" : "f",
		at_once, of_a_key, dispatcher };

	if (q->told_limits && !limits_any(l))
		return;
	snprintf(dispatcher, sizeof(dispatcher), "dispatcher %s, process %ld", proc_host(), (long)getppid());
	snprintf(rate, sizeof(rate), "%.17g", l->rate);
	snprintf(burst, sizeof(burst), "%.17g", l->burst);
	snprintf(at_once, sizeof(at_once), "%u", l->at_once);
	snprintf(of_a_key, sizeof(of_a_key), "%u", l->of_a_key);
	pgconn_query(q->pg, NULL,
		"SELECT pgmqd.tell_limits($1, $2, $3::float8, $4::float8, $5::bool, $6::bool, $7::int, $8::int, $9)", 9,
		params, probe_told_limits, q);
}

/* The catalogue has answered. */
static void probe_looked(void *arg, const struct pgresult *r)
{
	struct queue_pg *q = arg;
	struct found found = { 0 };
	char *error;

	q->mark_us = q->full_ms = 0;
	q->headers = q->a_headers = q->last_read = q->a_last_read = q->has_dlq = q->refunds = q->attempts = q->keyed =
		q->dlq_asks = q->priority = q->set_headers = false;
	for (int i = 0; !r->error && i < PQntuples(r->res); i++)
		probe_row(q, &found, r->res, i);
	error = r->error ? xasprintf("queue \"%s\": %s", q->name, r->error) : probe_error(q, &found);
	if (error) {
		probe_end(q, error);
		return;
	}
	free(q->probe_warning);
	q->probe_warning = probe_warning(q, &found);
	queue_forget(q); /* what was prepared since the question is for the tables as they were */
	queue_prepare(q, ST_CLAIM, probe_prepared, q);
	probe_locks(q);
	if (found.rates)
		probe_tell_limits(q);
}

/* Whether the table has a valid index of that name; made by pgmqd.prioritize_queue() and pgmqd.group_queue(). */
#define HAS_INDEX(what)                                                                                                \
	"EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE "          \
	"i.indrelid = c.oid AND i.indisvalid AND x.relname = (c.relname::text || '_" what "_idx'::text))"

/* Settings of the session: the statements must go by the indexes on vt and msg_id even while the planner believes the
 * tables to be empty; a lock that another session holds must not stall everything behind it; and the second trigger of
 * pgmqd.attach_queue() knows by pgmqd.worker that it is the dispatcher itself that brings a message forward. */
const char queue_session_sql[] =
	"SELECT pg_catalog.set_config('enable_seqscan', 'off', false), pg_catalog.set_config('lock_timeout', "
	"'" QUEUE_LOCK_TIMEOUT_MS "', false), pg_catalog.set_config('pgmqd.worker', 'on', false)";

/* The indexes of pgmqd.limit_queue(): whether there is the one of what is in hand, and the key of the other one; '':
 * there is none. */
#define INDEXED_KEY                                                                                                    \
	"coalesce((SELECT pg_catalog.obj_description(x.oid, 'pg_class') FROM pg_catalog.pg_index i JOIN "              \
	"pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisvalid AND x.relname = "     \
	"(c.relname::text || '_key_idx'::text)), ''::text)"
#define LIMIT_INDEXES ", " HAS_INDEX("held") ", " INDEXED_KEY

/* Whether the table has a rule of CREATE RULE. */
#define RULED                                                                                                          \
	", n.nspname = 'pgmq' AND EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND "           \
	"r.ev_enabled <> 'D' AND r.ev_type <> '1')"

/* What users have put onto the table: a rule, and triggers that fire when a row changes. */
#define BY_USERS RULED ", " QUEUE_TRIGGERS("c.oid")

/* The indexes of pgmqd.prioritize_queue() and pgmqd.group_queue(). */
#define QUEUE_INDEXES HAS_INDEX("priority") ", " HAS_INDEX("group")

/* The queue's tables. The dead-letter queue's name is that of pgmqd.dlq_name(), which may not be there. */
#define TABLES                                                                                                         \
	"WITH names AS (SELECT pg_catalog.lower($1::text) AS name), dlq AS (SELECT CASE WHEN "                         \
	"pg_catalog.octet_length(name) <= 43 THEN name ELSE pg_catalog.concat((SELECT pg_catalog.left(name, n) FROM "  \
	"pg_catalog.generate_series(34, 0, -1) n WHERE pg_catalog.octet_length(pg_catalog.left(name, n)) <= 34 LIMIT " \
	"1), '_', pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(name, 'UTF8')), 'hex'), "  \
	"8)) END || '_dlq'::text AS name FROM names)"                                                                  \
	" SELECT CASE WHEN n.nspname = 'pgmqd' THEN c.relname::text WHEN c.relname = ('q_'::text || q.name)"           \
	" THEN 'queue' WHEN c.relname = ('a_'::text || q.name) THEN 'archive' ELSE 'dlq' END,"                         \
	" pg_catalog.format('%I.%I', n.nspname, c.relname),"                                                           \
	" (SELECT pg_catalog.string_agg(a.attname::text, ',') FROM pg_catalog.pg_attribute a WHERE a.attrelid = "      \
	"c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (a.attname <> 'last_read_at' OR"                            \
	" pg_catalog.has_column_privilege(c.oid, a.attnum, CASE WHEN c.relname = ('q_'::text || q.name)"               \
	" THEN 'UPDATE' ELSE 'INSERT' END))),"                                                                         \
	" CASE WHEN c.relname = ('q_'::text || d.name) THEN EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE "      \
	"a.attrelid = c.oid AND a.attname = 'headers' AND NOT a.attisdropped AND "                                     \
	"pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) ELSE"                                             \
	" EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'pgmqd_wakeup'"           \
	" AND t.tgenabled IN ('O', 'A')) END,"                                                                         \
	" c.oid::int4, c.relpersistence = 'u', " QUEUE_INDEXES                                                         \
	", pg_catalog.format('%I.%I', n.nspname, (c.relname::text || '_priority_idx'::text)), q.name"                  \
	", EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = "                    \
	"'headers' AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE'))" LIMIT_INDEXES                      \
	", pg_catalog.to_regproc('pgmqd.follow') IS NOT NULL" BY_USERS                                                 \
	", pg_catalog.to_regproc('pgmqd.key_goes_on') IS NOT NULL"                                                     \
	" FROM names q, dlq d, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "                       \
	"c.relnamespace"                                                                                               \
	" WHERE n.nspname = 'pgmq' AND c.relname IN ('q_'::text || q.name, 'a_'::text || q.name, "                     \
	"'q_'::text || d.name)"                                                                                        \
	" OR n.nspname = 'pgmqd' AND (c.relname IN ('refunds', 'keys') OR c.relname IN ('attempts', 'rates')"          \
	" AND pg_catalog.has_table_privilege(c.oid, 'INSERT'))"

void queue_pg_probe(struct queue *base, queue_probe_cb cb, void *arg)
{
	struct queue_pg *q = queue_pg(base);
	const char *params[1] = { q->name };

	queue_forget(q);
	queue_forget_refused(q);
	q->probe_cb = cb;
	q->probe_arg = arg;
	if (q->session != pgconn_session(q->pg)) {
		free(q->present);
		q->present = NULL;
	}
	q->session = pgconn_session(q->pg);
	q->pooled = pgconn_is_pooled(q->pg);
	if (!q->pooled)
		pgconn_query(q->pg, NULL, queue_session_sql, 0, NULL, NULL, NULL);
	pgconn_query(q->pg, NULL, TABLES, 1, params, probe_looked, q);
}
