/* messages.h: the messages of a queue over HTTP: lists, one of them, and what an operator does with them. */
#ifndef CONTROL_MESSAGES_H
#define CONTROL_MESSAGES_H

#include "http/request.h"

void messages_list(struct http_request *req);
void messages_show(struct http_request *req);
void messages_send(struct http_request *req);
void messages_cancel(struct http_request *req);
void messages_run_now(struct http_request *req);
void messages_delay(struct http_request *req);
void messages_edit(struct http_request *req);
void messages_requeue(struct http_request *req);
void messages_actions(struct http_request *req);

#endif
