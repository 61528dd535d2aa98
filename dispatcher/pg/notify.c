/* notify.c: LISTEN and NOTIFY on a connection. */
#include "config.h"

#include "pg/notify.h"

#include "base/sqltext.h"
#include "base/xalloc.h"

#include <libpq-fe.h>
#include <stdlib.h>

void notify_listen(struct pgconn *c, const char *channel, pgconn_result_cb cb, void *arg)
{
	char *quoted = sqltext_identifier(channel), *sql = xasprintf("LISTEN %s", quoted);

	pgconn_query(c, NULL, sql, 0, NULL, cb, arg);
	free(sql);
	free(quoted);
}

void notify_send(struct pgconn *c, const char *channel, const char *payload, pgconn_result_cb cb, void *arg)
{
	const char *params[2] = { channel, payload };

	pgconn_query(c, NULL, "SELECT pg_catalog.pg_notify($1, $2)", 2, params, cb, arg);
}
