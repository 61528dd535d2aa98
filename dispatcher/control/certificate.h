/* certificate.h: certificates by which events of mail services are verified, fetched once from where they are. */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <event2/event.h>
#include <stdbool.h>

struct certificates;

struct certificates *certificates_new(struct event_base *base);
void certificates_free(struct certificates *c);

/* The PEM text that was fetched from an address; NULL: none was. */
const char *certificates_find(const struct certificates *c, const char *url);

/* Fetches one, and calls `done` when it is there or cannot be had. False: another fetch is under way, and `done` is not
 * called. The address is not checked here. */
bool certificates_fetch(struct certificates *c, const char *url, void (*done)(void *arg), void *arg);

#endif
