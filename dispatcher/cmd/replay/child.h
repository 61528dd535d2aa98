/* child.h: the process that runs one version of a plugin over messages, closed off. */
#ifndef CHILD_H
#define CHILD_H

#include "cmd/replay/replay_private.h"

/* The orders for the process. */
struct child_task {
	const struct replay_way *way;
	const struct replay_messages *messages;
	struct replay_version *version;
	unsigned process; /* takes the messages whose places have this remainder */
	int tell;         /* where notes go */
};

#define CHILD_REFUSED 78 /* exit status: the plugin cannot be run at all; a line was printed */

/* Runs in the new process; returns its exit status. */
int child_main(const struct child_task *task);

#endif
