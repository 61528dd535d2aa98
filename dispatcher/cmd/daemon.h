/* daemon.h: the figures of a running daemon, out of its /api/queues, for `pgmqd status`. */
#ifndef LIVE_H
#define LIVE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define LIVE_BOUNDS 40

/* A histogram: how many took up to so many seconds. */
struct live_histogram {
	double le[LIVE_BOUNDS], n[LIVE_BOUNDS];
	size_t size;
};

/* Stages of a message's life whose durations are shown. */
enum live_stage { LIVE_WAKE, LIVE_START, LIVE_RUN, LIVE_NSTAGES };

/* One queue. */
struct live_queue {
	char name[64], plugin[64], state[24];
	double processes, restarts, in_flight, done, retried, dead, lost;
	struct live_histogram stages[LIVE_NSTAGES];
	char error[256];
	cJSON *numbers; /* an array of those that the plugin keeps, or NULL */
};

struct live {
	struct live_queue *queues;
	size_t n;
	char *problem; /* why there are no figures; NULL: there are */
};

/* Asks the daemon that listens at `where` (as http_listen), with a token where that is not empty. */
void live_fetch(struct live *l, const char *where, const char *token);
void live_free(struct live *l);
const struct live_queue *live_find(const struct live *l, const char *name);

/* A quantile in seconds, by interpolation within its bucket; -1 when nothing was counted. */
double live_quantile(const struct live_histogram *h, double q);

#endif
