/* health.h: probes: is it alive, is it well, is it ready. */
#ifndef HEALTH_H
#define HEALTH_H

#include "http/request.h"

void health_live(struct http_request *req);  /* GET /livez */
void health_get(struct http_request *req);   /* GET /health */
void health_ready(struct http_request *req); /* GET /ready, /readyz */

#endif
