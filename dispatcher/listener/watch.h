/* watch.h: who else has the advisory locks of our queues. */
#ifndef WATCH_H
#define WATCH_H

#include <libpq-fe.h>
#include <stdbool.h>

struct watch;

/* `taken` is called when somebody else has a lock of a queue, at each look, and once when he has it no more. */
struct watch *watch_new(void (*taken)(void *arg, const char *queue, bool taken), void *arg);
void watch_free(struct watch *w);
/* The statement that looks, and its answer. */
extern const char watch_sql[];
void watch_seen(struct watch *w, const PGresult *res);

#endif
