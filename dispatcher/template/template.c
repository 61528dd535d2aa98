/* template.c: the set of mail templates: found by name and language, and rendered. */
#include "config.h"

#include "base/xalloc.h"
#include "template/brand.h"
#include "template/template_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define LANG_MAX_LEN 35 /* RFC 5646 asks for at least so many */

/* ------------------------------------------------------------------ names */

/* True for ^[a-z0-9_]{1,64}$. */
bool template_name_ok(const char *s, size_t len)
{
	return len >= 1 && len <= TEMPLATE_NAME_MAX && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") >= len;
}

/* Makes a name out of a message fit for an error text: no control characters, cut to fit. */
static char *name_for_people(const char *name)
{
	char *s = xstrndup(name, strnlen(name, TEMPLATE_NAME_MAX));

	for (char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
	return s;
}

/* ------------------------------------------------------------------ finding */

/* Orders templates by name, then language. */
static int template_cmp(const void *a, const void *b)
{
	const struct template *x = a, *y = b;
	int rc = strcmp(x->name, y->name);

	return rc ? rc : strcasecmp(x->lang->name, y->lang->name);
}

/* The template of exactly that name and language, or NULL. */
struct template *template_find(struct template_set *t, const char *name, const char *lang)
{
	for (size_t i = 0; i < t->ntemplates; i++)
		if (strcmp(t->templates[i].name, name) == 0 && strcasecmp(t->templates[i].lang->name, lang) == 0)
			return &t->templates[i];
	return NULL;
}

/* The template in a language, or in a more general one: ru-RU, then ru. */
static struct template *template_find_kin(struct template_set *t, const char *name, const char *lang)
{
	char *tag = xstrdup(lang), *cut;
	struct template *found;

	for (char *p = tag; *p; p++)
		if (*p == '_')
			*p = '-';
	while (!(found = template_find(t, name, tag)) && (cut = strrchr(tag, '-')) != NULL)
		*cut = '\0';
	free(tag);
	return found;
}

/* The partial of that name: the language's own, else the shared one. */
const struct mustache *template_partial(const struct language *lang, const char *name)
{
	for (; lang; lang = lang->common)
		for (size_t i = 0; i < lang->npartials; i++)
			if (strcmp(lang->partials[i].name, name) == 0)
				return lang->partials[i].compiled;
	return NULL;
}

/* The same for the renderer. */
static const struct mustache *find_partial(void *arg, const char *name)
{
	return template_partial(arg, name);
}

/* ------------------------------------------------------------------ loading */

/* The directory of the templates that came with pgmqd. */
const char *template_shipped(void)
{
	const char *dir = getenv("PGMQD_TEMPLATE_DIR");

	return dir && *dir ? dir : PGMQD_DATADIR "/templates";
}

/* Reads the directory below, then the user's own over it. */
struct template_set *template_load(const struct template_source *source, char **error)
{
	struct template_set *t = xcalloc(1, sizeof *t);
	struct stat own, below;
	bool two = source->below && stat(source->below, &below) == 0 && stat(source->dir, &own) == 0 &&
	           (own.st_dev != below.st_dev || own.st_ino != below.st_ino);

	*error = NULL;
	t->default_lang = xstrdup(source->default_lang);
	t->dir = xstrdup(source->dir);
	t->brand = brand_variables(source->brand);
	if ((two && template_read(t, source->below, error) != 0) || template_read(t, source->dir, error) != 0 ||
		template_check(t, error) != 0) {
		template_free(t);
		return NULL;
	}
	if (t->ntemplates == 0) {
		*error = xasprintf("%s: no templates in it (LANG/NAME.subject.mustache and so on)", source->dir);
		template_free(t);
		return NULL;
	}
	qsort(t->templates, t->ntemplates, sizeof *t->templates, template_cmp);
	return t;
}

/* Frees a set; NULL is fine. */
void template_free(struct template_set *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->ntemplates; i++) {
		struct template *x = &t->templates[i];
		for (int part = 0; part < TEMPLATE_NPARTS; part++) {
			mustache_free(x->part[part]);
			free(x->path[part]);
		}
		for (size_t k = 0; k < x->nrequired; k++)
			free(x->required[k]);
		for (size_t k = 0; k < x->nfallbacks; k++) {
			free(x->fallbacks[k].name);
			free(x->fallbacks[k].text);
		}
		free(x->fallbacks);
		free(x->required);
		free(x->name);
	}
	for (size_t i = 0; i < t->nlangs; i++) {
		for (size_t k = 0; k < t->langs[i]->npartials; k++) {
			mustache_free(t->langs[i]->partials[k].compiled);
			free(t->langs[i]->partials[k].name);
			free(t->langs[i]->partials[k].path);
		}
		free(t->langs[i]->partials);
		free(t->langs[i]->name);
		free(t->langs[i]);
	}
	free(t->langs);
	free(t->templates);
	free(t->default_lang);
	free(t->dir);
	cJSON_Delete(t->brand);
	free(t);
}

/* Calls cb for each template. */
void template_each(struct template_set *t, void (*cb)(void *arg, const char *name, const char *lang), void *arg)
{
	for (size_t i = 0; i < t->ntemplates; i++)
		cb(arg, t->templates[i].name, t->templates[i].lang->name);
}

/* True when there is a template of that name, in any language. */
bool template_exists(const struct template_set *t, const char *name)
{
	for (size_t i = 0; i < t->ntemplates; i++)
		if (strcmp(t->templates[i].name, name) == 0)
			return true;
	return false;
}

/* ------------------------------------------------------------------ rendering */

/* Takes the blanks off both ends of a subject, in place. NULL, or what is wrong with the rest. */
static const char *subject_trim(char *s)
{
	size_t len = strlen(s), skip = strspn(s, " \t\r\n");

	memmove(s, s + skip, len - skip + 1);
	for (len -= skip; len > 0 && strchr(" \t\r\n", s[len - 1]); len--)
		s[len - 1] = '\0';
	if (len == 0)
		return "it is empty";
	for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
		bool separator = p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9); /* U+2028 and U+2029 */
		if (*p < 0x20 || *p == 0x7f || c1 || separator)
			return "a line break or control character is in it";
	}
	return NULL;
}

/* Renders the parts of a template that was found. */
static void render_parts(struct template *x, const cJSON *vars, struct template_result *r)
{
	char *missing = template_missing(x, vars);

	if (missing) {
		r->error = xasprintf("template \"%s\" (%s): required variables are missing or empty: %s", x->name,
			x->lang->name, missing);
		free(missing);
		return;
	}
	for (int part = 0; part < TEMPLATE_NPARTS; part++) {
		enum render_escape escape = part == TEMPLATE_HTML ? RENDER_HTML : RENDER_PLAIN;
		char *why = NULL;
		r->part[part] = render_mustache(x->part[part], vars, escape, find_partial, (void *)x->lang, NULL, &why);
		if (!r->part[part]) {
			r->error = xasprintf("template \"%s\" (%s): %s", x->name, x->lang->name, why);
			free(why);
			return;
		}
	}
	const char *why = subject_trim(r->part[TEMPLATE_SUBJECT]);
	if (why)
		r->error = xasprintf(
			"template \"%s\" (%s): the subject cannot be used: %s", x->name, x->lang->name, why);
}

/* Renders the three parts of a template. */
int template_render(
	struct template_set *t, const char *name, const char *lang, const cJSON *vars, struct template_result *result)
{
	struct template *x = NULL;

	*result = (struct template_result){ 0 };
	if (!template_name_ok(name,
		    strlen(name))) { /* it is not repeated: there may be anything in it, an address for instance */
		result->error = xasprintf(
			"template: not a template's name (1 to %d of a-z, 0-9 and _)", TEMPLATE_NAME_MAX);
		return -1;
	}
	if (vars && !cJSON_IsObject(vars)) {
		result->error = xasprintf("template \"%s\": the variables are not a JSON object", name);
		return -1;
	}
	if (lang && strlen(lang) <= LANG_MAX_LEN)
		x = template_find_kin(t, name, lang);
	if (!x && t->default_lang)
		x = template_find_kin(t, name, t->default_lang);
	if (!x) {
		char *shown = lang || t->default_lang ? name_for_people(lang ? lang : t->default_lang) : NULL;
		result->error = xasprintf("no template \"%s\"%s%s (looked in %s)", name, shown ? " in language " : "",
			shown ? shown : "", t->dir);
		free(shown);
		return -1;
	}
	cJSON *all = template_variables(t, x, vars);
	render_parts(x, all, result);
	cJSON_Delete(all);
	if (!result->error) {
		result->lang = xstrdup(x->lang->name);
		return 0;
	}
	for (int part = 0; part < TEMPLATE_NPARTS; part++) {
		free(result->part[part]);
		result->part[part] = NULL;
	}
	return -1;
}

/* Frees what a result holds. */
void template_result_free(struct template_result *r)
{
	for (int part = 0; part < TEMPLATE_NPARTS; part++)
		free(r->part[part]);
	free(r->lang);
	free(r->error);
	*r = (struct template_result){ 0 };
}
