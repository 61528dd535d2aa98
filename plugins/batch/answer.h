/* answer.h: an outcome that a program or a receiver answers: a JSON object; and an array of them. */
#ifndef BATCH_ANSWER_H
#define BATCH_ANSWER_H

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

enum answer_kind {
	ANSWER_DONE = 0,
	ANSWER_RETRY,
	ANSWER_FAIL,
	ANSWER_POSTPONE,
	ANSWER_REPLACE,
	ANSWER_CONFIG,
	ANSWER_DONE_WITH,
	ANSWER_RETRY_KEY,
	ANSWER_KINDS
};

#define ANSWER_BIT(kind) (1U << (kind))
#define ANSWER_SENDS ANSWER_BIT(ANSWER_KINDS) /* other messages along with it */
#define ANSWER_ANY (ANSWER_SENDS * 2 - 1)

struct answer {
	enum answer_kind kind;
	double id; /* of its message; -1: it names none */
	cJSON *json;
	const char *reason;
	int64_t delay_ms;
	char *message; /* replace: as it stands in the line */
	const char *sql;
	char *result;  /* done: as it stands in the line; NULL: none */
	char *sends;   /* done, done_with: an array of messages, as it stands there; NULL: none */
	char **params; /* done_with: NULL is null */
	int nparams;
};

/* What it takes for a receiver to be allowed that answer. */
unsigned answer_bits(const struct answer *a);
/* Takes a line apart. False: it is no outcome. Free *a either way. */
bool answer_parse(const char *line, struct answer *a);
void answer_free(struct answer *a);

/* The elements of a JSON array, one after the other, as they stand there. */
struct answers {
	const char *at;
};
bool answers_open(struct answers *all, const char *text); /* false: the text is no array */
char *answers_next(struct answers *all);                  /* malloc'd; NULL at the end */

/* Settles a message as the answer says. */
void answer_settle(const struct answer *a, struct pgmqd_msg *m);

#endif
