/* token.h: an OAuth token: out of a file, or what a command prints. */
#ifndef EMAIL_TOKEN_H
#define EMAIL_TOKEN_H

#include <stdbool.h>

struct pgmqd_worker;
struct token;

/* `file` or `command` is where it comes from; both NULL: NULL. */
struct token *token_new(const char *file, const char *command);
void token_free(struct token *t);

/* The token, now or later: `done` runs once, perhaps from inside this call, with the token or with why there is none.
 * `fresh`: one that was had before will not do. */
void token_get(struct token *t, struct pgmqd_worker *w, bool fresh,
	void (*done)(void *arg, const char *token, const char *why), void *arg);
/* The same, and waits for it, for pgmqd doctor. g_malloc'd, or NULL and *why (g_malloc'd). */
char *token_wait(struct token *t, char **why);

#endif
