/* mustache.h: Mustache templates (the public specification's v1.4 core, without lambdas), compiled once and rendered
 * over cJSON. */
#ifndef MUSTACHE_H
#define MUSTACHE_H

#include <cjson/cJSON.h>
#include <stddef.h>

#define MUSTACHE_MAX_SECTIONS 64          /* nested in one template */
#define MUSTACHE_MAX_PARTIALS 16          /* nested, so that a recursive partial ends */
#define MUSTACHE_MAX_OUTPUT (1024 * 1024) /* bytes out of one rendering */
#define MUSTACHE_MAX_STEPS 1000000        /* nodes visited by one rendering */
#define MUSTACHE_MAX_JSON 32              /* nesting of the data */

/* HTML escapes & < > " ' and refuses a variable named *_url unless it starts with https://, http:// or mailto:. */
enum mustache_escape { MUSTACHE_ESCAPE_NONE = 0, MUSTACHE_ESCAPE_HTML };

struct mustache; /* a compiled template */

/* Finds a compiled partial, or NULL, which renders as nothing. */
typedef const struct mustache *(*mustache_lookup)(void *arg, const char *name);

/* Compiles len bytes; `name` (a file's name) is copied for messages. NULL and *error (malloc'd, "NAME:LINE: ...") when
 * it is broken. */
struct mustache *mustache_parse(const char *text, size_t len, const char *name, char **error);
void mustache_free(struct mustache *m);

/* The malloc'd result, or NULL and *error (malloc'd, "NAME:LINE: ..."). data, lookup and len may be NULL. False, null,
 * missing, "" and [] are false for a section; 0 is true. A variable that holds a list or an object is an error. */
char *mustache_render(const struct mustache *m, const cJSON *data, enum mustache_escape escape, mustache_lookup lookup,
	void *arg, size_t *len, char **error);

/* Walk what a template holds, in its order, until cb returns non-zero, which is then returned. `line` is for messages.
 */
int mustache_each_partial(const struct mustache *m, int (*cb)(void *arg, const char *name, unsigned line), void *arg);
int mustache_each_comment(
	const struct mustache *m, int (*cb)(void *arg, const char *text, size_t len, unsigned line), void *arg);

#endif
