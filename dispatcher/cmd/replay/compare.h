/* compare.h: what differs between two runs of one message. */
#ifndef COMPARE_H
#define COMPARE_H

#include <stdbool.h>

struct cJSON;
struct mask;

/* One difference: its kind ("mail subject"), and what stood there and what stands there now, as short as can be;
 * `sign_from` and `sign_to` are the same without what is of this message alone. */
struct compare_change {
	const char *kind, *from, *to, *sign_from, *sign_to;
};
typedef void (*compare_cb)(void *arg, const struct compare_change *change);

/* Tells each difference between two records. `show`: personal data is not masked. */
void compare_records(const struct mask *mask, bool show, const struct cJSON *new, const struct cJSON *old,
	compare_cb found, void *arg);

/* The mail of an effect taken apart, or NULL when it is none; the caller deletes it. */
struct cJSON *compare_mail(const struct cJSON *effect);

#endif
