/* schedules.h: the schedules over HTTP: lists, one with its history and next times, and what an operator does with
 * them. */
#ifndef CONTROL_SCHEDULES_H
#define CONTROL_SCHEDULES_H

#include "control/context.h"

/* The runs that operators have started. */
struct schedules *schedules_new(struct control *c);
void schedules_free(struct schedules *s);

void schedules_list(struct http_request *req);
void schedules_show(struct http_request *req);
void schedules_run(struct http_request *req);
void schedules_pause(struct http_request *req);
void schedules_resume(struct http_request *req);
void schedules_edit(struct http_request *req);
void schedules_next(struct http_request *req);

#endif
