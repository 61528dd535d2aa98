/* archive.c: the messages that are replayed. One transaction reads them, so that all come from one moment; a page at a
 * time by the index of the archive, so that a large archive is not walked through.
 */
#include "config.h"

#include "cmd/replay/archive.h"

#include "base/clock.h"
#include "base/xalloc.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 500

char *archive_begin(const struct cmd_db *db)
{
	PGresult *res;
	char *snapshot;

	if (!cmd_db_run_plain(db, NULL, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") ||
		!(res = cmd_db_run(db, NULL, "SELECT pg_catalog.pg_export_snapshot()", 0, NULL)))
		return NULL;
	snapshot = xstrdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return snapshot;
}

/* The archive's name for SQL and whether it has headers; NULL after printing what failed. */
static char *find_archive(const struct cmd_db *db, const char *queue, bool *headers)
{
	const char *params[] = { queue };
	PGresult *res = cmd_db_run(db, NULL,
		"SELECT t, EXISTS (SELECT FROM pg_catalog.pg_attribute"
		" WHERE attrelid = t AND attname = 'headers' AND NOT attisdropped)"
		" FROM pgmqd.queue_table('a', $1) AS f (t)",
		1, params);
	char *name = NULL;

	if (!res)
		return NULL;
	if (PQntuples(res) == 1 && !PQgetisnull(res, 0, 0)) {
		name = xstrdup(PQgetvalue(res, 0, 0));
		*headers = *PQgetvalue(res, 0, 1) == 't';
	} else {
		cmd_db_fail(db, xasprintf("there is no queue \"%s\" with an archive", queue));
	}
	PQclear(res);
	return name;
}

/* The statement for a page of the messages of a choice. */
static char *page_sql(const struct cmd_db *db, const struct archive_choice *c)
{
	static const char page[] =
		"SELECT id, number, (extract(epoch FROM sent) * 1000000)::bigint,"
		" (extract(epoch FROM ended) * 1000000)::bigint, message, headers, class, reason, ended"
		" FROM (%s) AS m WHERE ($2::jsonb IS NULL OR message @> $2)"
		" AND ($3::bigint = 0 OR ended >= now() - $3::bigint * interval '1 ms')"
		" AND ($4::timestamptz IS NULL OR (ended, id) < ($4, $5::bigint))"
		" ORDER BY ended DESC, id DESC LIMIT $6::bigint";
	static const char dead[] = "SELECT id, coalesce(original_id, id) AS number,"
				   " coalesce(first_enqueued_at, died_at) AS sent, died_at AS ended, message, headers,"
				   " failure_class AS class, failure_reason AS reason FROM pgmqd.dead_letters($1)";
	static const char archive[] =
		"SELECT msg_id AS id, msg_id AS number, enqueued_at AS sent, archived_at AS ended,"
		" message, %s AS headers, NULL AS class, NULL AS reason FROM %s"
		" WHERE $1::text IS NOT NULL";
	bool headers = false;
	char *table = NULL, *from = NULL, *sql;

	if (c->dead)
		from = xstrdup(dead);
	else if ((table = find_archive(db, c->queue, &headers)) != NULL)
		from = xasprintf(archive, headers ? "headers" : "NULL", table);
	sql = from ? xasprintf(page, from) : NULL;
	free(from);
	free(table);
	return sql;
}

/* A value, or NULL. */
static char *value(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : xstrdup(PQgetvalue(res, row, col));
}

/* Adds a page's messages. Each is as old now as it was when it was handled. */
static void take_page(struct replay_messages *m, const PGresult *res, int64_t now)
{
	int rows = PQntuples(res);

	m->list = xrealloc(m->list, m->n + (size_t)rows + 1, sizeof(*m->list));
	for (int i = 0; i < rows; i++) {
		int64_t age = strtoll(PQgetvalue(res, i, 3), NULL, 10) - strtoll(PQgetvalue(res, i, 2), NULL, 10);

		m->list[m->n++] = (struct replay_message){ .id = strtoll(PQgetvalue(res, i, 0), NULL, 10),
			.number = strtoll(PQgetvalue(res, i, 1), NULL, 10),
			.enqueued_us = now - age,
			.text = xstrdup(PQgetvalue(res, i, 4)),
			.headers = value(res, i, 5),
			.class = value(res, i, 6),
			.reason = value(res, i, 7) };
	}
}

bool archive_read(const struct cmd_db *db, const struct archive_choice *c, struct replay_messages *m)
{
	char since[24], limit[24], *sql = page_sql(db, c), *at = NULL, *id = NULL;
	int64_t now = clock_realtime_us();
	bool more = true, ok = false;

	snprintf(since, sizeof(since), "%" PRId64, c->since_ms);
	while (sql && !ok) {
		int64_t wanted = c->limit - (int64_t)m->n < PAGE ? c->limit - (int64_t)m->n : PAGE;
		const char *params[] = { c->queue, c->where, since, at, id, limit };
		PGresult *res;

		snprintf(limit, sizeof(limit), "%" PRId64, wanted);
		res = cmd_db_run(db, NULL, sql, 6, params);
		if (!res) {
			fprintf(stderr,
				"%s: messages are read by a role that may see them, which that of the daemon may "
				"not: name one with -d\n",
				db->name);
			break;
		}
		take_page(m, res, now);
		more = PQntuples(res) == wanted;
		ok = !more || (int64_t)m->n >= c->limit;
		free(at);
		free(id);
		at = more ? xstrdup(PQgetvalue(res, PQntuples(res) - 1, 8)) : NULL;
		id = more ? xstrdup(PQgetvalue(res, PQntuples(res) - 1, 0)) : NULL;
		PQclear(res);
	}
	for (size_t i = 0; i < m->n / 2; i++) {
		struct replay_message other = m->list[i];

		m->list[i] = m->list[m->n - 1 - i];
		m->list[m->n - 1 - i] = other;
	}
	free(at);
	free(id);
	free(sql);
	return ok;
}

void archive_free(struct replay_messages *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->list[i].text);
		free(m->list[i].headers);
		free(m->list[i].class);
		free(m->list[i].reason);
	}
	free(m->list);
}
