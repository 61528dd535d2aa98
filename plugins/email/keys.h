/* keys.h: the keys of a message: which are known, which are meant, and which are somebody else's. */
#ifndef EMAIL_KEYS_H
#define EMAIL_KEYS_H

#include <stdbool.h>

struct cJSON;

/* Looks at the keys of a message and of its attachments. NULL, or what is wrong (g_malloc'd): a key that is nearly one
 * of ours ("Subject", "replyTo", "atachments"), or with `strict` any that is none. */
char *keys_check(const struct cJSON *json, bool strict);

/* Calls `tell` with the name of each key that is none of ours, as far as a name can be shown in a log. */
void keys_unknown(const struct cJSON *json, void (*tell)(void *arg, const char *name), void *arg);

#endif
