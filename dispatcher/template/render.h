/* render.h: renders a compiled Mustache template over JSON values. */
#ifndef RENDER_H
#define RENDER_H

#include "template/mustache.h"

#include <cjson/cJSON.h>
#include <stddef.h>

#define RENDER_MAX_PARTIALS 16          /* nested, so that a recursive partial ends */
#define RENDER_MAX_OUTPUT (1024 * 1024) /* bytes out of one rendering */
#define RENDER_MAX_STEPS 1000000        /* nodes visited by one rendering */
#define RENDER_MAX_JSON 32              /* nesting of the data */

/* RENDER_HTML escapes & < > " and ', and refuses a variable in a link, or named *_url, whose value does not start with
 * https://, http:// or mailto: (links may also start with tel:, images with cid:). */
enum render_escape { RENDER_PLAIN = 0, RENDER_HTML };

/* Finds a compiled partial. NULL renders as nothing. */
typedef const struct mustache *(*render_lookup)(void *arg, const char *name);

/* Returns the malloc'd result, or NULL and *error (malloc'd, "NAME:LINE: ..."). data, lookup and len may be NULL.
 * False, null, missing, "" and [] are false for a section; 0 is true. A list or an object cannot be printed. */
char *render_mustache(const struct mustache *m, const cJSON *data, enum render_escape escape, render_lookup lookup,
	void *arg, size_t *len, char **error);

#endif
