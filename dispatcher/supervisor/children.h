/* children.h: all children of the supervisor together. */
#ifndef FAMILY_H
#define FAMILY_H

#include "process/stats.h"
#include "settings/settings.h"
#include "supervisor/child.h"
#include "supervisor/plan.h"

#include <stdbool.h>

struct family {
	struct settings *settings; /* owned */
	struct stats *stats;
	struct child *first;
	int parent_pipe[2]; /* children hold the read end, whose end of file means that the supervisor is gone */
};

/* Takes over `s` and makes the children that it asks for, without starting them. 0, or -1 after log lines. */
int family_init(struct family *f, struct settings *s, struct stats *stats);
void family_free(struct family *f);

/* Goes over to new settings and their plan, taking over both: what is unchanged runs on, what is changed or removed
 * drains while its successor starts, listener and control process are restarted. 0, or -1 after a log line, when
 * nothing was changed. */
int family_adopt(struct family *f, struct settings *s, struct plan *plan, int64_t now);

void family_start_due(struct family *f, int64_t now);
/* Kills who hangs or outstays, and drops those who are gone for good. Returns how many were killed for outstaying. */
size_t family_check(struct family *f, int64_t now, int64_t awake_since);
bool family_reaped(struct family *f, pid_t pid, int status, int64_t now); /* false: not one of ours */

void family_stop_workers(struct family *f, int64_t now, int64_t grace);
void family_stop_others(struct family *f, int64_t now, int64_t grace); /* listener and control process */
void family_hurry(struct family *f, int64_t now, int64_t grace);
size_t family_running(const struct family *f, bool workers_only);

bool family_settled(const struct family *f);               /* every child is ready, or has failed and is tried again */
void family_report_unready(const struct family *f);        /* a log line for each one that is neither */
size_t family_workers(const struct family *f, bool ready); /* those that were not replaced: all, or the ready ones */

/* Whether no running child's last beat is older than `limit`. */
bool family_beats(const struct family *f, int64_t now, int64_t limit);
int64_t family_next(const struct family *f); /* when the next child is to be started or killed; INT64_MAX: none */

#endif
