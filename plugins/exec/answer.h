/* answer.h: what a program of the pool answers: one line, a JSON object. */
#ifndef EXEC_ANSWER_H
#define EXEC_ANSWER_H

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
	ANSWER_KINDS
};

struct answer {
	enum answer_kind kind;
	cJSON *json;
	const char *reason;
	int64_t delay_ms;
	char *message; /* replace: as it stands in the line */
	const char *sql;
	char **params; /* done_with: NULL is null */
	int nparams;
};

/* Takes a line apart. False: it is no answer to message `id`. Free *a either way. */
bool answer_parse(const char *line, int64_t id, struct answer *a);
void answer_free(struct answer *a);

/* Settles a message as the answer says. */
void answer_settle(const struct answer *a, struct pgmqd_msg *m);

#endif
