/* supervisor.h: the parent of all processes. */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include "process/proc.h"
#include "settings/settings.h"

/* Forks listener, workers and control process, keeps them alive, passes signals on; returns the exit status after
 * SIGTERM or SIGINT. On SIGHUP it calls settings_load(s->path) again. Takes ownership of `s`; `roles` are the
 * children's main functions. */
int supervisor_run(struct settings *s, const struct proc_roles *roles);

#endif
