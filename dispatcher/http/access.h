/* access.h: who may ask for what: the name of this server, the token, and what keeps other sites' pages out. */
#ifndef HTTPGUARD_H
#define HTTPGUARD_H

#include "http/request.h"

/* Whether the request is meant for this server, by its Host. False: it was answered with 421. */
bool httpguard_host(struct httpcall *call);

/* Whether the call's route may be used by whoever asks, with the body that came. False: it was answered, with 401, 403,
 * 411, 413 or 415. Sets call->authorized. */
bool httpguard_route(struct httpcall *call);

/* Compares in a time that depends on the length of `given` only. For tests, too. */
bool httpguard_token_is(const char *token, const char *given);

#endif
