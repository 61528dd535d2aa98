/* pictures.h: the pages of PDF files as pictures within a replay's page. */
#ifndef PICTURES_H
#define PICTURES_H

#include <stdbool.h>

struct cJSON;

/* Adds "pages" (data: URIs) to each effect and each part of a mail in `shown` that is a PDF, or "no_pages" with the
 * reason. `record` is the same as it was recorded; `dir` is for scratch. A picture cannot be masked, so without `show`
 * there is none. */
void pictures_add(struct cJSON *shown, const struct cJSON *record, const char *dir, bool show);

#endif
