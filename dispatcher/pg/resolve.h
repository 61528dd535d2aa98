/* resolve.h: looks up a host's addresses without holding up the event loop. */
#ifndef RESOLVE_H
#define RESOLVE_H

#include <event2/event.h>

struct resolve;

/* `addresses`: numeric ones, one a line, in the order in which they are to be tried; NULL: `error` says why. */
typedef void (*resolve_cb)(void *arg, char *addresses, const char *error);

/* The callback comes once, later; the object is freed before. NULL when no process can be made (errno). */
struct resolve *resolve_start(struct event_base *base, const char *host, resolve_cb cb, void *arg);
void resolve_cancel(struct resolve *r); /* no callback comes */

#endif
