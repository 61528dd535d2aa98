/* jobs_start.h: starting jobs: many requests in one statement. */
#ifndef JOBS_START_H
#define JOBS_START_H

#include "control/context.h"

struct jobs_start *jobs_start_new(struct control *c);
void jobs_start_free(struct jobs_start *s);

void jobs_start_post(struct http_request *req); /* POST /api/TYPE/start */

#endif
