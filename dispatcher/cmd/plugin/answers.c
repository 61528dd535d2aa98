/* answers.c: recorded answers: the file of --answers, and what it says to a statement. */
#include "config.h"

#include "cmd/plugin/answers.h"

#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cJSON *answers_read(const char *path, char **error)
{
	cJSON *answers = cJSON_CreateArray();
	FILE *f = fopen(path, "re");
	char *line = NULL;
	unsigned n = 0;
	size_t size = 0;

	*error = f ? NULL : xasprintf("--answers: cannot read %s: %s", path, strerror(errno));
	while (!*error && getline(&line, &size, f) >= 0) {
		cJSON *a = cJSON_Parse(line);

		n++;
		if (cJSON_IsObject(a))
			cJSON_AddItemToArray(answers, a);
		else if (line[strspn(line, " \t\r\n")])
			*error = xasprintf("%s:%u: not a JSON object", path, n);
		if (!cJSON_IsObject(a))
			cJSON_Delete(a);
	}
	free(line);
	if (f)
		fclose(f);
	if (!*error)
		return answers;
	cJSON_Delete(answers);
	return NULL;
}

const cJSON *answers_find(const cJSON *answers, const char *key, const char *text)
{
	static const char *const keys[] = { "match", "url", "smtp" };
	const cJSON *a, *part;

	cJSON_ArrayForEach(a, answers)
	{
		bool keyless = strcmp(key, "match") == 0;

		for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
			keyless = keyless && !cJSON_IsString(cJSON_GetObjectItemCaseSensitive(a, keys[i]));
		part = cJSON_GetObjectItemCaseSensitive(a, key);
		if (keyless || (cJSON_IsString(part) && strstr(text, part->valuestring)))
			return a;
	}
	return NULL;
}

/* Rows as a result of the server's. */
static PGresult *make_rows(const cJSON *rows)
{
	PGresult *res = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	int ncols = cJSON_GetArraySize(cJSON_GetArrayItem(rows, 0)), r = 0, c;
	PGresAttDesc *cols = xcalloc((size_t)ncols + 1, sizeof(*cols));
	const cJSON *row, *value;
	char name[] = "column";

	for (c = 0; c < ncols; c++)
		cols[c].name = name;
	if (!res || (ncols && !PQsetResultAttrs(res, ncols, cols)))
		abort();
	cJSON_ArrayForEach(row, rows)
	{
		c = 0;
		cJSON_ArrayForEach(value, row)
		{
			char *text = cJSON_IsNull(value)     ? NULL
			             : cJSON_IsString(value) ? xstrdup(value->valuestring)
			                                     : cJSON_PrintUnformatted(value);

			if (c < ncols && !PQsetvalue(res, r, c++, text, text ? (int)strlen(text) : -1))
				abort();
			free(text);
		}
		r++;
	}
	free(cols);
	return res;
}

void answers_reply(const cJSON *object, struct answer *a)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(object, "error");
	const cJSON *state = cJSON_GetObjectItemCaseSensitive(object, "sqlstate");
	const cJSON *affected = cJSON_GetObjectItemCaseSensitive(object, "affected");

	if (cJSON_IsString(error)) {
		a->error = xstrdup(error->valuestring);
		snprintf(a->sqlstate, sizeof(a->sqlstate), "%s", cJSON_IsString(state) ? state->valuestring : "XX000");
	} else {
		a->res = make_rows(cJSON_GetObjectItemCaseSensitive(object, "rows"));
		strcpy(a->sqlstate, "00000");
	}
	a->affected = cJSON_IsNumber(affected) ? affected->valueint : 0;
}
