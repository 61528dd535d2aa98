/* sandbox.h: closes a process that runs a plugin, so that nothing it does leaves it. */
#ifndef SANDBOX_H
#define SANDBOX_H

/* From here on this process and its programs open no sockets and make no connections, and write no files but below the
 * directory `scratch`. What is open stays open. NULL, or why the network is not closed (malloc'd); *files says why
 * files are not, or NULL. */
char *sandbox_close(const char *scratch, const char **files);

#endif
