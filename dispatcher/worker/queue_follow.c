/* queue_follow.c: what follows a message in the transaction that stores its outcome: the headers then and else, and the
 * messages that its plugin sends along. pgmqd.follow() and pgmqd.send_next() of sql/024_chains.sql do it. The
 * statements of a queue whose section has no `then` are the same as if there were none of this. */
#include "config.h"

#include "worker/queue_private.h"

#include "base/lines.h"
#include "base/log.h"
#include "base/xalloc.h"

#include <stdlib.h>

#define SENDS                                                                                                          \
	"SELECT pgmqd.send_next(s) FROM unnest($1::text[]) t, pg_catalog.jsonb_array_elements(t::pg_catalog.jsonb) s"

bool queue_follows(const struct queue_pg *q)
{
	return q->rules.then && *q->rules.then;
}

/* The queues that may be named, as an array. Malloc'd. */
static char *allowed_literal(const struct queue_pg *q)
{
	struct sqltext names = { 0 };
	char *copy = xstrdup(q->rules.then), *rest = copy, *name, *literal;

	while ((name = words_next(&rest)) != NULL)
		sqltext_str(&names, name);
	literal = sqltext_literal(sqltext_end(&names));
	sqltext_free(&names);
	free(copy);
	return literal;
}

/* SQL between macros would be laid out as arguments of theirs. */
/* clang-format off */

char *queue_follow_sql(const struct queue_pg *q, const char *step, const char *result, const char *from)
{
	char *allowed, *sql;

	if (!queue_follows(q))
		return xstrdup("");
	allowed = allowed_literal(q);
	sql = xasprintf(
		", followed AS MATERIALIZED (SELECT g.msg_id, pgmqd.follow('%1$s', g.headers, %2$s::text[], %3$s) AS "
		"error FROM gone g LEFT JOIN %4$s ON r.msg_id = g.msg_id WHERE "
		"pg_catalog.jsonb_exists(g.headers, '%1$s'))",
		step, allowed, result, from);
	free(allowed);
	return sql;
}

const char *queue_follow_answer(const struct queue_pg *q, const char *plain, const char *follows)
{
	return queue_follows(q) ? follows : plain;
}

/* clang-format on */

const char *queue_follow_results(
	const struct queue_pg *q, struct pgmqd_msg *const *msgs, size_t n, struct sqltext *results)
{
	if (!queue_follows(q))
		return NULL;
	for (size_t i = 0; i < n; i++)
		sqltext_str(results, msgs[i]->result);
	return sqltext_end(results);
}

void queue_follow_failed(const PGresult *res, int row, const char *id)
{
	if (PQnfields(res) > 2 && !PQgetisnull(res, row, 2))
		log_error("message %s: what its headers then and else say is not sent, its outcome is stored: %s", id,
			PQgetvalue(res, row, 2));
}

char *queue_follow_sends(struct pgmqd_msg *const *msgs, size_t n)
{
	struct sqltext all = { 0 };
	char *copy;

	for (size_t i = 0; i < n; i++)
		if (msgs[i]->sends) {
			char *list = xasprintf("[%s]", msgs[i]->sends);

			sqltext_str(&all, list);
			free(list);
		}
	copy = all.buf ? xstrdup(sqltext_end(&all)) : NULL;
	sqltext_free(&all);
	return copy;
}

void queue_follow_send(struct pgconn *c, const char *sends)
{
	const char *params[1] = { sends };

	if (sends)
		pgconn_query(c, NULL, SENDS, 1, params, NULL, NULL);
}
