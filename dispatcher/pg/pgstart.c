/* pgstart.c: how a connection to PostgreSQL is begun: the parameters that guard it on both ends; and its errors in one
 * line. */
#include "config.h"

#include "pg/pgstart.h"

#include "base/xalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_CONNECT_TIMEOUT "10"         /* seconds for each place */
#define NOT_AN_SSLMODE "pgmqd-looks-only" /* see pgtarget_read() */
#define PARAMS_MAX 20

/* Without descriptors libpq 17 and 18 fail with an empty message: then errno is the reason. */
char *pgstart_error(const PGconn *pg)
{
	int error = errno;
	const char *text = pg ? PQerrorMessage(pg) : "out of memory";

	return xoneline(*text ? text : error ? strerror(error) : "the connection failed, and libpq does not say why");
}

bool pgstart_options_refused(const char *error)
{
	return strstr(error, "startup parameter") != NULL;
}

/* Copies an option's value. */
static char *target_value(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *o = options; o && o->keyword; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o->val && *o->val ? xstrdup(o->val) : NULL;
	return NULL;
}

/* Only a connection object knows what the service file says. So one is begun that cannot get as far as the network: its
 * sslmode is no sslmode, and the password keeps it from reading .pgpass. */
void pgtarget_read(struct pgtarget *t, const char *conninfo)
{
	const char *const keys[] = { "dbname", "sslmode", "password", NULL };
	const char *const values[] = { conninfo, NOT_AN_SSLMODE, "-", NULL };
	PGconn *pg = PQconnectStartParams(keys, values, 1);
	PQconninfoOption *options = pg && strstr(PQerrorMessage(pg), NOT_AN_SSLMODE) ? PQconninfo(pg) : NULL;
	char *timeout = target_value(options, "connect_timeout");

	t->host = target_value(options, "host");
	t->hostaddr = target_value(options, "hostaddr");
	t->port = target_value(options, "port");
	t->options = target_value(options, "options");
	t->load_balance = target_value(options, "load_balance_hosts");
	t->connect_timeout_s = timeout && atoi(timeout) > 0 ? (unsigned)atoi(timeout) : 0;
	free(timeout);
	PQconninfoFree(options);
	PQfinish(pg);
}

void pgtarget_free(struct pgtarget *t)
{
	free(t->host);
	free(t->hostaddr);
	free(t->port);
	free(t->options);
	free(t->load_balance);
	memset(t, 0, sizeof(*t));
}

/* Parameters for libpq: of two with one name the later counts. */
struct params {
	const char *keys[PARAMS_MAX], *values[PARAMS_MAX];
	int n;
};

static void params_add(struct params *p, const char *key, const char *value)
{
	p->keys[p->n] = key;
	p->values[p->n++] = value;
}

/* The connection string may change what stands in front of it, and nothing of what stands behind. */
static void params_fill(struct params *p, const char *conninfo, const char *application_name, const char *options)
{
	params_add(p, "fallback_application_name", application_name);
	params_add(p, "keepalives", "1");
	params_add(p, "keepalives_idle", "5");
	params_add(p, "keepalives_interval", "2");
	params_add(p, "keepalives_count", "3");
	params_add(p, "tcp_user_timeout", "9000");
	if (*conninfo)
		params_add(p, "dbname", conninfo);
	params_add(p, "client_encoding", "UTF8");
	if (options)
		params_add(p, "options", options);
}

PGconn *pgstart(const char *conninfo, const char *application_name, const struct pgtarget *target,
	const struct pgplace *place, const struct session *session)
{
	char *options = session ? session_options(session, target->options) : NULL;
	struct params p = { .n = 0 };
	PGconn *pg;

	params_fill(&p, conninfo, application_name, options);
	if (place->host)
		params_add(&p, "host", place->host);
	if (place->hostaddr)
		params_add(&p, "hostaddr", place->hostaddr);
	if (place->port)
		params_add(&p, "port", place->port);
	params_add(&p, NULL, NULL);
	pg = PQconnectStartParams(p.keys, p.values, 1);
	free(options);
	return pg;
}

/* Connects to whichever place answers. */
static PGconn *wait_connect(const char *conninfo, const char *application_name, const struct pgtarget *target,
	const struct session *session)
{
	char *options = session ? session_options(session, target->options) : NULL;
	struct params p = { .n = 0 };
	PGconn *pg;

	params_add(&p, "connect_timeout", WAIT_CONNECT_TIMEOUT);
	params_fill(&p, conninfo, application_name, options);
	params_add(&p, NULL, NULL);
	pg = PQconnectdbParams(p.keys, p.values, 1);
	free(options);
	return pg;
}

/* Makes the session ours. */
static char *wait_session(PGconn *pg, const struct session *session)
{
	struct session_found found;
	char *sql = session_first_sql(session, pg), *error;
	PGresult *res = PQexec(pg, sql);

	error = PQresultStatus(res) == PGRES_TUPLES_OK ? session_first_answer(res, pg, &found) : pgstart_error(pg);
	PQclear(res);
	free(sql);
	return error;
}

PGconn *pgstart_wait(const char *conninfo, const char *application_name, char **error)
{
	const struct session session = { .statement_s = 0 };
	struct pgtarget target;
	PGconn *pg;

	pgtarget_read(&target, conninfo);
	pg = wait_connect(conninfo, application_name, &target, &session);
	if (pg && PQstatus(pg) != CONNECTION_OK && pgstart_options_refused(PQerrorMessage(pg))) {
		PQfinish(pg);
		pg = wait_connect(conninfo, application_name, &target, NULL);
	}
	pgtarget_free(&target);
	*error = pg && PQstatus(pg) == CONNECTION_OK ? wait_session(pg, &session) : pgstart_error(pg);
	return pg;
}
