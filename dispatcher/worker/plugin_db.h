/* plugin_db.h: the connection for statements of plugins. A slow one does not hold up the leases and outcomes of the
 * queues of this process. */
#ifndef PLUGIN_DB_H
#define PLUGIN_DB_H

#include <event2/event.h>

struct pgconn;
struct plugin_db;

/* Nothing is connected before the first use. Where a connection cannot be had (the server has no more), statements go
 * by `fallback`, the daemon's own. */
struct plugin_db *plugin_db_new(
	struct event_base *base, const char *conninfo, const char *application_name, struct pgconn *fallback);
void plugin_db_hang_up(struct plugin_db *db); /* answers what is under way as lost; only plugin_db_free() may follow */
void plugin_db_free(struct plugin_db *db);

/* Calls back with the connection to use: now, or when it is made. In the order of the calls. */
typedef void (*plugin_db_cb)(void *arg, struct pgconn *c);
void plugin_db_use(struct plugin_db *db, plugin_db_cb cb, void *arg);

/* The connection if it is up, else NULL. */
struct pgconn *plugin_db_conn(const struct plugin_db *db);

#endif
