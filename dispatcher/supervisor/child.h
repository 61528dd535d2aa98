/* child.h: one child of the supervisor, over all the processes that are started for it one after the other. */
#ifndef CHILD_H
#define CHILD_H

#include "process/proc.h"

#include <stdbool.h>

enum child_phase {
	CHILD_WAITING, /* not running; started at start_at */
	CHILD_RUNNING,
	CHILD_STOPPING, /* told to leave; killed at kill_at */
	CHILD_GONE      /* not running and never started again */
};

#define CHILD_DEATHS 5 /* that many within a minute are a crash loop */

struct child {
	struct child *next;
	enum stats_role role;
	struct proc_unit unit; /* the name; the rest for workers only. Owned */
	struct stats_slot *slot;
	enum child_phase phase;
	pid_t pid;
	int64_t start_at, started_at, kill_at; /* CLOCK_MONOTONIC ms */
	int64_t hurry_at;                      /* when one that drains is told to leave now; 0: it is not */
	bool again;                            /* stopping only to be started anew */
	bool retired;                          /* a reload put another in its place */
	bool killed;                           /* SIGKILL was sent */
	unsigned failures;                     /* in a row; the exponent of the backoff */
	int64_t deaths[CHILD_DEATHS];          /* when it died last, a ring */
	unsigned ndeaths;
	bool looping, misconfigured;
};

/* Takes over `unit` (its name, for listener and control only that) and takes its slots and pipe. NULL when there are
 * no slots or no descriptors left; the error was logged, and the unit freed. */
struct child *child_new(enum stats_role role, struct proc_unit *unit, struct stats *stats);
void child_free(struct child *c, struct stats *stats); /* one that does not run; frees its slots */

/* Forks. In the new process this calls the role's main function and never returns. */
void child_start(struct child *c, const struct proc_roles *roles, const struct proc_env *common, const int *keep,
	size_t nkeep, int64_t now);

/* Asks it to leave, and has it killed after `grace` ms. One that does not run is gone at once; one that was asked
 * before, by settings that gave it longer, is hurried in time. */
void child_stop(struct child *c, int64_t now, int64_t grace);

/* Says PROC_STOP_NOW: it gives back what it has and leaves. */
void child_hurry(struct child *c, int64_t now, int64_t grace);

/* As child_stop(), but it is started again as soon as it has left. */
void child_restart(struct child *c, int64_t now, int64_t grace);

/* Another chance now: for one that waits for its next try, and, by SIGHUP, for what a running one has put off. */
void child_retry_now(struct child *c, int64_t now);

/* Takes note of its end. */
void child_reaped(struct child *c, int status, int64_t now);

/* Kills it when it has outstayed its grace, or has not beaten for `watchdog` ms (0: never) within the time that this
 * supervisor itself was awake, since `awake_since`. True when it was killed for outstaying. */
bool child_check(struct child *c, int64_t now, int64_t watchdog, int64_t awake_since);

bool child_runs(const struct child *c);    /* has a process */
bool child_ready(const struct child *c);   /* each of its queues is ready or paused */
bool child_settled(const struct child *c); /* that, or has failed and is tried again */

/* "listener", or "worker email_queue/2"; `buf` is returned. */
const char *child_title(const struct child *c, char *buf, size_t size);

#endif
