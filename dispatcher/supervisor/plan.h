/* plan.h: which worker processes the settings ask for. */
#ifndef PLAN_H
#define PLAN_H

#include "process/proc.h"

#include <stdbool.h>

struct plan {
	struct proc_unit *units; /* without slots and pipes yet; queues point into the settings */
	size_t nunits;
};

void plan_make(struct plan *p, const struct settings *s);
void plan_free(struct plan *p); /* with those units that still have a name; the code that takes one over clears it */

/* Frees what a unit owns, and closes its pipe. */
void plan_unit_free(struct proc_unit *u);

/* Whether the running unit `a` does what `b` asks for, with the same plugin files. */
bool plan_unit_equal(const struct proc_unit *a, const struct proc_unit *b);

/* Whether workers, who read the global settings too, can go on under the new ones. */
bool plan_globals_equal(const struct settings *a, const struct settings *b);

/* The unit's queues for people, "a, b"; malloc'd. */
char *plan_unit_queues(const struct proc_unit *u);

/* The plugin's name for metrics, also when the settings name a file. `buf` is returned. */
const char *plan_plugin_name(const struct queue_settings *q, char *buf, size_t size);

#endif
