/* spans.h: what happens to messages as spans of traces, sent to an OpenTelemetry collector (OTLP over HTTP, as JSON).
 */
#ifndef SPANS_H
#define SPANS_H

#include "process/stats.h"
#include "settings/settings.h"
#include "worker/message.h"
#include "worker/transfer.h"

#include <event2/event.h>

/* The process sends spans from now on, if the settings name a collector; they count in `slot`. */
void spans_open(
	struct event_base *base, struct transfers *transfers, const struct settings *settings, struct stats_slot *slot);
/* Sends what is left, for a second at most: when the process has nothing else to do. */
void spans_flush(void);
void spans_close(void);

/* A message was claimed by a statement that was sent at `asked_ms` (boottime): finds its place in a trace. Each message
 * has one when spans are sent: that of its header, or one of its own. */
void spans_claimed(struct pgmqd_msg *m, int64_t asked_ms);
/* Its outcome is stored. */
void spans_settled(const struct pgmqd_msg *m);

#endif
