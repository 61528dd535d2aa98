/* page.h: the findings of a replay as one page that can be sent to others. */
#ifndef REPLAY_PAGE_H
#define REPLAY_PAGE_H

#include "cmd/replay/print.h"

/* Writes index.html into `dir`, which is made if it is not there. `samples`: records by the message's number. NULL, or
 * what is wrong; malloc'd. Takes both objects. */
char *page_write(const char *dir, struct cJSON *summary, struct cJSON *samples, bool show);

#endif
