/* statement.c: one statement on its way over a connection, and lists of them in order. */
#include "config.h"

#include "pg/statement.h"

#include "base/xalloc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct statement *statement_new(
	const char *name, const char *sql, int nparams, const char *const *params, pgconn_result_cb cb, void *arg)
{
	struct statement *s = xcalloc(1, sizeof(*s));

	s->name = xstrdup(name);
	s->sql = xstrdup(sql);
	s->nparams = nparams;
	s->params = nparams ? xcalloc((size_t)nparams, sizeof(*s->params)) : NULL;
	for (int i = 0; i < nparams; i++)
		s->params[i] = xstrdup(params[i]);
	s->cb = cb;
	s->arg = arg;
	return s;
}

void statement_free(struct statement *s)
{
	for (int i = 0; i < s->nparams; i++)
		free(s->params[i]);
	free(s->params);
	free(s->name);
	free(s->sql);
	PQclear(s->res);
	free(s);
}

bool statement_send(const struct statement *s, PGconn *pg)
{
	const char *const *params = (const char *const *)s->params;

	if (s->sync)
		return true;
	if (s->prepare)
		return PQsendPrepare(pg, s->name, s->sql, 0, NULL);
	if (s->name)
		return PQsendQueryPrepared(pg, s->name, s->nparams, params, NULL, NULL, 0);
	return PQsendQueryParams(pg, s->sql, s->nparams, NULL, params, NULL, NULL, 0);
}

void statement_lose_all(struct statement_list *list, const char *error)
{
	struct pgresult r = { .res = NULL, .error = error, .sqlstate = "" };
	struct statement *s;

	while ((s = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, s, link);
		if (s->cb)
			s->cb(s->arg, &r);
		statement_free(s);
	}
}

void statement_free_all(struct statement_list *list)
{
	struct statement *s;

	while ((s = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, s, link);
		statement_free(s);
	}
}

/* The first statement of a group that failed; NULL when all of them succeeded. */
static struct statement *statement_first_bad(const struct statement_list *group)
{
	struct statement *s;

	TAILQ_FOREACH(s, group, link)
	{
		ExecStatusType st = s->res ? PQresultStatus(s->res) : PGRES_FATAL_ERROR;

		if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
			return s;
	}
	return NULL;
}

/* The SQLSTATE of an error. What the server calls a protocol violation while the session lives on is a statement whose
 * parameters are of another number: there is a state of its own for that, which is not that of a lost connection. A
 * pooler that ends a session uses the same one, but is fatal. */
static const char *statement_state(const PGresult *res)
{
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *severity = res ? PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED) : NULL;

	if (state && severity && strcmp(state, "08P01") == 0 && strcmp(severity, "ERROR") == 0)
		return "07001";
	return state ? state : "53200";
}

void statement_answer_all(struct statement_list *group)
{
	struct statement *s, *bad = statement_first_bad(group);

	while ((s = TAILQ_FIRST(group)) != NULL) {
		struct pgresult r = { .res = s->res, .sqlstate = "00000" };

		TAILQ_REMOVE(group, s, link);
		if (bad) { /* nothing of the group was committed, so this one error stands for all */
			const char *text = bad->res ? PQresultErrorField(bad->res, PG_DIAG_MESSAGE_PRIMARY) : NULL;

			r.error = text ? text : "no memory for the result";
			r.sqlstate = statement_state(bad->res);
		}
		if (s->cb)
			s->cb(s->arg, &r);
		if (s != bad)
			statement_free(s);
	}
	if (bad)
		statement_free(bad);
}

/* Skips blanks, comments and empty statements in front of a statement. */
static const char *statement_skip_blanks(const char *s)
{
	int depth = 0;

	while (*s) {
		if (s[0] == '/' && s[1] == '*') {
			depth++;
			s += 2;
		} else if (depth && s[0] == '*' && s[1] == '/') {
			depth--;
			s += 2;
		} else if (depth || isspace((unsigned char)*s) || *s == ';') {
			s++;
		} else if (s[0] == '-' && s[1] == '-') {
			s += strcspn(s, "\n");
		} else {
			break;
		}
	}
	return s;
}

/* Whether a text starts with this word. */
static bool statement_starts(const char *s, const char *word)
{
	size_t len = strlen(word);

	return strncasecmp(s, word, len) == 0 && !isalnum((unsigned char)s[len]) && s[len] != '_';
}

bool statement_is_transaction_control(const char *sql)
{
	static const char *const words[] = { "BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT",
		"RELEASE" };
	const char *s = statement_skip_blanks(sql);

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (statement_starts(s, words[i]))
			return true;
	return statement_starts(s, "PREPARE") && statement_starts(statement_skip_blanks(s + 7), "TRANSACTION");
}
