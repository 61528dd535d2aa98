/* jobs.h: jobs over HTTP: how they stand, and retrying those that are due. */
#ifndef JOBS_H
#define JOBS_H

#include "control/context.h"
#include "settings/settings.h"

/* Whether the first parameter is a job type of the settings, and the second, where the route has it, a job id. False:
 * the request was answered with 404. */
bool jobs_check(struct http_request *req);
bool jobs_leaves_open(const struct http_request *req); /* the type's `open`: for struct http_access */
const struct job_settings *jobs_type(const struct control *c, const char *name); /* NULL: there is none */

/* Has jobs follow the messages of their queues; for each new connection to the database. */
void jobs_attach(struct control *c);

void jobs_openapi(struct http_request *req);      /* GET /api/openapi.json */
void jobs_retry_due(struct http_request *req);    /* GET /api/cron/retry-missing-data */
void jobs_status(struct http_request *req);       /* GET /api/TYPE/status/JOB */
void jobs_result(struct http_request *req);       /* GET /api/TYPE/result/JOB */
void jobs_missing(struct http_request *req);      /* GET /api/TYPE/missing-sources/JOB */
void jobs_retry_status(struct http_request *req); /* GET /api/TYPE/retry-status/JOB */

#endif
