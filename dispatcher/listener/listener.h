/* listener.h: the main function of the listener process. */
#ifndef LISTENER_H
#define LISTENER_H

#include "process/proc.h"

int listener_main(const struct proc_env *env); /* wakes workers and runs schedules; returns the exit status */

#endif
