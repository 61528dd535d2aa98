/* compose.h: makes the mail out of the message. */
#ifndef EMAIL_COMPOSE_H
#define EMAIL_COMPOSE_H

#include "sending.h"

/* Takes the message apart and names the mail. NULL, or why the message can never be sent (g_malloc'd). */
char *compose_begin(struct sending *s);
/* How many ms there are until the mail is of no use any more. */
int64_t compose_time_left(const struct sending *s);
/* Warns of something in messages that nothing is done with, once for each name for as long as the worker lives. */
void compose_warn_once(struct sending *s, const char *name, const char *what);
/* The name in a link to unsubscribe; g_malloc'd. */
char *compose_unsubscribe_token(const struct sending *s);
/* Renders and makes the bytes. The same as compose_begin(); with *config set, why no message can be. */
char *compose_end(struct sending *s, bool *config);

/* Signs a piece of the mail that compose_end() has made. False: there is more to do. True: it is signed, or needs no
 * signature, or *reason (g_malloc'd) says why the settings are wrong. */
bool compose_sign(struct sending *s, char **reason);

#endif
