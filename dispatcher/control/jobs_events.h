/* jobs_events.h: requests that wait for a job to change. */
#ifndef JOBS_EVENTS_H
#define JOBS_EVENTS_H

#include "http/request.h"

void jobs_events_get(struct http_request *req);   /* GET /api/TYPE/events/JOB: server-sent events */
void jobs_events_retry(struct http_request *req); /* POST /api/TYPE/retry/JOB */

#endif
