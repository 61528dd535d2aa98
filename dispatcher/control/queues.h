/* queues.h: the queues over HTTP: how each one stands; pause and resume. */
#ifndef QUEUES_H
#define QUEUES_H

#include "http/request.h"

#include <cjson/cJSON.h>
#include <libpq-fe.h>

void queues_get(struct http_request *req);    /* GET /api/queues */
void queues_pause(struct http_request *req);  /* POST /api/queues/QUEUE/pause */
void queues_resume(struct http_request *req); /* POST /api/queues/QUEUE/resume */

/* Adds how many messages wait for each kind of limit, null without limits, and the keys that are paused, held or
 * weighed; from `col` on are the columns of pgmqd.kept_back(). */
void queues_add_kept_back(cJSON *json, const PGresult *res, int row, int col);

#endif
