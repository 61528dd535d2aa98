/* connections.c: a check of `pgmqd doctor`: whether the server has as many connections as the settings ask for.
 *
 * The listener, the control process and the scheduler have one each, and so has each worker process, which opens one
 * more for a backlog and one more for statements of its plugins. The first ones are needed; the others only help.
 */
#include "config.h"

#include "cmd/doctor/connections.h"

#include "base/xalloc.h"
#include "cmd/doctor/finding.h"
#include "settings/settings.h"
#include "supervisor/plan.h"

#include <stdlib.h>
#include <string.h>

#define OTHERS 3 /* listener, control and scheduler */

/* The connections that are free for the role or in use by pgmqd already, the limit that is met first, and the setting
 * that lifts it. Superusers have the reserved ones, too; pgmqd should not be one. */
static const char free_sql[] =
	"WITH used AS (SELECT count(*) FILTER (WHERE usename = $4) AS role, count(*) FILTER (WHERE datname ="
	" current_database()) AS db, count(*) FILTER (WHERE application_name ~ '^pgmqd (listener|canary|control|"
	"scheduler|worker|settle|plugin)') AS ours FROM pg_stat_activity WHERE datid IS NOT NULL AND pid"
	" <> pg_backend_pid())"
	" SELECT l.n, l.what, l.remedy FROM used u, LATERAL (VALUES"
	" (current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint -"
	" coalesce(current_setting('reserved_connections', true), '0')::bigint - (SELECT sum(numbackends) FROM"
	" pg_stat_database)::bigint + 1 + u.ours, 'max_connections', 'raise max_connections on the server'),"
	" ((SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = $4) - u.role + u.ours,"
	" 'the role''s limit', format('ALTER ROLE %I CONNECTION LIMIT -1', $4::text)),"
	" ((SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()) - u.db + u.ours,"
	" 'the database''s limit', format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database()))"
	") l(n, what, remedy) WHERE l.n IS NOT NULL ORDER BY l.n LIMIT 1";

void doctor_connections(struct doctor *d)
{
	PGresult *res = doctor_query(d, free_sql);
	unsigned needed = OTHERS, most;
	struct plan plan;
	long long free_ones;
	char *remedy;
	int status;

	if (!res)
		return;
	plan_make(&plan, d->db.settings);
	needed += (unsigned)plan.nunits;
	most = needed + 2 * (unsigned)plan.nunits;
	plan_free(&plan);
	free_ones = atoll(PQgetvalue(res, 0, 0));
	status = free_ones < needed ? PGMQD_CHECK_FAIL : free_ones < most ? PGMQD_CHECK_WARN : PGMQD_CHECK_OK;
	remedy = status == PGMQD_CHECK_OK ? NULL
	                                  : xasprintf("%s, or put queues into a group (group = NAME), which has one "
						      "process and its connections",
						    PQgetvalue(res, 0, 2));
	doctor_report(d, status, "", remedy, NULL,
		"the settings take %u connections, up to %u under a backlog and with statements of plugins, and %lld "
		"can be had (%s)",
		needed, most, free_ones, PQgetvalue(res, 0, 1));
	PQclear(res);
}
