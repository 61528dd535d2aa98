/* findings.h: what a replay has found, over all messages: outcomes, effects, differences by their kind, dead letters by
 * their reason. */
#ifndef FINDINGS_H
#define FINDINGS_H

#include "cmd/replay/compare.h"
#include "cmd/replay/replay_private.h"

#include <stdio.h>

/* How many messages share something. */
struct findings_count {
	char *name;
	size_t n, good; /* good: of these, how many would now be done */
};
struct findings_counts {
	struct findings_count *list;
	size_t n;
};

/* A kind of difference, and one sample of it. */
struct findings_group {
	char *kind, *sign; /* sign: what tells it from others of the kind */
	char *from, *to;
	size_t n, message; /* message: the sample's place in the list */
};

/* Of one version. */
struct findings_side {
	struct findings_counts outcomes, effects;
	double *ms; /* of each message that was recorded */
	size_t nms;
};

struct findings {
	struct findings_side sides[2]; /* new, old */
	struct findings_group *groups;
	size_t ngroups;
	size_t different;               /* messages that differ */
	size_t bad;                     /* messages that crash or have no outcome with the new version */
	size_t worse;                   /* messages that are not done with the new version */
	size_t unwritten;               /* statements of the new version that write, and were not run */
	struct findings_counts reasons; /* of dead letters */
	size_t *good;                   /* dead letters that would now be done, by their places */
	size_t ngood;
	double seconds;
};

/* Takes one message in. `old` is NULL without a version to compare with. */
void findings_take(struct findings *f, const struct replay_message *m, size_t place, bool dead, bool show,
	const struct cJSON *new, const struct cJSON *old);
void findings_sort(struct findings *f); /* when all are in */
double findings_median(const struct findings_side *s);
void findings_free(struct findings *f);

#endif
