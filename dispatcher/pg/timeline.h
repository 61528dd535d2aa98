/* timeline.h: whether a server that takes writes is the newest primary that this dispatcher has seen. */
#ifndef TIMELINE_H
#define TIMELINE_H

#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdint.h>

/* The memory: the cluster's system identifier, its newest timeline, and the last older one that was refused. */
enum { TIMELINE_SYSTEM, TIMELINE_NEWEST, TIMELINE_REFUSED, TIMELINE_WORDS };

/* Remembers it there from now on, in memory that the processes of a dispatcher share; before, in this process alone. */
void timeline_share(_Atomic uint64_t *words);

extern const char timeline_sql[]; /* for a server that is no standby */

/* Takes the answer. NULL: that server may be used, and is remembered. Otherwise the reason why not, malloc'd; the log
 * has said so once. A server that does not tell (a service with functions taken out) may be used. */
char *timeline_check(const PGresult *res);

#endif
