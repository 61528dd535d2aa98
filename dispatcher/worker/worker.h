/* worker.h: the main function of a worker process. */
#ifndef WORKER_H
#define WORKER_H

#include "process/proc.h"

int worker_main(const struct proc_env *env); /* serves the queues of env->unit; returns the exit status */

#endif
