/* plugin_db.c: the connection for statements of plugins: made when the first one needs it. */
#include "config.h"

#include "worker/plugin_db.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "pg/pgconn.h"

#include <stdlib.h>
#include <sys/queue.h>

/* A user that waits for the connection. */
struct waiter {
	TAILQ_ENTRY(waiter) link;
	plugin_db_cb cb;
	void *arg;
};

struct plugin_db {
	struct pgconn *pg, *fallback;
	bool started, failing;
	TAILQ_HEAD(, waiter) waiters;
};

/* Lets those who wait go on with this connection. */
static void plugin_db_go(struct plugin_db *db, struct pgconn *c)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&db->waiters)) != NULL) {
		TAILQ_REMOVE(&db->waiters, w, link);
		w->cb(w->arg, c);
		free(w);
	}
}

/* Connected. */
static void plugin_db_up(void *arg)
{
	struct plugin_db *db = arg;

	if (db->failing)
		log_info("statements of plugins have their own connection again");
	db->failing = false;
	plugin_db_go(db, db->pg);
}

/* The connection cannot be made now. It is tried again; until then the daemon's own one is used. */
static void plugin_db_failed(void *arg, const char *reason)
{
	struct plugin_db *db = arg;

	if (!db->failing)
		log_warn("no connection for statements of plugins: %s; they share the worker's own", reason);
	db->failing = true;
	plugin_db_go(db, db->fallback);
}

/* The connection is lost; what was under way was answered. */
static void plugin_db_down(void *arg, const char *reason)
{
	(void)arg;
	log_warn("connection for statements of plugins lost: %s", reason);
}

static const struct pgconn_events events = { .up = plugin_db_up, .down = plugin_db_down, .failed = plugin_db_failed };

struct plugin_db *plugin_db_new(
	struct event_base *base, const char *conninfo, const char *application_name, struct pgconn *fallback)
{
	struct plugin_db *db = xcalloc(1, sizeof(*db));

	TAILQ_INIT(&db->waiters);
	db->fallback = fallback;
	db->pg = pgconn_new(base, conninfo, application_name, true, &events, db);
	return db;
}

void plugin_db_use(struct plugin_db *db, plugin_db_cb cb, void *arg)
{
	struct waiter *w;

	if (pgconn_is_up(db->pg) || db->failing) {
		cb(arg, pgconn_is_up(db->pg) ? db->pg : db->fallback);
		return;
	}
	w = xcalloc(1, sizeof(*w));
	w->cb = cb;
	w->arg = arg;
	TAILQ_INSERT_TAIL(&db->waiters, w, link);
	if (!db->started)
		pgconn_start(db->pg);
	db->started = true;
}

struct pgconn *plugin_db_conn(const struct plugin_db *db)
{
	return pgconn_is_up(db->pg) ? db->pg : NULL;
}

void plugin_db_hang_up(struct plugin_db *db)
{
	db->failing = true;
	plugin_db_go(db, db->fallback);
	pgconn_hang_up(db->pg);
}

void plugin_db_free(struct plugin_db *db)
{
	pgconn_free(db->pg);
	free(db);
}
