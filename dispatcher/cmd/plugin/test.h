/* test.h: trying a plugin without PostgreSQL: messages from a file, outcomes to standard output. */
#ifndef KIT_H
#define KIT_H

#include "worker/message.h"

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct cJSON;
struct kit;
struct pgconn;

/* A message of the input; what became of it is printed when those before it are through, so that the output's order is
 * the input's. */
struct kit_message {
	int64_t id;
	unsigned attempt; /* the one that runs or comes next */
	char *text, *headers;
	char *out; /* its lines so far */
	bool taken, through;
};

/* test.c, for queue_file.c. */
struct kit_message *kit_next(struct kit *k);                /* the next one to deliver, or NULL */
void kit_outcome(struct kit *k, const struct pgmqd_msg *m); /* what became of one */
const struct cJSON *kit_answer(struct kit *k, const char *sql, int nparams, const char *const *params); /* or NULL */

/* queue_file.c, for test.c. */
struct pgconn *kit_connect(struct kit *k, struct event_base *base);
void kit_disconnect(struct pgconn *c);

#endif
