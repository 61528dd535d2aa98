/* answers.h: recorded answers: what a database or a server would say to a plugin that is run without them. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include <libpq-fe.h>

struct cJSON;

/* A database's answer to a statement; the user frees `res` and `error`. */
struct answer {
	PGresult *res;
	char *error; /* NULL: it succeeded */
	char sqlstate[6];
	int affected;
};

/* Reads a file of answers, one JSON object a line. NULL with *error (malloc'd). */
struct cJSON *answers_read(const char *path, char **error);

/* The first object whose member `key`, a part of `text`, fits; one without any of the keys "match", "url" and "smtp"
 * fits every statement. NULL: none. */
const struct cJSON *answers_find(const struct cJSON *answers, const char *key, const char *text);

/* {"rows": [[...]], "affected": n} or {"error": "...", "sqlstate": "..."} as the answer of a server. */
void answers_reply(const struct cJSON *object, struct answer *a);

#endif
