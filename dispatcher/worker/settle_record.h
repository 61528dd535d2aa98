/* settle_record.h: what has happened, written down without the archive. */
#ifndef SETTLE_RECORD_H
#define SETTLE_RECORD_H

#include "worker/plugin_call.h"

/* Runs the plugin's statement alone for those messages of a batch for which it has not run yet; kick(arg): it has, or
 * not. */
void settle_record(struct pgmqd_worker *w, struct pgmqd_msg *const *msgs, size_t n, void (*kick)(void *arg), void *arg);

#endif
