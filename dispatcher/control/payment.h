/* payment.h: notifications of payment providers. */
#ifndef PAYMENT_H
#define PAYMENT_H

#include "http/request.h"

#define PAYMENT_EVENT_MAX 65536 /* bytes of a notification */

void payment_event(struct http_request *req); /* POST /api/payment/events/PROVIDER */

#endif
