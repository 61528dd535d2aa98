/* cancel.h: messages in hand that an operator wants cancelled. */
#ifndef CANCEL_H
#define CANCEL_H

#include "worker/plugin_call.h"
#include "worker/settle.h"

#include <event2/event.h>
#include <stdbool.h>

struct cancel {
	struct pgmqd_worker *worker;
	struct settle *settle;
	bool asking, ask_again;
	bool told;           /* that a question failed */
	struct event *retry; /* asks once more after one */
};

void cancel_init(struct cancel *c, struct pgmqd_worker *w, struct settle *settle);
void cancel_close(struct cancel *c);
/* Asks the database which messages are meant, and takes those that are in hand from the plugin. */
void cancel_ask(struct cancel *c);
void cancel_down(struct cancel *c); /* the connection is lost: the answer will not come */

#endif
