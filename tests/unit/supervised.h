/* supervised.h: a supervisor in a process of its own, for tests: all that is seen of it is its log and its processes.
 */
#ifndef SUPERVISED_H
#define SUPERVISED_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct supervised {
	char dir[64], conf[80], notify[80];
	pid_t pid;
	int log;      /* read end */
	int notified; /* what systemd would read */
	char buf[65536];
	size_t len;
	cJSON *records; /* every line so far */
	int seen;       /* those before this index were passed over by supervised_wait_record() */
};

/* Writes the settings file: `queues` are its sections. */
void supervised_write_conf(struct supervised *f, const char *global, const char *queues);
/* Starts a supervisor on the settings file. */
void supervised_start(struct supervised *f, const char *global, const char *queues);
/* A record's text or one of its fields; "" when it has none. */
const char *supervised_field(const cJSON *record, const char *name);
/* A record's number. */
int supervised_number(const cJSON *record, const char *name);
/* The next record, behind those that were waited for before, with `text` in its text and (if not NULL) "up" = `who`. */
const cJSON *supervised_wait_record(struct supervised *f, const char *text, const char *who);
/* The record that says that all is ready. */
const cJSON *supervised_wait_ready(struct supervised *f);
/* How often a text came so far, of `who` if not NULL. */
int supervised_count_records(const struct supervised *f, const char *text, const char *who);
/* The process id of the newest process of `who`. */
pid_t supervised_newest(const struct supervised *f, const char *who);
/* The same, once it is another one than `than`: what a process says can come after what the supervisor says of it. */
pid_t supervised_newer(struct supervised *f, const char *who, pid_t than);
/* Waits for the end of the supervisor, and of all processes that it left behind (they become ours); returns its
 * status. */
int supervised_wait_end(struct supervised *f);
/* The end of all, which is an orderly one. Under valgrind a child may need longer than the seconds that it has. */
void supervised_wait_orderly_end(struct supervised *f);
/* SIGTERM, and the orderly end. */
void supervised_stop(struct supervised *f);
/* Waits for a notification that begins with `text`, past any others. */
void supervised_wait_notified(struct supervised *f, const char *text);
/* Waits until no notification that begins with `text` has come for so long. */
void supervised_wait_silence(struct supervised *f, const char *text, int64_t ms);
int supervised_setup(void **state);
int supervised_teardown(void **state);

#endif
