/* limits.h: the limits of a queue out of its section: how many messages in a time, and how many at once. */
#ifndef LIMITS_H
#define LIMITS_H

#include "settings/settings.h"

#include <stdbool.h>

/* All zero: the queue asks for none, and pays for none. A key is the text of a header or of a place in the body. */
struct limits {
	double rate;       /* messages a second; 0: any number */
	double burst;      /* of them at once, after a pause that was long enough */
	bool rate_by_key;  /* each key has that rate by itself, else the queue as a whole */
	bool rate_here;    /* each worker process has it by itself, else all dispatchers together */
	unsigned at_once;  /* messages of the queue in hand, over all dispatchers; 0: any number */
	unsigned of_a_key; /* messages of one key in hand, over all dispatchers; 0: any number */
	bool fair;         /* keys take turns by their weights */
	bool leaves_one;   /* and the last free place of a process is for a key with nothing in hand */
	const char *key;   /* header:NAME or body:/PATH as in the settings; NULL: no key is asked for */
};

#define LIMITS_LEAVE_FROM 4 /* places that a process has to have, so that one of them may be left */

/* Reads them. NULL on success, else a malloc'd sentence that says what is wrong. */
char *limits_read(const struct queue_settings *q, struct limits *limits);
bool limits_any(const struct limits *limits);

#endif
