/* prometheus.h: the counters of all processes as Prometheus text. */
#ifndef PROMETHEUS_H
#define PROMETHEUS_H

#include "process/stats.h"

#include <event2/buffer.h>
#include <stdbool.h>
#include <stdint.h>

#define PROMETHEUS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Writes every family with HELP and TYPE. A process counts as up when it beat within `beat_limit_ms`. */
void prometheus_write(const struct stats *st, int64_t beat_limit_ms, struct evbuffer *out);

/* For others that write families: HELP and TYPE, and one label with what comes before it. */
void prometheus_head(struct evbuffer *out, const char *name, const char *type, const char *help);
void prometheus_label(struct evbuffer *out, const char *name, const char *value, const char *separator);

/* Whether a slot's process runs and has responded within the limit. */
bool prometheus_process_up(const struct stats *st, const struct stats_slot *s, int64_t beat_limit_ms);

#endif
