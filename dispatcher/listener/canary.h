/* canary.h: a notification sent from another session than the one that listens. */
#ifndef CANARY_H
#define CANARY_H

#include <event2/event.h>

struct canary;

/* `error`: why no notification could be sent; NULL when one was. */
typedef void (*canary_cb)(void *arg, const char *error);

struct canary *canary_new(struct event_base *base, const char *conninfo, const char *channel, canary_cb cb, void *arg);
/* Connects, notifies, and disconnects; one at a time. The callback comes once. */
void canary_send(struct canary *c, const char *payload);
void canary_cancel(struct canary *c); /* the callback does not come any more */
void canary_free(struct canary *c);

#endif
