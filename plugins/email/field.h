/* field.h: a message's fields, checked: strings, texts for headers, addresses. */
#ifndef EMAIL_FIELD_H
#define EMAIL_FIELD_H

#include <stddef.h>

struct cJSON;

/* An address for people, `Name <address>`. */
struct mailbox {
	char *name;    /* NULL: none */
	char *address; /* ASCII form; NULL: there is no mailbox */
};

/* A name with a value, or without one (NULL). */
struct pair {
	char *name, *value;
};
struct pairs {
	struct pair *list;
	size_t n;
};

/* The functions that return char * return NULL, or a reason that names the key and never repeats a value (g_malloc'd).
 */

/* A key's value, NULL when it is absent or null. */
const struct cJSON *field_member(const struct cJSON *object, const char *key);
/* Copies an optional string; an empty one counts as not given. */
char *field_string(const struct cJSON *object, const char *key, char **out);
/* The same for a text that goes into a header. */
char *field_header(const struct cJSON *object, const char *key, char **out);
/* The same for one mailbox. */
char *field_mailbox(const struct cJSON *object, const char *key, struct mailbox *out);
/* The same for headers that a message may set. */
char *field_headers(const struct cJSON *object, struct pairs *out);
/* The same for labels of a mail service: `tags`, a list of words, and `metadata`, an object of texts. */
char *field_tags(const struct cJSON *object, struct pairs *out);
char *field_metadata(const struct cJSON *object, struct pairs *out);

void field_mailbox_clear(struct mailbox *m);
void field_pairs_clear(struct pairs *p);
/* Whether there is one of that name, in any case. */
int field_pairs_have(const struct pairs *p, const char *name);

/* Puts `where` in front of a reason, which it frees; NULL stays NULL. */
char *field_at(char *reason, const char *where, ...) __attribute__((format(printf, 2, 3)));

#endif
