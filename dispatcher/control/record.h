/* record.h: what was settled, kept in the database for a month, and the dispatchers of it. */
#ifndef CONTROL_RECORD_H
#define CONTROL_RECORD_H

#include "control/context.h"

/* Writes down what was settled since the last time, and that this dispatcher lives; to be called every RECORD_EVERY_S
 * seconds. False: there is no database now, and nothing was taken. */
#define RECORD_EVERY_S 60
#define RECORD_FIRST_S 6 /* after the start: what runs is known then */
bool record_write(struct control *c);

void record_history(struct http_request *req);
void record_dispatchers(struct http_request *req);

#endif
