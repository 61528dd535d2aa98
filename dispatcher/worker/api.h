/* api.h: what the files of the plugin interface (api*.c) share. */
#ifndef API_H
#define API_H

#include "pgmqd-plugin.h"
#include "worker/flow.h"
#include "worker/plugin_call.h"

#define API_DELAY_MAX_MS ((int64_t)365 * 86400 * 1000)

#define UNAVAILABLE_MS 30000

int64_t api_delay(int64_t ms); /* brought into bounds that PostgreSQL can add to a time */

/* Whether something may be started for a message; says what is wrong otherwise. */
bool api_may_start(const struct pgmqd_msg *m, const char *function);

#endif
