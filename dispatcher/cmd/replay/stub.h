/* stub.h: stands in for every server that a plugin's transfers lead to: takes requests and mails, records them and
 * answers. Both ends of each connection are in this process. */
#ifndef STUB_H
#define STUB_H

#include <stdbool.h>
#include <stddef.h>

struct cJSON;
struct event_base;
struct stub;
struct transfers;

/* Diverts all transfers. `effect` takes what was recorded (and owns it); `answers` may be NULL. */
struct stub *stub_new(struct event_base *base, struct transfers *transfers, const struct cJSON *answers,
	void (*effect)(void *arg, struct cJSON *effect), void *arg);
void stub_free(struct stub *s);

#endif
