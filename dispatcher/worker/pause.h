/* pause.h: whether a queue pauses, and why: by an operator, after a configuration error, or on trial after one. */
#ifndef PAUSE_H
#define PAUSE_H

#include "worker/plugin_call.h"

#include <event2/event.h>
#include <stdbool.h>

/* One state at a time: what is known of operators wins over errors. */
enum pause_state {
	PAUSE_NONE = 0,
	PAUSE_TRIAL,    /* after a configuration error: one message at a time, until one succeeds */
	PAUSE_ERROR,    /* a configuration error: no claims for a while */
	PAUSE_UNKNOWN,  /* not known whether an operator has paused the queue: no claims until the database says so */
	PAUSE_OPERATOR, /* paused until an operator resumes it */
};

struct pause {
	struct pgmqd_worker *worker;
	void (*changed)(void *arg); /* the state is another one */
	void *arg;
	enum pause_state state;
	enum pause_state after; /* NONE, TRIAL or ERROR: the state when no operator pauses the queue */
	unsigned errors;        /* configuration errors in a row, without a success between them */
	bool asking;            /* the database is being asked */
	bool ask_again;         /* something may have changed since it was asked */
	bool operated; /* an operator has changed something: the answer ends a pause after a configuration error, too */
	bool told;     /* an error of the question was logged */
	struct event *timer, *retry;
};

void pause_init(struct pause *p, struct pgmqd_worker *w, void (*changed)(void *arg), void *arg);
void pause_close(struct pause *p);
void pause_ask(struct pause *p);      /* what does the database say? */
void pause_operated(struct pause *p); /* an operator has paused or resumed the queue: asks */
void pause_down(struct pause *p);     /* the connection is lost: what is known of operators is not known any more */
void pause_drain(struct pause *p);    /* nothing is claimed any more */
void pause_error(struct pause *p, const char *reason); /* a configuration error */
/* A server that the plugin needs is away: the same, for `ms`. */
void pause_away(struct pause *p, int64_t ms, const char *reason);
void pause_success(struct pause *p); /* a message had its effect */
void pause_resume(struct pause *p);  /* a pause after a configuration error ends now, on trial */

/* Whether nothing may be claimed or delivered. */
bool pause_holds(const struct pause *p);

#endif
