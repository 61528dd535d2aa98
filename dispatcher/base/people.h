/* people.h: the people who may use the HTTP server: a name, a token and a role each. */
#ifndef PEOPLE_H
#define PEOPLE_H

#include <stddef.h>

#define PEOPLE_TOKEN_MIN 16 /* characters of a token */

/* Each role includes those before it. */
enum people_role {
	PEOPLE_NOBODY, /* is refused */
	PEOPLE_LOOK,   /* sees queues, failures and messages, without bodies and addresses */
	PEOPLE_BODIES, /* sees bodies and addresses */
	PEOPLE_ACT     /* changes things */
};

struct person {
	char *name, *token;
	enum people_role role;
};

struct people {
	struct person *list;
	size_t n;
};

/* Reads "NAME:ROLE:TOKEN ...", separated by blanks or commas, and adds them. NULL, or what is wrong, malloc'd; it
 * contains no token. */
char *people_read(struct people *p, const char *text);
void people_add(struct people *p, const char *name, enum people_role role, const char *token);
void people_free(struct people *p);

/* The one with that token, or NULL. The time depends on the lengths only, not on which token is how alike. */
const struct person *people_find(const struct people *p, const char *token);

/* "none", "look", "bodies" or "act". */
const char *people_role_name(enum people_role role);

#endif
