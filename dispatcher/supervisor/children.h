/* children.h: all children of the supervisor together. */
#ifndef CHILDREN_H
#define CHILDREN_H

#include "process/stats.h"
#include "settings/settings.h"
#include "supervisor/child.h"
#include "supervisor/plan.h"

#include <stdbool.h>

#define CHILDREN_DRAIN_GRACE_MS 2000 /* for workers, beyond drain_timeout: they give back what was not finished */
#define CHILDREN_GRACE_MS 10000      /* for listener and control process, at least: a machine may be busy */

struct children {
	struct settings *settings; /* owned */
	const struct proc_roles *roles;
	struct stats *stats;
	struct child *first;
	int parent_pipe[2]; /* children hold the read end, whose end of file means that the supervisor is gone */
};

/* Takes over `s` and makes the children that it asks for, without starting them. 0, or -1 after log lines. */
int children_init(struct children *f, struct settings *s, const struct proc_roles *roles, struct stats *stats);
void children_free(struct children *f);

/* Goes over to new settings and their plan, taking over both: what is unchanged runs on, what is changed or removed
 * drains while its successor starts, listener and control process are restarted. 0, or -1 after a log line, when
 * nothing was changed. */
int children_adopt(struct children *f, struct settings *s, struct plan *plan, int64_t now);

void children_start_due(struct children *f, int64_t now);
/* Kills who hangs or outstays, and drops those who are gone for good. Returns how many were killed for outstaying. */
size_t children_check(struct children *f, int64_t now, int64_t awake_since);
bool children_reaped(struct children *f, pid_t pid, int status, int64_t now); /* false: not one of ours */

void children_stop_workers(struct children *f, int64_t now, int64_t grace);
void children_stop_others(struct children *f, int64_t now, int64_t grace); /* listener and control process */
void children_hurry(struct children *f, int64_t now, int64_t grace);
size_t children_running(const struct children *f, bool workers_only);

bool children_settled(const struct children *f);        /* every child is ready, or has failed and is tried again */
void children_report_unready(const struct children *f); /* a log line for each one that is neither */
size_t children_workers(
	const struct children *f, bool ready); /* those that were not replaced: all, or the ready ones */

/* Whether no running child's last beat is older than `limit`. */
bool children_beats(const struct children *f, int64_t now, int64_t limit);
int64_t children_next(const struct children *f); /* when the next child is to be started or killed; INT64_MAX: none */

#endif
