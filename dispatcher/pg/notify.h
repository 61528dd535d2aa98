/* notify.h: LISTEN and NOTIFY on a connection. */
#ifndef NOTIFY_H
#define NOTIFY_H

#include "pg/pgconn.h"

void notify_listen(struct pgconn *c, const char *channel, pgconn_result_cb cb, void *arg);
void notify_send(struct pgconn *c, const char *channel, const char *payload, pgconn_result_cb cb, void *arg);

#endif
