/* mustache_private.h: a compiled template as mustache.c writes it and render.c reads it; only these two include this.
 */
#ifndef MUSTACHE_PRIVATE_H
#define MUSTACHE_PRIVATE_H

#include "template/mustache.h"

#include <stdbool.h>

enum node_type { NODE_TEXT, NODE_VARIABLE, NODE_RAW, NODE_SECTION, NODE_INVERTED, NODE_PARTIAL, NODE_COMMENT };

struct node {
	enum node_type type;
	bool line_start; /* text: begins a line of the source; partial: alone on its line */
	unsigned line;
	unsigned nparts;  /* of a dotted name; 0 is the name "." */
	const char *text; /* into the source: the text, the comment, or the indentation of a partial */
	size_t len;
	char *name; /* as written, without spaces */
	char *path; /* the name's parts, each ended by a NUL */
	size_t end; /* section: the node behind its body */
};

struct mustache {
	char *name, *source;
	struct node *nodes;
	size_t nnodes, room;
};

/* Sets *error to "NAME:LINE: text" and returns -1. */
int mustache_error(char **error, const struct mustache *m, unsigned line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
