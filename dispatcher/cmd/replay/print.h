/* print.h: what a replay has found, for people and for programs. */
#ifndef REPLAY_PRINT_H
#define REPLAY_PRINT_H

#include "cmd/replay/findings.h"

struct cJSON;

/* The request for output. */
struct print_request {
	const char *queue;
	bool dead, compared, show;
	size_t messages;
};

/* A record as it may be shown: mails taken apart, no keys of services, and without `show` no personal data. The caller
 * deletes it. */
struct cJSON *print_record(const struct replay_message *m, bool show, const struct cJSON *record);

/* One line of JSON for a message; `old` may be NULL. */
void print_replayed(const struct replay_message *m, bool show, const struct cJSON *new, const struct cJSON *old);

/* The findings as an object, which the caller deletes. */
struct cJSON *print_summary(const struct print_request *q, const struct findings *f, const struct replay_messages *m);

/* The findings for people. */
void print_findings(const struct print_request *q, const struct findings *f, const struct replay_messages *m);

#endif
