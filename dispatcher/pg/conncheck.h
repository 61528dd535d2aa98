/* conncheck.h: whether a connection string can be used, before anybody connects with it. */
#ifndef CONNCHECK_H
#define CONNCHECK_H

#include <stdbool.h>

/* NULL, or a malloc'd sentence: it cannot be parsed, or it leads to a database on another machine without checking that
 * machine's certificate, which `allow_insecure` permits. The sentence holds no password. */
char *conncheck(const char *conninfo, bool allow_insecure);

#endif
