/* mask.h: hides what is of one message alone: personal data in what is shown, and what differs in each run in what is
 * compared. */
#ifndef MASK_H
#define MASK_H

#include <stdbool.h>

struct cJSON;
struct mask;

/* For a message: its own texts are known by their places in it. */
struct mask *mask_new(const char *message);
void mask_free(struct mask *m);

/* Replaces the message's own texts by their names, and mail addresses and long numbers wherever they come from.
 * Malloc'd. */
char *mask_personal(const struct mask *m, const char *text);
/* Replaces every string within an object. */
void mask_personal_in(const struct mask *m, struct cJSON *object);

/* Replaces times, UUIDs and random tokens that the message does not contain: two runs of one version are equal then.
 * Malloc'd. */
char *mask_random(const struct mask *m, const char *text);

#endif
