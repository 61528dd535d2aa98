/* history.h: the last ten minutes of each queue, for charts: what was settled, and how long it took; and what is
 * written down of it for longer spans. */
#ifndef HISTORY_H
#define HISTORY_H

#include "process/stats.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

#define HISTORY_STEP_S 5
#define HISTORY_POINTS 120

struct history;

struct history *history_new(void);
void history_free(struct history *h);

/* Takes one more point of each queue out of the counters; to be called every HISTORY_STEP_S seconds. */
void history_take(struct history *h, const struct stats *st);

/* The points with a number above `after` (0: all there are): {"step_seconds", "last", "queues": {NAME: {"done": [...],
 * ...}}}, the newest last. Counts are of one step; wait_* and run_* are milliseconds, null where nothing was settled.
 */
cJSON *history_json(const struct history *h, uint64_t after);

/* The settled messages of each queue since the last time, for pgmqd.record_history(): [{"queue", "done", "retried",
 * "failed", "wait": counts}]; nothing of a queue where nothing was. */
cJSON *history_since_recorded(struct history *h);

/* The value, in microseconds, under which the part `q` (0..1) of a histogram's counts lies, between the bounds of its
 * bucket by rule of three; -1 when it is empty. For tests, too. */
double history_quantile(const uint64_t bucket[STATS_NBOUNDS + 1], double q);

#endif
