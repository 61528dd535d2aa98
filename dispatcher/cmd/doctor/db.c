/* db.c: the checks of `pgmqd doctor` that take more than a look into the catalogue: connection, clock, schema,
 * notifications, a message. */
#include "config.h"

#include "base/clock.h"
#include "base/cron.h"
#include "cmd/doctor/db.h"

#include "base/xalloc.h"
#include "cmd/doctor/finding.h"
#include "cmd/doctor/sql.h"
#include "cmd/sqlfile.h"
#include "process/stats.h"
#include "settings/settings.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SILENT_S 10 /* after which the dispatcher gives a silent server up */
#define NOTIFY_MS 2000
#define SKEW_WARN_MS 2000
#define SKEW_FAIL_MS 30000
#define PROBE "pgmqd_probe" /* the queue that is made for a message of ours */

/* ---- the connection ---- */

/* Where the database is said to be, for remedies. */
static char *database_setting(const struct doctor *d)
{
	if (d->db.database)
		return xstrdup("what -d says");
	if (d->db.settings && *d->db.settings->database)
		return xasprintf("database in %s", d->db.settings->path);
	return xstrdup(getenv("DATABASE_URL") ? "DATABASE_URL" : "database in pgmqd.conf, or PGHOST and so on");
}

void doctor_disconnect(struct doctor *d)
{
	PQfinish(d->ear);
	PQfinish(d->db.conn);
	d->ear = d->db.conn = NULL;
}

/* The role that the dispatcher connects as: that of the settings, where we came in by -d. */
static char *dispatcher_role(const struct doctor *d)
{
	PQconninfoOption *options = d->db.database && d->db.settings ? PQconninfoParse(d->db.settings->database, NULL)
	                                                             : NULL;
	char *role = NULL;

	for (PQconninfoOption *o = options; o && o->keyword; o++)
		if (strcmp(o->keyword, "user") == 0 && o->val)
			role = xstrdup(o->val);
	PQconninfoFree(options);
	return role ? role : xstrdup(PQuser(d->db.conn));
}

/* Tells of a connection that stands: to whom, and how private it is. */
static void tell_connected(struct doctor *d)
{
	const PGconn *c = d->db.conn;
	const char *host = PQhost(c), *addr = PQhostaddr(c);
	bool local = !host || *host == '/' || (addr && (strncmp(addr, "127.", 4) == 0 || strcmp(addr, "::1") == 0));
	int version = PQserverVersion(c);
	bool tls = PQsslInUse((PGconn *)c);

	if (version < 140000) {
		doctor_report(d, PGMQD_CHECK_FAIL, "", xstrdup("upgrade the server to PostgreSQL 14 or later"), NULL,
			"the server is PostgreSQL %d", version / 10000);
		return;
	}
	d->have |= DOCTOR_DB;
	if (!tls && !local) {
		doctor_report(d, PGMQD_CHECK_WARN, "",
			xstrdup("add sslmode=verify-full (and sslrootcert=…) to the connection string"), NULL,
			"database %s on %s as role %s without TLS: mails and passwords cross the network in the clear",
			PQdb(c), host, PQuser(c));
		return;
	}
	doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "database %s on %s as role %s, PostgreSQL %d.%d, %s%s",
		PQdb(c), host ? host : "this machine", PQuser(c), version / 10000, version % 10000,
		tls ? PQsslAttribute((PGconn *)c, "protocol") : "without TLS", tls ? "" : ", on this machine");
}

/* The remedy for a connection that failed; `setting` names the setting with the database. Malloc'd. */
static char *connection_remedy(const char *error, const char *setting)
{
	if (strstr(error, "password") || strstr(error, "pg_hba.conf") || strstr(error, "authentication"))
		return xasprintf("correct the role and its password in %s, or the server's pg_hba.conf", setting);
	if (strstr(error, "does not exist"))
		return xasprintf("create it, or correct the name in %s", setting);
	if (strstr(error, "libpq") || strstr(error, "write ") || strstr(error, "URI"))
		return xasprintf("correct %s as it says", setting);
	return xasprintf("start the server, or set %s to the right one; psql tries the same", setting);
}

/* Connects anew. */
void doctor_connect(struct doctor *d)
{
	doctor_disconnect(d);
	char *error = cmd_db_open(&d->db);

	if (error) {
		char *setting = database_setting(d);

		doctor_report(
			d, PGMQD_CHECK_FAIL, "", connection_remedy(error, setting), NULL, "no connection: %s", error);
		free(error);
		free(setting);
		return;
	}
	free(d->role);
	d->role = dispatcher_role(d);
	/* a look must neither wait for locks nor hold anybody up */
	PQclear(PQexec(
		d->db.conn, "SET statement_timeout = '15s'; SET lock_timeout = '2s'; SET client_min_messages = error"));
	tell_connected(d);
}

void doctor_standby(struct doctor *d)
{
	PGresult *res = doctor_query(d, "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')");

	if (!res)
		return;
	if (strcmp(PQgetvalue(res, 0, 0), "t") == 0) {
		char *setting = database_setting(d);

		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xasprintf(
				"name the primary in %s, or all servers and target_session_attrs=read-write", setting),
			NULL, "the server is a standby, which cannot be written to");
		free(setting);
	} else if (strcmp(PQgetvalue(res, 0, 1), "on") == 0) {
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xasprintf("ALTER ROLE %s RESET default_transaction_read_only, or the same for the database",
				PQuser(d->db.conn)),
			NULL, "transactions are read only by default (default_transaction_read_only)");
	} else {
		d->have |= DOCTOR_PRIMARY;
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "the server is a primary");
	}
	PQclear(res);
}

void doctor_clock(struct doctor *d)
{
	int64_t best = INT64_MAX, skew = 0;

	for (int i = 0; i < 3; i++) { /* the shortest round trip is the most exact one */
		int64_t began = clock_monotonic_us(), here = clock_realtime_us(), took;
		PGresult *res = doctor_query(d, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");

		if (!res)
			return;
		took = clock_monotonic_us() - began;
		if (took < best) {
			best = took;
			skew = (strtoll(PQgetvalue(res, 0, 0), NULL, 10) - here - took / 2) / 1000;
		}
		PQclear(res);
	}
	if (llabs(skew) < SKEW_WARN_MS)
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL,
			"the server's clock is %lld ms from ours, an answer takes %.1f ms", llabs(skew),
			(double)best / 1000);
	else
		doctor_report(d, llabs(skew) < SKEW_FAIL_MS ? PGMQD_CHECK_WARN : PGMQD_CHECK_FAIL, "",
			xstrdup("have both machines set their clocks by NTP (timedatectl set-ntp true)"), NULL,
			"the server's clock is %.1f s %s ours: times in logs, delays and metrics do not fit together",
			(double)llabs(skew) / 1000, skew > 0 ? "ahead of" : "behind");
}

/* ---- the schema ---- */

/* Compares one file with what was applied; true when it is pending. */
static bool file_is_pending(struct doctor *d, const struct sql_file *f, bool known)
{
	const char *params[] = { f->name, f->text };
	const int lengths[] = { 0, (int)strlen(f->text) }, formats[] = { 0, 1 };
	const Oid types[] = { 25, 17 }; /* text, bytea */
	PGresult *res;
	bool pending;

	if (!known)
		return strcmp(f->name, "000_demo_app.sql") != 0;
	res = PQexecParams(d->db.conn,
		"SELECT v.checksum = encode(sha256($2), 'hex') FROM (SELECT) one LEFT JOIN pgmqd.schema_version v ON"
		" v.file = $1",
		2, types, params, lengths, formats, 0);
	pending = PQntuples(res) == 1 && PQgetisnull(res, 0, 0) && strcmp(f->name, "000_demo_app.sql") != 0;
	if (PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), "f") == 0)
		doctor_report(d, PGMQD_CHECK_FAIL, f->name,
			xstrdup("pgmqd migrate applies it again; it refuses when a newer pgmqd has migrated the "
				"database"),
			NULL, "it is not the file that was applied");
	PQclear(res);
	return pending;
}

/* Tells which files are pending. */
static void tell_pending(struct doctor *d, const struct sql_dir *dir, bool known)
{
	char *pending = NULL;
	size_t before = d->nfindings;

	for (size_t i = 0; i < dir->n; i++)
		if (file_is_pending(d, &dir->files[i], known)) {
			char *more = xasprintf(
				"%s%s%s", pending ? pending : "", pending ? ", " : "", dir->files[i].name);

			free(pending);
			pending = more;
		}
	if (pending)
		doctor_report(d, PGMQD_CHECK_FAIL, "", NULL, xstrdup("pgmqd migrate"),
			known ? "it is older than this pgmqd: %s not applied"
			      : "schema pgmqd is missing: %s not applied",
			pending);
	else if (d->have & DOCTOR_SCHEMA)
		d->have |= DOCTOR_CURRENT;
	if (!pending && d->nfindings == before)
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "all %zu files are applied", dir->n);
	free(pending);
}

void doctor_schema(struct doctor *d)
{
	PGresult *res = doctor_query(d,
		"SELECT coalesce(bool_or(n.nspname = 'pgmqd' AND c.relname = 'schema_version'), false),"
		" coalesce(bool_or(n.nspname = 'pgmq' AND c.relname = 'meta'), false),"
		" coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE')), true)"
		" FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname IN"
		" ('schema_version', 'meta')"
		" WHERE n.nspname IN ('pgmqd', 'pgmq')");
	struct sql_dir dir = { 0 };
	char *error;
	bool known, may;

	if (!res)
		return;
	known = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	may = strcmp(PQgetvalue(res, 0, 2), "t") == 0;
	if (known && may && strcmp(PQgetvalue(res, 0, 1), "t") == 0)
		d->have |= DOCTOR_SCHEMA;
	PQclear(res);
	if (known && may) { /* may we read it? */
		res = doctor_query(d, "SELECT count(*) FROM pgmqd.schema_version");
		if (!res) {
			d->have |= d->have & DOCTOR_SCHEMA ? DOCTOR_CURRENT : 0;
			return;
		}
		PQclear(res);
	}
	if (!may) {
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xasprintf("GRANT USAGE ON SCHEMA pgmqd, pgmq TO %s", PQuser(d->db.conn)), NULL,
			"role %s may not use the schemas pgmqd and pgmq", PQuser(d->db.conn));
		return;
	}
	if ((error = sql_dir_read(&dir, doctor_sql_dir(d))) != NULL) {
		doctor_report(d, PGMQD_CHECK_WARN, "",
			xstrdup("install pgmqd completely, or name the directory by sql_dir or --sql-dir"), NULL,
			"cannot tell whether the schema is of this version: %s", error);
		free(error);
		d->have |= d->have & DOCTOR_SCHEMA ? DOCTOR_CURRENT : 0;
	} else {
		tell_pending(d, &dir, known);
	}
	if (known && may && !(d->have & DOCTOR_SCHEMA))
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xstrdup("restore schema pgmq from a backup, or DELETE FROM pgmqd.schema_version and run pgmqd "
				"migrate"),
			NULL, "schema pgmq, with the queues, is gone");
	sql_dir_free(&dir);
}

/* ---- notifications ---- */

/* Waits for a notification with this payload. Its time in milliseconds from `began`, or -1. */
static double wait_notify(struct doctor *d, const char *payload, int64_t began)
{
	for (;;) {
		struct pollfd p = { .fd = PQsocket(d->ear), .events = POLLIN };
		int64_t left = NOTIFY_MS - (clock_monotonic_us() - began) / 1000;
		PGnotify *n;
		bool mine = false;

		while ((n = PQnotifies(d->ear)) != NULL) {
			mine = mine || strcmp(n->extra, payload) == 0;
			PQfreemem(n);
		}
		if (mine)
			return (double)(clock_monotonic_us() - began) / 1000;
		if (left <= 0 || poll(&p, 1, (int)left) <= 0 || !PQconsumeInput(d->ear))
			return -1;
	}
}

/* Whether the server process that answers is the one that greeted us. */
static bool is_pooled(struct doctor *d)
{
	PGresult *res = doctor_query(d, "SELECT pg_backend_pid()");
	bool pooled = res && atoi(PQgetvalue(res, 0, 0)) != PQbackendPID(d->db.conn);

	PQclear(res);
	return pooled;
}

/* A second connection that listens, and a notification from the first one, which proves that they come through. */
static bool listen_here(struct doctor *d, bool pooled, char **error)
{
	struct cmd_db second = d->db;
	char payload[32], *name, *sql;
	PGresult *res;
	bool heard;

	*error = cmd_db_open(&second);
	d->ear = second.conn;
	if (*error)
		return false;
	name = PQescapeIdentifier(d->ear, doctor_channel(d), strlen(doctor_channel(d)));
	sql = xasprintf("LISTEN %s", name ? name : "pgmqd");
	res = PQexec(d->ear, sql);
	*error = PQresultStatus(res) == PGRES_COMMAND_OK ? NULL : cmd_db_error(d->ear, res);
	PQclear(res);
	PQfreemem(name);
	free(sql);
	if (*error)
		return false;
	snprintf(payload, sizeof(payload), "!doctor %d", (int)getpid());
	sql = xasprintf("SELECT pg_notify('%s', '%s')", doctor_channel(d), payload);
	res = PQexec(d->db.conn, sql);
	*error = PQresultStatus(res) == PGRES_TUPLES_OK ? NULL : cmd_db_error(d->db.conn, res);
	PQclear(res);
	free(sql);
	heard = !*error && wait_notify(d, payload, clock_monotonic_us()) >= 0;
	if (!heard && pooled) /* other clients of the pool would get what we listen for */
		PQclear(PQexec(d->ear, "UNLISTEN *"));
	return heard;
}

void doctor_pooler(struct doctor *d)
{
	char *setting = database_setting(d), *error = NULL;
	bool needed = d->db.settings && d->db.settings->require_notify, pooled = is_pooled(d);

	if (listen_here(d, pooled, &error)) {
		d->have |= DOCTOR_HEARING;
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "%s, and notifications come back",
			pooled ? "there is one, in session mode" : "there is none");
	} else if (pooled && !error) {
		doctor_report(d, needed ? PGMQD_CHECK_FAIL : PGMQD_CHECK_WARN, "",
			xasprintf("set %s to the server itself (its own port, 5432 as a rule), or to a pool in session"
				  " mode",
				setting),
			NULL,
			"a transaction pooler is in between: notifications do not come through, so queues are polled"
			" every %" PRId64 " ms",
			d->db.settings ? d->db.settings->poll_when_deaf : 1000);
	} else {
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xasprintf("set %s to the server itself; see the check \"notify queue\" as well, and the"
				  " server's log",
				setting),
			NULL, "a notification to ourselves %s%s",
			error ? "cannot be sent: " : "did not come back within 2 s", error ? error : "");
	}
	free(error);
	free(setting);
}

void doctor_notify(struct doctor *d)
{
	PGresult *queues = doctor_query(d,
		"SELECT q, 'SELECT pg_notify(' || quote_literal($2) || ', ' || quote_literal(q) || ')' FROM"
		" unnest($1::text[]) q"
		" UNION ALL SELECT queue_name, 'SELECT pg_notify(' || quote_literal($2) || ', ' ||"
		" quote_literal(queue_name) || ')'"
		" FROM pgmq.meta m WHERE $1 = '{}' AND NOT EXISTS (SELECT FROM pgmq.meta o WHERE lower(m.queue_name)"
		" = lower(pgmqd.dlq_name(o.queue_name)))"
		" ORDER BY 1");

	for (int i = 0; queues && i < PQntuples(queues); i++) {
		const char *queue = PQgetvalue(queues, i, 0);
		int64_t began = clock_monotonic_us();
		PGresult *res = PQexec(d->db.conn, PQgetvalue(queues, i, 1));
		double ms = PQresultStatus(res) == PGRES_TUPLES_OK ? wait_notify(d, queue, began) : -1;

		PQclear(res);
		if (ms >= 0)
			doctor_report(
				d, PGMQD_CHECK_OK, queue, NULL, NULL, "a notification took %.2f ms there and back", ms);
		else
			doctor_report(d, PGMQD_CHECK_FAIL, queue,
				xstrdup("see the check \"notify queue\" and the server's log"), NULL,
				"a notification did not come within 2 s");
	}
	PQclear(queues);
}

/* ---- a message ---- */

/* One step of the message's way; false after a finding. The answer's first value, malloc'd, goes to *value. */
static bool step(struct doctor *d, const char *what, const char *remedy, const char *sql, char **value)
{
	PGresult *res = PQexec(d->db.conn, sql);
	bool good = PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0 && !PQgetisnull(res, 0, 0);

	if (good && value)
		*value = xstrdup(PQgetvalue(res, 0, 0));
	if (!good) {
		char *error = PQresultStatus(res) == PGRES_TUPLES_OK ? xstrdup("there was no answer")
		                                                     : cmd_db_error(d->db.conn, res);

		doctor_report(d, PGMQD_CHECK_FAIL, "", xstrdup(remedy), NULL, "a message of ours could not be %s: %s",
			what, error);
		free(error);
	}
	PQclear(res);
	return good;
}

/* The way of one message: in, heard of, claimed, archived. */
static void probe_message(struct doctor *d)
{
	static const char again[] = "see the checks \"pgmq\" and \"grants\"; pgmqd migrate makes what is missing";
	int64_t began = clock_monotonic_us();
	char *id = NULL, *sql;
	double ms;

	if (!step(d, "put into a queue", again,
		    "SELECT s FROM pgmq.send('" PROBE "', '{\"pgmqd\":"
		    " \"doctor\"}'::jsonb) s",
		    &id))
		return;
	ms = wait_notify(d, PROBE, began);
	if (ms < 0)
		doctor_report(d, PGMQD_CHECK_FAIL, "",
			xasprintf("psql -f %s/020_pgmqd.sql makes pgmqd.wakeup() anew; SELECT pgmqd.setting('channel')"
				  " must be \"%s\", the channel of pgmqd.conf",
				doctor_sql_dir(d), doctor_channel(d)),
			NULL,
			"nothing was heard of a message that was put into a queue: the trigger's function does not"
			" notify");
	sql = xasprintf("SELECT r.msg_id FROM pgmq.read('" PROBE "', 30, 1) r WHERE r.msg_id = %s", id);
	if (step(d, "claimed", again, sql, NULL)) {
		free(sql);
		sql = xasprintf("SELECT CASE WHEN pgmq.archive('" PROBE "', %s::bigint) THEN 1 END", id);
		if (step(d, "archived", again, sql, NULL) && ms >= 0)
			doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL,
				"one of ours was sent, heard of, claimed and archived in %.1f ms",
				(double)(clock_monotonic_us() - began) / 1000);
	}
	free(sql);
	free(id);
}

void doctor_probe(struct doctor *d)
{
	PGresult *res = doctor_query(
		d, "SELECT has_schema_privilege('pgmq', 'CREATE'), pg_try_advisory_lock(1885826417, 2)");
	bool may = res && strcmp(PQgetvalue(res, 0, 0), "t") == 0,
	     alone = res && strcmp(PQgetvalue(res, 0, 1), "t") == 0;

	PQclear(res);
	if (d->read_only || !may || !alone) {
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "none of ours was sent: %s",
			d->read_only ? "--read-only"
			: !may       ? "this role may not make a queue; the owner of schema pgmq may"
				     : "another pgmqd doctor is at it");
		return;
	}
	if (step(d, "sent, since no queue can be made", "see the checks \"pgmq\", \"function\" and \"grants\"",
		    "SELECT pgmqd.create_queue('" PROBE "') IS NOT NULL", NULL))
		probe_message(d);
	PQclear(PQexec(d->db.conn, "SELECT pgmq.drop_queue(queue_name) FROM pgmq.meta WHERE queue_name IN ('" PROBE
				   "', '" PROBE "_dlq')"));
	PQclear(PQexec(d->db.conn, "SELECT pg_advisory_unlock(1885826417, 2)"));
}

void doctor_triggers(struct doctor *d)
{
	PGresult *res = doctor_query(d, "SELECT to_regprocedure('pgmqd.trigger_status()') IS NOT NULL");

	if (res && strcmp(PQgetvalue(res, 0, 0), "t") == 0)
		doctor_rows(d, doctor_sql_triggers);
	else if (res)
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL, "this database has no application's part");
	PQclear(res);
}

/* ---- pg_cron ---- */

/* Its own tables are there only where it is. */
void doctor_cron(struct doctor *d)
{
	PGresult *res = doctor_query(d,
		"SELECT coalesce(bool_and(has_schema_privilege(n.oid, 'USAGE')), false), EXISTS (SELECT FROM"
		" pgmqd.schedule WHERE runner = 'pg_cron'),"
		" count(*) = 0 FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'job'"
		" WHERE n.nspname = 'cron'");

	if (!res)
		return;
	if (strcmp(PQgetvalue(res, 0, 0), "t") == 0)
		doctor_rows(d, doctor_sql_cron);
	else if (strcmp(PQgetvalue(res, 0, 1), "t") != 0)
		doctor_report(
			d, PGMQD_CHECK_OK, "", NULL, NULL, "it is not in this database; pgmqd runs the schedules");
	else if (strcmp(PQgetvalue(res, 0, 2), "t") == 0)
		doctor_report(d, PGMQD_CHECK_FAIL, "", NULL, xstrdup("SELECT * FROM pgmqd.connect_schedules()"),
			"schedules are left to it, but it is not in this database any more: no program runs them");
	else
		doctor_deny(d);
	PQclear(res);
}

/* ---- the clock ---- */

/* A schedule whose expression has no time, or none that ever comes. */
static void check_expression(struct doctor *d, const char *name, const char *text, const char *zone)
{
	struct cron c;
	char *wrong = cron_parse(&c, text);

	if (!wrong && cron_zone_exists(zone) && cron_next(&c, zone, (int64_t)time(NULL)) == -1)
		wrong = xasprintf("\"%s\" is never due", text);
	if (wrong)
		doctor_report(d, PGMQD_CHECK_FAIL, name,
			xasprintf("UPDATE pgmqd.schedule SET cron = '...' WHERE name = '%s'; pgmqd schedule next '...'"
				  " tries an "
				  "expression",
				name),
			NULL, "it cannot run: %s", wrong);
	free(wrong);
}

void doctor_schedules(struct doctor *d)
{
	PGresult *res;

	doctor_rows(d, doctor_sql_schedules);
	res = doctor_query(d, "SELECT name, cron, tz FROM pgmqd.schedule WHERE enabled");
	for (int i = 0; res && i < PQntuples(res); i++)
		check_expression(d, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1), PQgetvalue(res, i, 2));
	PQclear(res);
}

/* ---- failover ---- */

void doctor_failover(struct doctor *d)
{
	PQconninfoOption *options = PQconninfo(d->db.conn);
	const char *hosts = "", *attrs = "any", *timeout = NULL;
	int n = 1, each, worst;

	for (PQconninfoOption *o = options; o && o->keyword; o++) {
		if (o->val && (strcmp(o->keyword, "host") == 0 || (strcmp(o->keyword, "hostaddr") == 0 && !*hosts)))
			hosts = o->val;
		else if (o->val && strcmp(o->keyword, "target_session_attrs") == 0)
			attrs = o->val;
		else if (o->val && *o->val && strcmp(o->keyword, "connect_timeout") == 0)
			timeout = o->val;
	}
	for (const char *p = hosts; (p = strchr(p, ',')) != NULL; p++)
		n++;
	each = timeout && atoi(timeout) > 0 && atoi(timeout) < SILENT_S ? atoi(timeout) : SILENT_S;
	worst = n == 1 ? each : 2 * each;
	if (n > 1 && strcmp(attrs, "read-write") != 0 && strcmp(attrs, "primary") != 0)
		doctor_report(d, PGMQD_CHECK_WARN, "",
			xstrdup("add target_session_attrs=read-write to the connection string"), NULL,
			"it names %d servers, and without target_session_attrs a standby may be taken for the primary",
			n);
	else
		doctor_report(d, PGMQD_CHECK_OK, "", NULL, NULL,
			"%d server%s; a new session takes %d s in the worst case%s", n, n == 1 ? "" : "s", worst,
			n == 1 ? "" : ", when all but one are silent");
	PQconninfoFree(options);
}
