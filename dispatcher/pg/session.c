/* session.c: the settings of every session of ours, also where the connection string, role or database has others.
 *
 * Our statements mean what they say only under these: an operator is found in pg_catalog and not in a schema of a
 * stranger, a time is read as it was written, a role's time limit of one millisecond does not end each claim. They go
 * into the startup packet, where they outrank what ALTER ROLE and ALTER DATABASE set; a pooler may refuse or drop them
 * there, so the first statement sets and compares them again. It is itself safe under any settings: it calls functions
 * of pg_catalog by their full names, with plain literals, and uses no operator.
 */
#include "config.h"

#include "pg/session.h"

#include "base/xalloc.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `value` as the server shows it, so that it can be compared. */
struct pin {
	const char *name, *value;
	enum { PIN_EVERYWHERE, PIN_SQL, PIN_SUPERUSER } where;
};

/* PIN_SQL: not every server has it, so it is not in the startup packet, where an unknown name is fatal. PIN_SUPERUSER:
 * only a superuser may set it, and only he can have it set for a role. */
static const struct pin session_pins[] = {
	{ "search_path", "pg_catalog, pg_temp", PIN_EVERYWHERE }, /* pg_temp last: else it comes first */
	{ "client_encoding", "UTF8", PIN_EVERYWHERE }, { "standard_conforming_strings", "on", PIN_EVERYWHERE },
	{ "DateStyle", "ISO, MDY", PIN_EVERYWHERE }, { "TimeZone", "UTC", PIN_EVERYWHERE },
	{ "IntervalStyle", "postgres", PIN_EVERYWHERE }, { "extra_float_digits", "1", PIN_EVERYWHERE },
	{ "bytea_output", "hex", PIN_EVERYWHERE }, { "array_nulls", "on", PIN_EVERYWHERE },
	{ "quote_all_identifiers", "off", PIN_EVERYWHERE }, { "transform_null_equals", "off", PIN_EVERYWHERE },
	{ "default_transaction_isolation", "read committed", PIN_EVERYWHERE },
	{ "default_transaction_read_only", "off", PIN_EVERYWHERE },
	{ "default_transaction_deferrable", "off", PIN_EVERYWHERE },
	{ "row_security", "on", PIN_EVERYWHERE }, /* policies may let the role in; off would refuse even then */
	{ "exit_on_error", "off", PIN_EVERYWHERE }, { "jit", "off", PIN_EVERYWHERE },
	{ "plan_cache_mode", "auto", PIN_EVERYWHERE }, { "client_min_messages", "notice", PIN_EVERYWHERE },
	{ "idle_in_transaction_session_timeout", "10s", PIN_EVERYWHERE },
	{ "idle_session_timeout", "0", PIN_EVERYWHERE }, { "transaction_timeout", "0", PIN_SQL }, /* PostgreSQL 17 */
	{ "restrict_nonsystem_relation_kind", "", PIN_SQL },    /* minor releases of 2024 */
	{ "session_replication_role", "origin", PIN_SUPERUSER } /* else our triggers do not fire */
};
#define SESSION_NPINS (sizeof(session_pins) / sizeof(*session_pins))

/* The server's keepalives free the locks of a host that vanished within ten seconds or so. */
#define SESSION_KEEPALIVES "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"

/* Appends to a text that is malloc'd. */
static void append(char **text, char *more)
{
	char *all = xasprintf("%s%s", *text, more);

	free(*text);
	free(more);
	*text = all;
}

/* One option; the server splits at blanks that no backslash precedes. */
static char *session_option(const struct pin *p)
{
	char *value = xmalloc(2 * strlen(p->value) + 1), *out = value, *option;

	for (const char *s = p->value; *s; s++) {
		if (isspace((unsigned char)*s))
			*out++ = '\\';
		*out++ = *s;
	}
	*out = '\0';
	option = xasprintf("-c %s=%s ", p->name, value);
	free(value);
	return option;
}

char *session_options(const struct session *s, const char *users)
{
	char *text = xasprintf("%s%s", users ? users : "", users && *users ? " " : "");

	for (size_t i = 0; i < SESSION_NPINS; i++)
		if (session_pins[i].where == PIN_EVERYWHERE && strcmp(session_pins[i].name, "client_encoding") != 0)
			append(&text, session_option(&session_pins[i]));
	append(&text, xasprintf("-c statement_timeout=%us -c lock_timeout=%us " SESSION_KEEPALIVES, s->statement_s,
			      s->lock_s));
	return text;
}

/* Columns that set each value and show what it is then. `local`: an SQL expression, whether for this transaction alone.
 */
static char *session_columns(const struct session *s, const char *local)
{
	char *text = xasprintf("pg_catalog.set_config('statement_timeout','%us',%s),"
			       "pg_catalog.set_config('lock_timeout','%us',%s)",
		s->statement_s, local, s->lock_s, local);

	for (size_t i = 0; i < SESSION_NPINS; i++) {
		const struct pin *p = &session_pins[i];
		char *set = xasprintf("pg_catalog.set_config('%s','%s',%s)", p->name, p->value, local);

		if (p->where == PIN_EVERYWHERE)
			append(&text, xasprintf(",%s", set));
		else if (p->where == PIN_SQL)
			append(&text, xasprintf(",CASE WHEN pg_catalog.current_setting('%s',true) IS NULL THEN '%s' "
						"ELSE %s END",
					      p->name, p->value, set));
		else
			append(&text,
				xasprintf(
					",CASE WHEN pg_catalog.texteq(pg_catalog.current_setting('is_superuser'),'on') "
					"THEN %s ELSE pg_catalog.current_setting('%s') END",
					set, p->name));
		free(set);
	}
	return text;
}

char *session_first_sql(const struct session *s, const PGconn *pg)
{
	char *local = xasprintf("NOT pg_catalog.int4eq(pg_catalog.pg_backend_pid(),%d)", PQbackendPID(pg));
	char *columns = session_columns(s, local);
	char *sql = xasprintf("SELECT pg_catalog.pg_is_in_recovery(),pg_catalog.pg_backend_pid(),%s", columns);

	free(columns);
	free(local);
	return sql;
}

char *session_first_answer(const PGresult *res, const PGconn *pg, struct session_found *found)
{
	if (PQntuples(res) != 1 || PQnfields(res) != 4 + (int)SESSION_NPINS)
		return xstrdup("the server's first answer is not one of PostgreSQL");
	found->standby = *PQgetvalue(res, 0, 0) == 't';
	found->backend_pid = atoi(PQgetvalue(res, 0, 1));
	found->pooled = found->backend_pid != PQbackendPID(pg);
	for (size_t i = 0; i < SESSION_NPINS; i++) {
		const char *is = PQgetvalue(res, 0, 4 + (int)i);

		if (strcmp(is, session_pins[i].value) != 0)
			return xasprintf(
				"the session has %s = \"%s\" and pgmqd needs \"%s\"; something between us and the "
				"server changes it, or only a superuser may set it",
				session_pins[i].name, is, session_pins[i].value);
	}
	return NULL;
}

char *session_pooled_sql(const struct session *s)
{
	char *columns = session_columns(s, "true"), *sql = xasprintf("SELECT %s", columns);

	free(columns);
	return sql;
}
