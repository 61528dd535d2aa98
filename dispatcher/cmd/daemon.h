/* daemon.h: the figures of a running daemon, out of its /api/queues, for `pgmqd status`. */
#ifndef DAEMON_H
#define DAEMON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#define DAEMON_BOUNDS 40

/* A histogram: how many took up to so many seconds. */
struct daemon_histogram {
	double le[DAEMON_BOUNDS], n[DAEMON_BOUNDS];
	size_t size;
};

/* Stages of a message's life whose durations are shown. */
enum daemon_stage { DAEMON_WAKE, DAEMON_START, DAEMON_RUN, DAEMON_NSTAGES };

/* One queue. */
struct daemon_queue {
	char name[64], plugin[64], state[24];
	double processes, restarts, in_flight, done, retried, dead, lost;
	struct daemon_histogram stages[DAEMON_NSTAGES];
	char error[256];
	cJSON *numbers; /* an array of those that the plugin keeps, or NULL */
};

struct daemon {
	struct daemon_queue *queues;
	size_t n;
	char *problem; /* why there are no figures; NULL: there are */
};

/* Asks the daemon that listens at `where` (as http_listen), with a token where that is not empty. */
void daemon_fetch(struct daemon *l, const char *where, const char *token);
void daemon_free(struct daemon *l);
const struct daemon_queue *daemon_find(const struct daemon *l, const char *name);

/* A quantile in seconds, by interpolation within its bucket; -1 when nothing was counted. */
double daemon_quantile(const struct daemon_histogram *h, double q);

#endif
