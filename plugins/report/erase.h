/* erase.h: reports that are to be deleted, because pgmqd.erase_person() has forgotten who they were about. */
#ifndef REPORT_ERASE_H
#define REPORT_ERASE_H

#include "options.h"

#include <stdbool.h>

struct cJSON;

/* Whether a message asks for it: {"action": "erase", "file": ID}. */
bool erase_wanted(const struct cJSON *json);
/* Takes such a message. */
void erase_deliver(struct report *h, struct pgmqd_msg *m, const struct cJSON *json);

/* Frees one that is under way: the value in struct report's table of erasures. */
void erase_free(void *erasure);

#endif
