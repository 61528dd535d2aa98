/* dead_letters.h: dead letters over HTTP. */
#ifndef DEAD_LETTERS_H
#define DEAD_LETTERS_H

#include "http/request.h"

void dead_letters_failures(struct http_request *req); /* GET /api/failures */
void dead_letters_list(struct http_request *req);     /* GET /api/queues/QUEUE/dead-letters */
void dead_letters_show(struct http_request *req);     /* GET /api/queues/QUEUE/dead-letters/ID */
void dead_letters_redrive(struct http_request *req);  /* POST /api/queues/QUEUE/redrive */
void dead_letters_purge(struct http_request *req);    /* POST /api/queues/QUEUE/purge */

#endif
