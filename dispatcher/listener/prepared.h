/* prepared.h: wake-ups for transactions that were prepared (PREPARE TRANSACTION) and are committed later. */
#ifndef PREPARED_H
#define PREPARED_H

#include "pg/pgconn.h"

#include <event2/event.h>
#include <stdbool.h>

struct prepared;

/* `busy`: whether nothing else may be sent over the connection now. */
struct prepared *prepared_new(struct event_base *base, struct pgconn *pg, bool (*busy)(void *arg), void *arg);
void prepared_up(struct prepared *p); /* connected: sees whether the server takes such transactions */
void prepared_down(struct prepared *p);
void prepared_free(struct prepared *p);

#endif
