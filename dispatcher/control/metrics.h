/* metrics.h: GET /metrics, for Prometheus. */
#ifndef METRICS_H
#define METRICS_H

#include "http/request.h"

void metrics_get(struct http_request *req);

#endif
