/* status.h: what the status page asks for beside the queues. */
#ifndef STATUS_H
#define STATUS_H

#include "http/request.h"

void status_get(struct http_request *req); /* GET /api/status */

#endif
