/* stats.h: counters in one shared mapping that the supervisor makes; each process writes its own slot, anyone reads. */
#ifndef STATS_H
#define STATS_H

#include "process/hand.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Counters of a process and queue: identifier, Prometheus name without prefix, help. */
#define STATS_COUNTERS(X)                                                                                              \
	X(STAT_WAKEUPS, "wakeups_total", "Wake-ups that reached a worker by notification.")                            \
	X(STAT_LOOKS, "looks_total", "Claim statements sent.")                                                         \
	X(STAT_CLAIMS_FAILED, "claims_failed_total", "Claim statements that the database refused or never answered.")  \
	X(STAT_CLAIMED, "claimed_total", "Messages claimed.")                                                          \
	X(STAT_DONE, "done_total", "Messages handled and archived or deleted.")                                        \
	X(STAT_RETRIED, "retried_total", "Attempts that ended in a retry.")                                            \
	X(STAT_FAILED, "dead_lettered_total", "Messages moved to the dead-letter queue.")                              \
	X(STAT_REPLACED, "replaced_total", "Messages partly done and replaced by their remainder.")                    \
	X(STAT_RELEASED, "released_total", "Messages given back without an attempt being counted.")                    \
	X(STAT_CANCELLED, "cancelled_total", "Messages in hand that an operator cancelled.")                           \
	X(STAT_LEASE_LOST, "lease_lost_total", "Outcomes refused because the lease had gone to someone else.")         \
	X(STAT_CONFIG_ERRORS, "config_errors_total", "Attempts that ended in a configuration error.")                  \
	X(STAT_MISUSE, "plugin_misuse_total", "Calls of a plugin that broke its contract.")                            \
	X(STAT_MISSED, "notifications_missed_total",                                                                   \
		"Messages that a fallback poll found, and no notification had told of.")                               \
	X(STAT_RECONNECTS, "reconnects_total", "Database connections made after the first.")                           \
	X(STAT_SPANS, "spans_exported_total", "Spans of traces that the collector took.")                              \
	X(STAT_SPANS_DROPPED, "spans_dropped_total",                                                                   \
		"Spans of traces that were lost: too many waited, or the collector did not take them.")                \
	X(STAT_NOTIFICATIONS, "notifications_total", "Notifications received by the listener.")                        \
	X(STAT_SCHEDULED, "schedule_runs_total", "Schedules run by this dispatcher.")                                  \
	X(STAT_SCHEDULE_FAILED, "schedule_failures_total", "Runs of schedules that failed.")                           \
	X(STAT_SCHEDULE_SKIPPED, "schedule_skipped_total", "Times of schedules that were skipped for being too late.")

/* Values that go up and down. */
#define STATS_GAUGES(X)                                                                                                \
	X(GAUGE_RUNNING, "running", "Messages in the plugin's hands.")                                                 \
	X(GAUGE_WAITING, "prefetched", "Messages claimed that wait for a free slot.")                                  \
	X(GAUGE_CONNECTED, "connected", "1 while the database connection is up.")                                      \
	X(GAUGE_HEARING, "hearing", "1 while notifications are known to arrive.")                                      \
	X(GAUGE_PAUSED, "paused", "1 while the queue pauses, after a configuration error or by an operator.")          \
	X(GAUGE_HELD, "held", "1 while an operator has paused the queue.")                                             \
	X(GAUGE_CLAIM_OK, "last_claim_timestamp_seconds",                                                              \
		"When the last claim statement succeeded, with or without messages, in seconds since 1970.")           \
	X(GAUGE_TAKEN_OVER, "schedules_taken_over",                                                                    \
		"Schedules of pg_cron's that are run here, since its launcher is dead.")                               \
	X(GAUGE_STALL, "callback_longest_seconds",                                                                     \
		"Longest time that one callback of the plugin kept the loop waiting.")

#define STATS_ID(id, name, help) id,
enum stats_counter { STATS_COUNTERS(STATS_ID) STATS_NCOUNTERS };
enum stats_gauge { STATS_GAUGES(STATS_ID) STATS_NGAUGES };
#undef STATS_ID

/* Histograms of a message's life, in microseconds, with fixed bounds (stats_bounds_us). */
/* Enqueue to wake-up; wake-up to claimed; enqueue to start; start to outcome; outcome to settled; one call into the
 * plugin; how late the loop comes to a timer. */
enum stats_histogram {
	HIST_WAKE,
	HIST_CLAIM,
	HIST_WAIT,
	HIST_RUN,
	HIST_SETTLE,
	HIST_CALLBACK,
	HIST_LAG,
	STATS_NHISTOGRAMS
};
#define STATS_NBOUNDS 17

enum stats_role { ROLE_FREE = 0, ROLE_SUPERVISOR, ROLE_LISTENER, ROLE_WORKER, ROLE_CONTROL };

/* How a process is, and its name in metrics; the process sets the first five, the supervisor the others (and
 * starting). */
#define STATS_STATES(X)                                                                                                \
	X(STATE_STARTING, "starting")                                                                                  \
	X(STATE_CONNECTING, "connecting")                                                                              \
	X(STATE_READY, "ready")                                                                                        \
	X(STATE_PAUSED, "paused")                                                                                      \
	X(STATE_DRAINING, "draining")                                                                                  \
	X(STATE_RESTARTING, "restarting") /* died, will be started again in a moment */                                \
	X(STATE_CRASH_LOOP, "crash_loop") /* died too often, is tried again now and then */                            \
	X(STATE_CONFIG, "config_error")   /* its settings cannot work; is tried again now and then */                  \
	X(STATE_STOPPED, "stopped")
#define STATS_ID(id, name) id,
enum stats_state { STATS_STATES(STATS_ID) STATS_NSTATES };
#undef STATS_ID

/* A number that a plugin keeps (pgmqd_metric): pgmqd_NAME{queue,plugin,LABEL="VALUE"}. */
#define STATS_NEXTRA 32
#define STATS_EXTRA_COUNTER 1 /* PGMQD_COUNTER; a gauge is 2 */
struct stats_extra {
	_Atomic int kind; /* 0: free; else enum pgmqd_metric_kind, set when the texts stand */
	char name[48], help[128], label[24], value[40];
	_Atomic int64_t number;
};

/* One queue in one process (or one process without a queue). Written by that process alone, but for what stands in
 * the first block, which the supervisor sets before and after the process's life, and the state as said above. */
struct stats_slot {
	_Atomic int role;
	_Atomic int pid;     /* 0: not running */
	_Atomic int retired; /* 1: a reload put another process in its place, and it drains; its counts still count */
	_Atomic uint32_t restarts;
	_Atomic int64_t started_ms; /* CLOCK_MONOTONIC */
	int lead;                   /* 1: a process's first slot: the one that beats, and stands for it */
	char process[80];           /* "supervisor", "listener", "control", or the name of the worker's unit */
	char queue[64], plugin[64]; /* "" for a process without a queue */

	_Atomic int state;
	_Atomic int64_t beat_ms; /* CLOCK_MONOTONIC of the last sign of life */
	char plugin_version[32];
	_Atomic uint32_t error_seq; /* odd while last_error is being written */
	char last_error[256];
	_Atomic uint64_t counters[STATS_NCOUNTERS];
	_Atomic int64_t gauges[STATS_NGAUGES];
	struct {
		_Atomic uint64_t bucket[STATS_NBOUNDS + 1];
		_Atomic uint64_t count, sum_us;
	} hist[STATS_NHISTOGRAMS];
	struct stats_extra extra[STATS_NEXTRA];
	struct hand hand; /* messages in hand */
};

#define STATS_NTOLD 512

struct stats {
	size_t room;           /* slots that the mapping has */
	_Atomic size_t nslots; /* slots that were ever taken: readers stop there, so that the others never get memory */
	_Atomic int64_t started_ms;
	_Atomic uint32_t generation;        /* of the settings in force: 1, 2, ... */
	_Atomic bool deaf;                  /* the listener is connected, and notifications do not come through */
	_Atomic uint64_t primary[3];        /* pg/timeline.h: which primary was the newest */
	_Atomic uint64_t told[STATS_NTOLD]; /* what is said once by all processes together, as hashes */
	struct stats_slot slot[];
};

extern const uint64_t stats_bounds_us[STATS_NBOUNDS];

struct stats *stats_create(size_t room); /* MAP_SHARED | MAP_ANONYMOUS, survives fork; dies on failure */

/* For the supervisor: takes a free slot (NULL when there is none), and gives one back. Counters of a slot that is
 * given back are added to another one of the same queue, so that a reload does not set the queue's counters back. */
struct stats_slot *stats_take(
	struct stats *st, enum stats_role role, const char *process, const char *queue, const char *plugin);
void stats_release(struct stats *st, struct stats_slot *s);
size_t stats_free_slots(const struct stats *st);

void stats_add(struct stats_slot *s, enum stats_counter c, uint64_t n);
void stats_gauge(struct stats_slot *s, enum stats_gauge g, int64_t value);
void stats_observe(struct stats_slot *s, enum stats_histogram h, int64_t us);
/* The plugin's number of that name and value of its label, made at the first call; NULL when there is no room. */
struct stats_extra *stats_extra(
	struct stats_slot *s, int kind, const char *name, const char *help, const char *label, const char *value);
/* Whether the listener is known to receive notifications; a worker that was restarted does not get that word again. */
bool stats_listener_hears(const struct stats *st);
/* Whether no other process of this queue has asked with this text; true when there is no room to remember it. */
bool stats_first(struct stats *st, const struct stats_slot *s, const char *text);
void stats_beat(struct stats_slot *s);
void stats_state(struct stats_slot *s, enum stats_state state);
void stats_error(struct stats_slot *s, const char *text);                  /* cut to fit */
void stats_error_read(const struct stats_slot *s, char *buf, size_t size); /* "" when there was none */
const char *stats_state_name(int state);

#endif
