/* conninfo.h: looks at a connection string before anybody connects with it. */
#ifndef CONNINFO_H
#define CONNINFO_H

#include <stdbool.h>

/* NULL, or one line that says what is wrong with it and how to write it; without passwords, malloc'd. "" is good: it
 * leaves everything to libpq's variables. */
char *conninfo_check(const char *conninfo);

/* The same, and it must not lead to a database on another machine without checking that machine's certificate, which
 * `allow_insecure` permits. */
char *conninfo_check_tls(const char *conninfo, bool allow_insecure);

/* NULL, or one line about a transaction pooler that it seems to lead to, malloc'd. */
char *conninfo_pooler(const char *conninfo);

#endif
