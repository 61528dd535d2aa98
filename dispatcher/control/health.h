/* health.h: probes: is it alive, is it well, is it ready. */
#ifndef HEALTH_H
#define HEALTH_H

#include "http/request.h"
#include "process/stats.h"

#include <stdbool.h>

/* Whether a worker is connected and yet cannot claim messages. */
bool health_claims_fail(const struct stats_slot *s);

void health_live(struct http_request *req);  /* GET /livez */
void health_get(struct http_request *req);   /* GET /health */
void health_ready(struct http_request *req); /* GET /ready, /readyz */

#endif
