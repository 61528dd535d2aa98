/* processes.h: the processes in which versions are run over the messages: started, listened to, and started anew after
 * a crash. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include "cmd/replay/replay_private.h"

struct cJSON;

/* Called now and then, with how many runs are through. */
typedef void (*processes_progress_cb)(void *arg, size_t through);

/* Runs all versions over all messages; `inherited` is a descriptor that the processes close. False after a line when
 * one could not be run at all. */
bool processes_run(const struct replay_way *way, const struct replay_messages *messages,
	struct replay_version *versions, size_t nversions, int inherited, processes_progress_cb progress, void *arg);

/* The record of a message, as an object that the caller deletes. */
struct cJSON *processes_record(const struct replay_way *way, const struct replay_version *v, size_t message);

#endif
