/* queue_limit.c: how much of a claim the limits of a queue leave, and by which key: rates and places.
 *
 * A message that a limit keeps back is not touched: its row stays as it is, due, and the claim picks what comes behind
 * it. So it costs no attempt and has no lease. Claims of such a queue take turns (queue_order.c), and each one counts
 * for itself, in its own snapshot:
 *
 *   places   the rows that claims hold now: what is handled, by any dispatcher, and what a dead one has left until its
 *            leases end
 *   tokens   a row of pgmqd.rates for each key says until when its rate is spent. Tokens are taken by the statement
 *            that claims their messages, so none is taken for nothing, and no further statement is needed for them
 *
 * A key that is paused or held (pgmqd.keys) has no room. With fair_by, the key that has the fewest messages in hand for
 * its weight comes next, and the last free place of a process is left to a key that has none: else the first message
 * of a small customer would wait for the end of a handler, since another one's flood takes each place that is there.
 *
 * By key, the claim tries a sample of the rows that have been due longest. Where the limits leave too few of them, it
 * goes through the keys by the index that pgmqd.limit_queue() makes, from the first one and from any one on.
 */
#include "config.h"

#include "worker/queue_private.h"

#include "base/xalloc.h"

#include <stdlib.h>
#include <string.h>

/* Due rows that are tried. Parameters stand in subqueries, so that a plan for one value is no cheaper than the one for
 * all, which the server then keeps: making it takes longer than a claim. */
#define SAMPLE "(SELECT 200 + 2 * $1::int)"
#define KEYS "1000"         /* keys that are gone through in one claim, since most of them may have no room */
#define KEYS_AGAIN_MS "100" /* when there were more of them */
#define KEYS_PART "pg_catalog.ceil((SELECT p.n FROM part p)::pg_catalog.float8 * f.weight)::bigint" /* read of each */
#define WORTH_S 0.02 /* a look is not worth while for fewer tokens than come in this time, if the burst allows it */

/* A claim holds the row: its time ends with a nonce, and not with a whole millisecond. The index of
 * pgmqd.limit_queue() is on the same condition. */
#define IS_HELD                                                                                                        \
	"read_ct > 0 AND pg_catalog.date_part('microseconds'::text, pg_catalog.timezone('UTC'::text, vt))::bigint %% " \
	"1000 <> 0"

#define ROOM "k, room, spent, tokens, weight, held"

/* ---- keys ---- */

/* How many keys are gone through in one claim. For turns, as many as rows are tried: each has room. */
static const char *keys_most(const struct limits *l)
{
	return l->fair ? SAMPLE : KEYS;
}

/* The path of body:/a/b as an array's literal; ~1 stands for / and ~0 for ~, as in a JSON pointer. */
static char *path_array(const char *path)
{
	struct sqltext array = { 0 };
	char *copy = xstrdup(path + 1), *rest = copy, *step, *literal;

	while ((step = strsep(&rest, "/")) != NULL) {
		char *to = step;

		for (const char *p = step; *p; p++) {
			bool escaped = *p == '~' && (p[1] == '0' || p[1] == '1');

			*to++ = escaped ? (p[1] == '1' ? '/' : '~') : *p;
			p += escaped;
		}
		*to = '\0';
		sqltext_str(&array, step);
	}
	literal = sqltext_literal(sqltext_end(&array));
	sqltext_free(&array);
	free(copy);
	return literal;
}

/* The key of a row; a message without one has the empty key. pgmqd.key_expression() writes the same. */
static char *key_sql(const struct limits *l)
{
	bool header = strncmp(l->key, "header:", 7) == 0;
	char *what = header ? sqltext_literal(l->key + 7) : path_array(l->key + 5), *sql;

	sql = header ? xasprintf("pg_catalog.left(coalesce(headers ->> %s::text, ''::text), 200)", what)
	             : xasprintf("pg_catalog.left(coalesce(message #>> %s::text[], ''::text), 200)", what);
	free(what);
	return sql;
}

/* ---- tokens ---- */

/* Whose rate it is: that of all dispatchers, or of this process. */
static char *rate_holder(const struct limits *l)
{
	char *name = l->rate_here ? queue_process_literal() : xstrdup("''"), *sql = xasprintf("%s::text", name);

	free(name);
	return sql;
}

/* Rows (spent, tokens) for a key: until when its rate counts as spent, and how many tokens there are since, with a
 * fraction. A rate that is spent until a future time, since the server's clock was turned back, is spent now. */
static char *rate_sql(const struct queue_pg *q, const char *key)
{
	const struct limits *l = &q->rules.limits;
	char *holder = rate_holder(l), *sql;

	sql = xasprintf("(SELECT b.spent, pg_catalog.date_part('epoch', " NOW " - b.spent) * %.12g::pg_catalog.float8 "
			"+ 0.000001::pg_catalog.float8 AS tokens FROM (SELECT greatest(least(coalesce((SELECT "
			"r.spent_until FROM pgmqd.rates r WHERE r.queue = $2::text AND r.holder = %s AND r.key = %s), "
			"'-infinity'::pg_catalog.timestamptz), " NOW "), " NOW
			" - pg_catalog.make_interval(secs => %.12g::pg_catalog.float8)) AS spent) b)",
		l->rate, holder, key, l->burst / l->rate);
	free(holder);
	return sql;
}

/* ---- the items ---- */

/* `held`: how many rows of each key claims hold; `all_tokens`: the tokens of the queue as a whole; `budget`. */
char *queue_limit_budget(const struct queue_pg *q)
{
	const struct limits *l = &q->rules.limits;
	char *key = l->key ? key_sql(l) : xstrdup("''::text"), *rate = NULL, *held = NULL, *sql, *places = NULL;

	if (l->at_once || l->of_a_key || l->fair)
		held = xasprintf(
			"held AS MATERIALIZED (SELECT %s AS k, pg_catalog.count(*) AS n FROM %s WHERE vt > " NOW
			" AND " IS_HELD " GROUP BY 1), ",
			key, q->queue_table);
	if (l->at_once)
		places = xasprintf(", %u - (SELECT coalesce(pg_catalog.sum(h.n), 0) FROM held h)", l->at_once);
	if (l->rate > 0 && !l->rate_by_key)
		rate = rate_sql(q, "''::text");
	sql = xasprintf("%s%s%s%sbudget AS MATERIALIZED (SELECT greatest(0, least($1::int%s%s))::int AS n), ",
		held ? held : "", rate ? "all_tokens AS MATERIALIZED " : "", rate ? rate : "", rate ? ", " : "",
		places ? places : "", rate ? ", (SELECT pg_catalog.floor(t.tokens) FROM all_tokens t)" : "");
	free(key);
	free(held);
	free(places);
	free(rate);
	return sql;
}

/* Rows (room, spent, tokens, weight, held) for the key `k`: how many more of it may be claimed, none while it is
 * paused; its weight, and how many are in hand. */
static char *room_sql(const struct queue_pg *q)
{
	const struct limits *l = &q->rules.limits;
	bool rate = l->rate > 0 && l->rate_by_key;
	char *tokens = rate ? rate_sql(q, "y.k") : NULL, *places = NULL, *sql;
	const char *held = l->of_a_key || l->fair ? "coalesce((SELECT h.n FROM held h WHERE h.k = x.k), 0)" : "0";

	if (l->of_a_key)
		places = xasprintf(", %u - %s", l->of_a_key, held);
	sql = xasprintf("LATERAL (SELECT CASE WHEN c.paused_at IS NULL AND (c.held_until <= " NOW
			") IS NOT FALSE THEN greatest(0, least($1::int%s%s)) ELSE 0 END::int "
			"AS room, %s, coalesce(c.weight, 1) AS weight, %s AS held FROM (SELECT x.k) y(k) LEFT JOIN "
			"pgmqd.keys c ON c.queue = $2::text AND c.key = y.k%s%s%s) z",
		places ? places : "", rate ? ", pg_catalog.floor(t.tokens)" : "",
		rate ? "t.spent, t.tokens" : "NULL::timestamptz AS spent, NULL::pg_catalog.float8 AS tokens", held,
		rate ? ", LATERAL " : "", rate ? tokens : "", rate ? " t" : "");
	free(tokens);
	free(places);
	return sql;
}

/* The candidates whose keys have room, in their order. */
static char *chosen_sql(const struct limits *l)
{
	const char *rows = "FROM ranked r JOIN rooms m ON m.k = r.k WHERE r.nth <= m.room";

	if (!l->fair)
		return xasprintf("SELECT r.msg_id %s ORDER BY r.vt, r.msg_id", rows);
	return xasprintf("SELECT o.msg_id FROM (SELECT r.msg_id, m.held + r.nth AS place, pg_catalog.row_number() OVER "
			 "(ORDER BY (m.held + r.nth)::pg_catalog.float8 / m.weight, r.vt, r.msg_id) AS turn %s) o%s "
			 "ORDER BY o.turn",
		rows, l->leaves_one ? " WHERE o.place = 1 OR o.turn < $1::int" : "");
}

/* `far`: the keys beyond the sample, if they are wanted, and `heads`: the first due rows of each: its part of twice as
 * many as are asked for, or more by its weight. */
static char *far_sql(const struct queue_pg *q, const char *key, const char *room)
{
	if (!q->key_index) /* each step would sort the whole queue */
		return xasprintf("far AS MATERIALIZED (SELECT x.k, z.* FROM (SELECT ''::text AS k WHERE false) x, %s), "
				 "heads AS (SELECT d.msg_id, d.vt, d.k FROM due d WHERE false)",
			room);
	return xasprintf(
		"wanted AS MATERIALIZED (SELECT (SELECT pg_catalog.count(*) FROM due) = " SAMPLE " AND (SELECT "
		"coalesce(pg_catalog.sum(least(n.room, n.due)), 0) FROM near n) < %4$s AS yes), keys(k) AS (SELECT u.k "
		"FROM ((SELECT %1$s AS k FROM %2$s ORDER BY %1$s LIMIT 1) UNION ALL (SELECT %1$s FROM %2$s WHERE "
		"msg_id >= (SELECT pg_catalog.min(msg_id) + pg_catalog.floor(pg_catalog.random() * "
		"(pg_catalog.max(msg_id) - pg_catalog.min(msg_id) + 1)) FROM %2$s)::bigint ORDER BY msg_id LIMIT 1)) u "
		"WHERE (SELECT w.yes FROM wanted w) UNION SELECT n.k FROM keys s, LATERAL (SELECT %1$s AS k FROM %2$s "
		"WHERE %1$s > s.k ORDER BY %1$s LIMIT 1) n), far AS MATERIALIZED (SELECT x.k, z.* FROM (SELECT k FROM "
		"keys LIMIT %5$s) x, %3$s), part AS MATERIALIZED (SELECT 1 + 2 * $1::int / "
		"greatest(pg_catalog.count(*), 1::bigint) AS n FROM far WHERE room > 0), heads AS (SELECT h.msg_id, "
		"h.vt, f.k FROM far f, LATERAL (SELECT msg_id, vt FROM %2$s WHERE %1$s = f.k AND vt <= " NOW NOT_REFUSED
		" ORDER BY vt, msg_id LIMIT "
		"least(f.room::bigint, " KEYS_PART ")) h WHERE f.room > 0)",
		key, q->queue_table, room,
		/* a sample of those that have waited longest has too few keys to be fair */
		q->rules.limits.fair ? "9223372036854775807" : "(SELECT n FROM budget)", keys_most(&q->rules.limits));
}

char *queue_limit_pick(const struct queue_pg *q)
{
	char *key = key_sql(&q->rules.limits), *room = room_sql(q), *far = far_sql(q, key, room), *sql;
	char *chosen = chosen_sql(&q->rules.limits);

	/* the sum keeps the planner from the index on vt, which has all the due rows: the numbers are few */
	sql = xasprintf(
		"due AS MATERIALIZED (SELECT msg_id, vt, %1$s AS k FROM (SELECT * FROM %2$s WHERE vt >= (SELECT " MARK
		") AND vt <= " NOW NOT_REFUSED " ORDER BY vt LIMIT " SAMPLE
		") d), near AS MATERIALIZED (SELECT x.k, z.*, x.due FROM (SELECT d.k, pg_catalog.count(*) AS due FROM "
		"due d GROUP BY d.k) x, %3$s), %4$s, rooms AS MATERIALIZED (SELECT " ROOM
		" FROM near UNION SELECT " ROOM
		" FROM far), ranked AS (SELECT c.*, pg_catalog.row_number() OVER (PARTITION BY c.k ORDER BY c.vt, "
		"c.msg_id) AS nth FROM (SELECT msg_id, vt, k FROM due UNION SELECT msg_id, vt, k FROM heads) c), "
		"picked AS MATERIALIZED (SELECT msg_id, %1$s AS k FROM %2$s WHERE msg_id = ANY (ARRAY(%5$s "
		"LIMIT (SELECT n FROM budget))) AND vt + interval '0' <= " NOW " FOR UPDATE SKIP LOCKED)",
		key, q->queue_table, room, far, chosen);
	free(chosen);
	free(key);
	free(room);
	free(far);
	return sql;
}

/* Milliseconds until a look for more tokens is worth while, out of rows that have `tokens` and have spent `n`. */
static char *hold_sql(const struct limits *l)
{
	double worth = l->rate * WORTH_S > l->burst / 4 ? l->burst / 4 : l->rate * WORTH_S;

	worth = worth > 1 ? worth : 1;
	return xasprintf("pg_catalog.ceil((%1$.12g::pg_catalog.float8 - (s.tokens - s.n)) / %2$.12g::pg_catalog.float8 "
			 "* 1000::pg_catalog.float8)::bigint",
		worth, l->rate);
}

/* When a claim goes through the keys again that has found too few: at once where some of them have more for which there
 * is room; soon when there are more keys. */
static char *again_sql(const struct queue_pg *q)
{
	if (!q->rules.limits.key || !q->key_index)
		return xstrdup("SELECT NULL::bigint");
	return xasprintf(
		"SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM heads) < (SELECT n FROM budget) AND EXISTS (SELECT "
		"FROM far f JOIN heads h ON h.k = f.k GROUP BY f.k, f.room, f.weight HAVING pg_catalog.count(*) < "
		"f.room::bigint AND pg_catalog.count(*) = " KEYS_PART ") THEN 1::bigint WHEN (SELECT "
		"pg_catalog.count(*) FROM far) >= %s THEN " KEYS_AGAIN_MS "::bigint END",
		keys_most(&q->rules.limits));
}

/* `spent`: the tokens of what was picked are written down; `hold`. */
char *queue_limit_spend(const struct queue_pg *q)
{
	const struct limits *l = &q->rules.limits;
	char *more_keys = again_sql(q), *holder, *hold, *sql;

	if (l->rate <= 0) {
		sql = xasprintf(", hold(ms) AS (%s)", more_keys);
		free(more_keys);
		return sql;
	}
	holder = rate_holder(l);
	hold = hold_sql(l);
	sql = xasprintf(
		", used AS MATERIALIZED (%1$s), spent AS (INSERT INTO pgmqd.rates AS r (queue, holder, key,"
		" spent_until) "
		"SELECT $2::text, %2$s, s.k, s.spent + pg_catalog.make_interval(secs => s.n::pg_catalog.float8 / "
		"%3$.12g::pg_catalog.float8) FROM used s WHERE s.n > 0 ON CONFLICT (queue, holder, key) DO UPDATE SET "
		"spent_until = excluded.spent_until), hold(ms) AS (SELECT least(pg_catalog.min(%4$s) FILTER (WHERE "
		"s.tokens - s.n < 1::pg_catalog.float8), (%5$s)) FROM used s)",
		l->rate_by_key ? "SELECT m.k, m.spent, m.tokens, (SELECT pg_catalog.count(*) FROM picked p WHERE p.k = "
				 "m.k) AS n FROM rooms m"
			       : "SELECT ''::text AS k, t.spent, t.tokens, (SELECT pg_catalog.count(*) FROM picked) AS "
				 "n FROM all_tokens t",
		holder, l->rate, hold, more_keys);
	free(more_keys);
	free(holder);
	free(hold);
	return sql;
}
