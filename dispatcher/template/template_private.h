/* template_private.h: the set of templates as template.c, template_read.c and template_rules.c share it. */
#ifndef TEMPLATE_PRIVATE_H
#define TEMPLATE_PRIVATE_H

#include "template/render.h"
#include "template/template.h"

#define TEMPLATE_NAME_MAX 64

struct partial {
	char *name, *path;
	struct mustache *compiled;
};

/* One folder of a language, with the partials that its templates share. */
struct language {
	char *name;
	const struct language *common; /* the partials of all languages, searched after its own */
	struct partial *partials;
	size_t npartials;
};

/* A variable that is made of others when a message does not bring it: "results_url = $app_url/assessments/$id". */
struct fallback {
	char *name, *text;
};

struct template
{
	char *name;
	const struct language *lang;
	char *path[TEMPLATE_NPARTS];
	struct mustache *part[TEMPLATE_NPARTS];
	char **required;
	size_t nrequired;
	struct fallback *fallbacks;
	size_t nfallbacks;
};

struct template_set {
	char *dir, *default_lang;
	cJSON *brand;
	struct language **langs; /* pointers, since templates point to them; the first one holds the shared partials */
	size_t nlangs;
	struct template *templates; /* sorted by name, then language, once loaded */
	size_t ntemplates;
};

/* template.c */
bool template_name_ok(const char *s, size_t len);
struct template *template_find(struct template_set *t, const char *name, const char *lang);
const struct mustache *template_partial(const struct language *lang, const char *name);

/* template_read.c: reads a directory into the set; a file replaces the one of the same name that was read before.
 * -1 and *error when one is broken. */
int template_read(struct template_set *t, const char *dir, char **error);

/* template_rules.c: checks that all parts and partials exist, and takes the "required:" and "default:" comments. */
int template_check(struct template_set *t, char **error);
/* The variables of a message with the brand's and the fallbacks added; the caller deletes them. */
cJSON *template_variables(const struct template_set *t, const struct template *x, const cJSON *vars);
/* The required variables that are not given, as "a, b" (malloc'd), or NULL. */
char *template_missing(const struct template *x, const cJSON *vars);

#endif
