/* prepared.c: wake-ups for transactions that were prepared (PREPARE TRANSACTION) and are committed later. COMMIT
 * PREPARED runs no trigger and brings no notification, so where the server takes such transactions, the database is
 * asked every second for those that were committed; it notifies for them then.
 */
#include "config.h"

#include "listener/prepared.h"

#include "base/loop.h"
#include "base/xalloc.h"

#include <stdlib.h>

#define EVERY_MS 1000

struct prepared {
	struct pgconn *pg;
	bool (*busy)(void *arg);
	void *arg;
	struct event *due;
	bool under_way;
};

/* The server takes prepared transactions, and the database has the function that we may call. */
#define WANTED                                                                                                         \
	"SELECT pg_catalog.current_setting('max_prepared_transactions') <> '0' AND (SELECT "                           \
	"pg_catalog.has_function_privilege(f, 'EXECUTE') FROM "                                                        \
	"pg_catalog.to_regprocedure('pgmqd.notify_prepared(pg_catalog.float8)') f)"

/* Whether this server is to be asked. */
static void prepared_known(void *arg, const struct pgresult *r)
{
	struct prepared *p = arg;

	if (!r->error && PQntuples(r->res) == 1 && PQgetvalue(r->res, 0, 0)[0] == 't')
		loop_timer(p->due, EVERY_MS);
}

/* The database has notified. An error is no reason to stop: there are locks and changes of tables. */
static void prepared_notified(void *arg, const struct pgresult *r)
{
	struct prepared *p = arg;

	(void)r;
	p->under_way = false;
	if (pgconn_is_up(p->pg))
		loop_timer(p->due, EVERY_MS);
}

/* It is time to ask. */
static void prepared_due(evutil_socket_t fd, short what, void *arg)
{
	struct prepared *p = arg;

	(void)fd, (void)what;
	if (!pgconn_is_up(p->pg) || p->under_way)
		return;
	if (p->busy(p->arg)) {
		loop_timer(p->due, EVERY_MS);
		return;
	}
	p->under_way = true;
	pgconn_query(p->pg, NULL, "SELECT pgmqd.notify_prepared()", 0, NULL, prepared_notified, p);
}

void prepared_up(struct prepared *p)
{
	pgconn_query(p->pg, NULL, WANTED, 0, NULL, prepared_known, p);
}

void prepared_down(struct prepared *p)
{
	evtimer_del(p->due);
}

struct prepared *prepared_new(struct event_base *base, struct pgconn *pg, bool (*busy)(void *arg), void *arg)
{
	struct prepared *p = xcalloc(1, sizeof(*p));

	*p = (struct prepared){ .pg = pg, .busy = busy, .arg = arg };
	p->due = loop_timer_new(base, prepared_due, p);
	return p;
}

void prepared_free(struct prepared *p)
{
	event_free(p->due);
	free(p);
}
