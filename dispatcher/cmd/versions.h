/* versions.h: what this pgmqd is made of. */
#ifndef VERSIONS_H
#define VERSIONS_H

/* "pgmqd 0.1.0: libpq 15.9, libevent 2.1.12-stable, ...": the libraries as they are loaded, not as they were built
 * against. */
const char *versions_line(void);

#endif
