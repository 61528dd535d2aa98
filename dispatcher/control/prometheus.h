/* prometheus.h: the counters of all processes as Prometheus text. */
#ifndef METRICS_H
#define METRICS_H

#include "process/stats.h"

#include <event2/buffer.h>
#include <stdbool.h>
#include <stdint.h>

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Writes every family with HELP and TYPE. A process counts as up when it beat within `beat_limit_ms`. */
void metrics_write(const struct stats *st, int64_t beat_limit_ms, struct evbuffer *out);

/* For others that write families: HELP and TYPE, and one label with what comes before it. */
void metrics_head(struct evbuffer *out, const char *name, const char *type, const char *help);
void metrics_label(struct evbuffer *out, const char *name, const char *value, const char *separator);

/* Whether a slot's process runs and has given a sign of life within the limit. */
bool metrics_process_up(const struct stats_slot *s, int64_t beat_limit_ms);

#endif
