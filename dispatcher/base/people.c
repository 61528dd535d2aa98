/* people.c: the people who may use the HTTP server: a name, a token and a role each. */
#include "config.h"

#include "base/people.h"

#include "base/xalloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PEOPLE_NAME_MAX 60
#define PEOPLE_BETWEEN ", \t"

static const char *const people_roles[] = { "none", "look", "bodies", "act" };

const char *people_role_name(enum people_role role)
{
	return people_roles[role];
}

/* Whether two tokens are the same, in a time that depends on the length of `given` only. */
static bool people_token_is(const char *token, const char *given)
{
	size_t n = strlen(token), len = strlen(given);
	unsigned char diff = n != len;

	for (size_t i = 0; i < len; i++)
		diff |= (unsigned char)(given[i] ^ token[n > 0 ? i % n : 0]);
	return n > 0 && diff == 0;
}

/* Compares with every token, also behind the one that fits. */
const struct person *people_find(const struct people *p, const char *token)
{
	const struct person *found = NULL;

	for (size_t i = 0; i < p->n; i++)
		if (people_token_is(p->list[i].token, token))
			found = &p->list[i];
	return found;
}

void people_add(struct people *p, const char *name, enum people_role role, const char *token)
{
	p->list = xrealloc(p->list, p->n + 1, sizeof *p->list);
	p->list[p->n++] = (struct person){ .name = xstrdup(name), .token = xstrdup(token), .role = role };
}

/* Reads one person out of text that is cut into words here. */
static char *people_read_one(struct people *p, char *text)
{
	char *role = strchr(text, ':'), *token = role != NULL ? strchr(role + 1, ':') : NULL;
	enum people_role r = PEOPLE_LOOK;

	if (token == NULL || role == text || role - text > PEOPLE_NAME_MAX)
		return xasprintf(
			"each one is NAME:ROLE:TOKEN (a name of up to %d bytes), separated by blanks", PEOPLE_NAME_MAX);
	*role++ = '\0';
	*token++ = '\0';
	while (r <= PEOPLE_ACT && strcmp(role, people_roles[r]) != 0)
		r++;
	if (r > PEOPLE_ACT)
		return xasprintf("%s has a role that is none of look, bodies and act", text);
	if (strlen(token) < PEOPLE_TOKEN_MIN)
		return xasprintf("the token of %s has to be %d characters or more (openssl rand -hex 32 makes one)",
			text, PEOPLE_TOKEN_MIN);
	if (people_find(p, token) != NULL)
		return xasprintf("%s has the token of somebody else", text);
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->list[i].name, text) == 0)
			return xasprintf("%s is named twice", text);
	people_add(p, text, r, token);
	return NULL;
}

char *people_read(struct people *p, const char *text)
{
	char *copy = xstrdup(text), *rest, *word, *error = NULL;

	for (word = strtok_r(copy, PEOPLE_BETWEEN, &rest); word != NULL && error == NULL;
		word = strtok_r(NULL, PEOPLE_BETWEEN, &rest))
		error = people_read_one(p, word);
	explicit_bzero(copy, strlen(text));
	free(copy);
	return error;
}

void people_free(struct people *p)
{
	for (size_t i = 0; i < p->n; i++) {
		explicit_bzero(p->list[i].token, strlen(p->list[i].token));
		free(p->list[i].token);
		free(p->list[i].name);
	}
	free(p->list);
	*p = (struct people){ 0 };
}
