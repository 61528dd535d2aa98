/* pgstart.c: how a connection to PostgreSQL is begun: the parameters that guard it on both ends; and its errors in one
 * line. */
#include "config.h"

#include "pg/pgstart.h"

#include "base/xalloc.h"

#include <stdlib.h>

/* Server-side guards of every session; a pooler may refuse them, then pgconn.c sends them by SET. The keepalives free
 * the locks of a host that vanished within ten seconds or so. */
#define SESSION_OPTIONS                                                                                                \
	"-c statement_timeout=60s -c lock_timeout=10s -c idle_in_transaction_session_timeout=10s -c "                  \
	"idle_session_timeout=0 -c jit=off "                                                                           \
	"-c default_transaction_isolation=read\\ committed -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c "  \
	"tcp_keepalives_count=3"

char *pgstart_error(const PGconn *pg)
{
	return xoneline(pg ? PQerrorMessage(pg) : "out of memory");
}

/* What the user's connection string says wins over the guards here. */
PGconn *pgstart(const char *conninfo, const char *application_name, bool with_options)
{
	const char *keys[16], *values[16];
	int n = 0;

#define PARAM(k, v) (keys[n] = (k), values[n++] = (v))
	PARAM("fallback_application_name", application_name);
	PARAM("keepalives", "1");
	PARAM("keepalives_idle", "5");
	PARAM("keepalives_interval", "2");
	PARAM("keepalives_count", "3");
	PARAM("tcp_user_timeout", "9000");
	if (with_options && !getenv("PGOPTIONS"))
		PARAM("options", SESSION_OPTIONS);
	PARAM("client_encoding", "UTF8");
	if (*conninfo)
		PARAM("dbname", conninfo);
	PARAM(NULL, NULL);
#undef PARAM
	return PQconnectStartParams(keys, values, 1);
}
