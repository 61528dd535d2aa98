/* control.h: the control process: its loop, its connection to the database, and the HTTP server. */
#ifndef CONTROL_H
#define CONTROL_H

#include "process/proc.h"

/* The process's main function: serves until SIGTERM, or until the supervisor is gone; returns the exit status. */
int control_main(const struct proc_env *env);

#endif
