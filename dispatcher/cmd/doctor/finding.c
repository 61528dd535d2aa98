/* finding.c: the findings of `pgmqd doctor`, and the statements that its checks run. */
#include "config.h"

#include "cmd/doctor/finding.h"

#include "base/xalloc.h"
#include "settings/settings.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void doctor_report(struct doctor *d, int status, const char *subject, char *remedy, char *fix, const char *fmt, ...)
{
	struct doctor_finding *f;
	char *seen;
	va_list ap;

	va_start(ap, fmt);
	seen = xvasprintf(fmt, ap);
	va_end(ap);
	d->findings = xrealloc(d->findings, d->nfindings + 1, sizeof(*d->findings));
	f = &d->findings[d->nfindings++];
	*f = (struct doctor_finding){
		.check = d->now, .status = status, .remedy = remedy ? remedy : xstrdup(fix), .fix = fix
	};
	f->subject = xstrdup(subject ? subject : "");
	f->seen = xoneline(seen);
	free(seen);
}

void doctor_forget(struct doctor *d)
{
	for (size_t i = 0; i < d->nfindings; i++) {
		free(d->findings[i].subject);
		free(d->findings[i].seen);
		free(d->findings[i].remedy);
		free(d->findings[i].fix);
	}
	free(d->findings);
	free(d->skipped);
	free(d->denied);
	d->findings = NULL;
	d->skipped = d->denied = NULL;
	d->nfindings = d->nskipped = d->ndenied = 0;
}

const char *doctor_channel(const struct doctor *d)
{
	return d->db.settings ? d->db.settings->channel : "pgmqd";
}

const char *doctor_sql_dir(const struct doctor *d)
{
	const char *env = getenv("PGMQD_SQL_DIR");

	if (d->sql_dir)
		return d->sql_dir;
	if (env && *env)
		return env;
	return d->db.settings && *d->db.settings->sql_dir ? d->db.settings->sql_dir : PGMQD_DATADIR "/sql";
}

/* ---- statements ---- */

void doctor_deny(struct doctor *d)
{
	if (d->ndenied && d->denied[d->ndenied - 1] == d->now)
		return;
	d->denied = xrealloc(d->denied, d->ndenied + 1, sizeof(*d->denied));
	d->denied[d->ndenied++] = d->now;
}

PGresult *doctor_query(struct doctor *d, const char *sql)
{
	const Oid types[] = { 25, 25, 25, 25 }; /* text: a statement need not use all of them */
	const char *params[] = { d->queues ? d->queues : "{}", doctor_channel(d), d->old, d->role };
	PGresult *res = PQexecParams(d->db.conn, sql, 4, types, params, NULL, NULL, 0);
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	bool denied = state && strcmp(state, "42501") == 0;
	char *error;

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	if (denied) {
		doctor_deny(d);
		PQclear(res);
		return NULL;
	}
	error = cmd_db_error(d->db.conn, res);
	doctor_report(d, PGMQD_CHECK_FAIL, "",
		xstrdup("see the check \"schema\"; if that is ok, report it to the authors of pgmqd"), NULL,
		"cannot check: %s", error);
	free(error);
	PQclear(res);
	if (PQstatus(d->db.conn) != CONNECTION_OK)
		d->have &= ~(unsigned)(DOCTOR_DB | DOCTOR_PRIMARY | DOCTOR_SCHEMA | DOCTOR_CURRENT | DOCTOR_HEARING);
	return NULL;
}

/* A value, copied; NULL for null. */
static char *copied(const PGresult *res, int row, int col)
{
	return PQgetisnull(res, row, col) ? NULL : xstrdup(PQgetvalue(res, row, col));
}

void doctor_rows(struct doctor *d, const char *sql)
{
	PGresult *res = doctor_query(d, sql);

	for (int i = 0; res && i < PQntuples(res); i++)
		doctor_report(d, atoi(PQgetvalue(res, i, 0)), PQgetvalue(res, i, 1), copied(res, i, 3),
			copied(res, i, 4), "%s", PQgetvalue(res, i, 2));
	PQclear(res);
}
