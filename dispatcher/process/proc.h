/* proc.h: what a child process gets from the supervisor, and the hygiene of making one. */
#ifndef PROC_H
#define PROC_H

#include "process/stats.h"
#include "settings/settings.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* One worker process to be: the queues of a group, or one queue (or one of its N processes). */
struct proc_unit {
	char *name;                           /* "email_queue", "email_queue/2", or "group:NAME" */
	const struct queue_settings **queues; /* inside the settings */
	size_t nqueues;
	struct stats_slot **slots; /* one per queue */
	int wake[2];               /* pipe from listener to worker, both ends non-blocking; see wakepipe.h */
	uint64_t files;            /* stands for the plugin files as they were when the unit was planned */
};

/* All that a child is handed; everything in it is inherited over fork and must not be freed. */
struct proc_env {
	const struct settings *settings;
	struct stats *stats;
	struct stats_slot *slot;       /* its own (a worker's: the first of its queues) */
	const struct proc_unit *unit;  /* a worker's; NULL else */
	const struct proc_unit *units; /* all of them, for the listener and the control process */
	size_t nunits;
	bool after_crash; /* the process before this one in its place died */
	int parent_fd;    /* readable (end of file) when the supervisor is gone */
};

/* The children's main functions, which the supervisor calls after fork and knows only by this table. Each runs its loop
 * and returns the exit status. SIGTERM means drain and leave; PROC_STOP_NOW, which comes after it, means leave now. */
struct proc_roles {
	int (*listener)(const struct proc_env *env);
	int (*worker)(const struct proc_env *env);
	int (*control)(const struct proc_env *env);
	/* Checks new settings before a reload, in a process of its own, since it loads plugins: 0, or 78 after a log
	 * line for each thing that is wrong. */
	int (*check)(const struct settings *settings);
};

/* A second SIGTERM that comes before the first was taken would be lost in it, so "now" has a signal of its own. */
#define PROC_STOP_NOW SIGUSR1

/* Exit statuses of children that mean something to the supervisor; after CONFIG a restart cannot help before a
 * reload. */
enum { PROC_EXIT_OK = 0, PROC_EXIT_RESTART = 1, PROC_EXIT_CONFIG = 78 }; /* 78: see EX_CONFIG */

/* For the start of a program: the first process of a container loses each signal that it neither handles nor blocks, so
 * SIGTERM, SIGINT and SIGHUP wait until the supervisor takes them. Elsewhere they keep their meaning. */
void proc_hold_signals(void);
void proc_unhold_signals(void); /* for what is not the supervisor */

/* The name of this machine, as other sessions of the database and traces know its processes by. */
const char *proc_host(void);

/* Forks with all signals blocked. In the child: SIGTERM ends it (until it sets a handler), INT, HUP, USR1, USR2 and
 * PIPE are ignored, as the supervisor decides; stdin is /dev/null; descriptors other than 0-2 and the `keep` ones
 * are closed; and when the parent dies SIGTERM comes, so that what is in hand can be finished. -1 with errno on
 * failure. */
pid_t proc_fork(const int *keep, size_t nkeep);

/* The sign of life that each child gives once a second from its loop: stats_beat(env->slot), and a timer that ends
 * the process should the loop hang when there is no supervisor left to notice. */
void proc_beat(const struct proc_env *env);

/* Lets go of the pages of programs and libraries that only the start needed; what is needed after all comes back by
 * itself. For a process that has little to do for long. */
void proc_trim(void);

/* Blocks of a megabyte and more go back to the system as soon as they are freed, in this process and its children. */
void proc_return_memory(void);

/* Nothing of this process and of its children goes into a core dump or to a debugger of the same user: they hold
 * secrets and messages. A program that they execute is its own affair again, but for the limit. */
void proc_no_core(void);

/* Becomes this program once more, with other arguments; returns with errno when that cannot be. */
void proc_again(char **argv);

/* Opens /dev/null for those of the descriptors 0-2 that are closed, lest a socket or a pipe becomes stderr. */
void proc_std_fds(void);

/* Sets the process's title (comm and, where possible, the argument area): "pgmqd: worker email_queue". */
void proc_title(int argc, char **argv); /* takes the area over; first thing in main() */
void proc_set_title(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
