/* queues.h: the queues over HTTP: how each one stands; pause and resume. */
#ifndef QUEUES_H
#define QUEUES_H

#include "http/request.h"

void queues_get(struct http_request *req);    /* GET /api/queues */
void queues_pause(struct http_request *req);  /* POST /api/queues/QUEUE/pause */
void queues_resume(struct http_request *req); /* POST /api/queues/QUEUE/resume */

#endif
