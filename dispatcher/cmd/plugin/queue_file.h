/* queue_file.h: a queue whose messages come from a file and whose outcomes go to the one who holds them, for a plugin
 * that is tried without its queue. */
#ifndef QUEUE_FILE_H
#define QUEUE_FILE_H

#include "cmd/plugin/answers.h"
#include "worker/queue.h"

/* A message of the input; its outcome is printed when those before it are through, so that the output's order is the
 * input's. */
struct queue_file_message {
	int64_t id;
	unsigned attempt;    /* the one that runs or comes next */
	int64_t enqueued_us; /* 0: the same for all */
	char *text, *headers;
	char *out; /* its lines so far */
	bool taken, through;
};

/* The questions of the queue to the holder of the messages. */
struct queue_file_source {
	struct queue_file_message *(*next)(void *arg);         /* the next one to deliver, or NULL */
	void (*outcome)(void *arg, const struct pgmqd_msg *m); /* one got its outcome */
	void (*answer)(void *arg, const char *sql, int nparams, const char *const *params,
		struct answer *reply); /* of a database to a plugin's statement */
};

struct queue *queue_file_new(struct event_base *base, const struct queue_file_source *source, void *arg);

#endif
