/* mustache.h: compiles Mustache templates (the public specification's v1.4 core, without lambdas); render.h renders
 * them. */
#ifndef MUSTACHE_H
#define MUSTACHE_H

#include <stddef.h>

#define MUSTACHE_MAX_SECTIONS 64 /* nested in one template */

struct mustache; /* a compiled template */

/* Compiles len bytes; `name` (a file's name) is copied for messages. Returns NULL and *error (malloc'd,
 * "NAME:LINE: ...") for a broken template. */
struct mustache *mustache_parse(const char *text, size_t len, const char *name, char **error);
void mustache_free(struct mustache *m);

/* Call cb for each partial, or comment, of a template in order, until it returns non-zero; return what it returned. */
int mustache_each_partial(const struct mustache *m, int (*cb)(void *arg, const char *name, unsigned line), void *arg);
int mustache_each_comment(
	const struct mustache *m, int (*cb)(void *arg, const char *text, size_t len, unsigned line), void *arg);

#endif
