/* list.h: the sources that a job gathers from, out of the text of the option `sources`. */
#ifndef SOURCES_LIST_H
#define SOURCES_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIST_MAX 64 /* sources */

struct source {
	const char *name, *url; /* inside the list's text */
	bool required, get;
	int64_t timeout_ms;
	unsigned retries; /* at once, before it counts as missing */
};

struct source_list {
	struct source *sources;
	size_t n;
	char *text; /* cut into names and URLs */
};

/* Reads "NAME URL [required] [get] [timeout=20s] [retries=2] | NAME URL ...". NULL, or a malloc'd sentence that says
 * what is wrong; the list is to be freed in any case. */
char *source_list_parse(struct source_list *l, const char *text, int64_t timeout_ms, unsigned retries);
void source_list_free(struct source_list *l);

#endif
