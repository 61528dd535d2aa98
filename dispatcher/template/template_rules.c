/* template_rules.c: the rules in the templates' comments: variables that are required, and variables made of others. */
#include "config.h"

#include "base/xalloc.h"
#include "template/template_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[TEMPLATE_NPARTS] = { "subject", "txt", "html" };

/* The state of a walk over a template's tags. */
struct check {
	struct template *template; /* NULL: a partial is checked */
	const struct language *lang;
	const char *path;
	char **error;
	unsigned depth; /* of partials */
};

/* ------------------------------------------------------------------ loading */

/* A missing partial is an error here: the specification renders it as nothing, which would leave a hole in a mail. */
static int check_partial(void *arg, const char *name, unsigned line)
{
	struct check *c = arg;

	if (template_partial(c->lang, name))
		return 0;
	*c->error = xasprintf("%s:%u: there is no partial \"%s\" (%s/partials/%s.mustache or partials/%s.mustache)",
		c->path, line, name, c->lang->name, name, name);
	return -1;
}

/* True for the name of a variable: words of letters, digits and _, with dots between them. */
static bool variable_ok(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && name[0] != '.' && name[len - 1] != '.' && !strstr(name, "..") &&
	       !strpbrk(name, "$={}<>\"' \t");
}

/* Takes "a b.c" behind "required:". */
static int take_required(struct check *c, char *list, unsigned line)
{
	static const char separators[] = " \t\r\n,";
	struct template *t = c->template;
	char *save, *name;

	for (name = strtok_r(list, separators, &save); name; name = strtok_r(NULL, separators, &save)) {
		size_t i = 0;
		if (!variable_ok(name)) {
			*c->error = xasprintf("%s:%u: \"%s\" is not the name of a variable", c->path, line, name);
			return -1;
		}
		while (i < t->nrequired && strcmp(t->required[i], name) != 0)
			i++;
		if (i < t->nrequired)
			continue;
		t->required = xrealloc(t->required, t->nrequired + 1, sizeof *t->required);
		t->required[t->nrequired++] = xstrdup(name);
	}
	return 0;
}

/* Takes "name = text with $variables" behind "default:". */
static int take_fallback(struct check *c, char *rule, unsigned line)
{
	struct template *t = c->template;
	char *text = strchr(rule, '='), *name = rule + strspn(rule, " \t\r\n");

	if (text) {
		*text++ = '\0';
		name[strcspn(name, " \t\r\n")] = '\0';
		text += strspn(text, " \t\r\n");
		for (size_t len = strlen(text); len > 0 && strchr(" \t\r\n", text[len - 1]); len--)
			text[len - 1] = '\0';
	}
	if (!text || !variable_ok(name) || strchr(name, '.') || !*text) {
		*c->error = xasprintf(
			"%s:%u: a default is written \"default: name = text with $variables\"", c->path, line);
		return -1;
	}
	for (size_t i = 0; i < t->nfallbacks; i++)
		if (strcmp(t->fallbacks[i].name, name) == 0 && strcmp(t->fallbacks[i].text, text) == 0)
			return 0;
	t->fallbacks = xrealloc(t->fallbacks, t->nfallbacks + 1, sizeof *t->fallbacks);
	t->fallbacks[t->nfallbacks++] = (struct fallback){ .name = xstrdup(name), .text = xstrdup(text) };
	return 0;
}

/* Takes a comment's rule, if it is one. */
static int take_comment(void *arg, const char *text, size_t len, unsigned line)
{
	static const struct {
		const char *word;
		int (*take)(struct check *c, char *rule, unsigned line);
	} rules[] = { { "required:", take_required }, { "default:", take_fallback } };

	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
		size_t n = strlen(rules[i].word);
		if (len < n || memcmp(text, rules[i].word, n) != 0)
			continue;
		char *rule = xstrndup(text + n, len - n);
		int rc = rules[i].take(arg, rule, line);
		free(rule);
		return rc;
	}
	return 0;
}

static int take_rules(struct check *c, const struct mustache *m);

/* Takes the rules of a partial. */
static int take_partial(void *arg, const char *name, unsigned line)
{
	struct check inner = *(const struct check *)arg;
	const struct mustache *partial = template_partial(inner.lang, name);

	(void)line;
	return partial && inner.depth++ < RENDER_MAX_PARTIALS ? take_rules(&inner, partial) : 0;
}

/* Takes the rules of a part or partial, and of the partials that it uses. */
static int take_rules(struct check *c, const struct mustache *m)
{
	return mustache_each_comment(m, take_comment, c) != 0 || mustache_each_partial(m, take_partial, c) != 0 ? -1
	                                                                                                        : 0;
}

/* Checks that everything the templates name exists, and takes their rules. */
int template_check(struct template_set *t, char **error)
{
	/* Shared partials may use a language's own, so they are checked once for each language. */
	for (size_t i = 1; i < t->nlangs; i++) {
		for (const struct language *from = t->langs[i]; from; from = from->common) {
			for (size_t k = 0; k < from->npartials; k++) {
				struct check c = {
					.lang = t->langs[i], .path = from->partials[k].path, .error = error
				};
				if (mustache_each_partial(from->partials[k].compiled, check_partial, &c) != 0)
					return -1;
			}
		}
	}
	for (size_t i = 0; i < t->ntemplates; i++) {
		struct template *x = &t->templates[i];
		for (int part = 0; part < TEMPLATE_NPARTS; part++) {
			struct check c = { .template = x, .lang = x->lang, .path = x->path[part], .error = error };
			if (!x->part[part]) {
				const char *other = x->path[0] ? x->path[0] : x->path[1] ? x->path[1] : x->path[2];
				int dir = (int)(strrchr(other, '/') - other);
				*error = xasprintf("%.*s/%s.%s.mustache"
						   ": missing; a template needs subject, txt and html",
					dir, other, x->name, part_names[part]);
				return -1;
			}
			if (mustache_each_partial(x->part[part], check_partial, &c) != 0 ||
				take_rules(&c, x->part[part]) != 0)
				return -1;
		}
	}
	return 0;
}

/* ------------------------------------------------------------------ rendering */

/* The value of a variable, "a.b" for a member; NULL when it is missing, null or "". */
static const cJSON *given(const cJSON *vars, const char *name)
{
	char *copy = xstrdup(name), *save, *part;
	const cJSON *v = vars;

	for (part = strtok_r(copy, ".", &save); part && v; part = strtok_r(NULL, ".", &save))
		v = cJSON_IsObject(v) ? cJSON_GetObjectItemCaseSensitive(v, part) : NULL;
	free(copy);
	return v && !cJSON_IsNull(v) && !(cJSON_IsString(v) && v->valuestring[0] == '\0') ? v : NULL;
}

/* The required variables that are not given. */
char *template_missing(const struct template *x, const cJSON *vars)
{
	char *list = NULL;

	for (size_t i = 0; i < x->nrequired; i++) {
		if (given(vars, x->required[i]))
			continue;
		char *longer = list ? xasprintf("%s, %s", list, x->required[i]) : xstrdup(x->required[i]);
		free(list);
		list = longer;
	}
	return list;
}

/* Writes a text, percent-encoded as a part of an address if `encode`. */
static void put_value(FILE *out, const char *text, bool encode)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

	for (; *text; text++)
		fprintf(out, !encode || strchr(plain, *text) ? "%c" : "%%%02X", (unsigned char)*text);
}

/* Makes a fallback's text; NULL when one of its variables is not given. In the address of a *_url the values are
 * encoded, except one that the address begins with. */
static char *fallback_text(const struct fallback *f, const cJSON *vars)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
	size_t len = strlen(f->name), size = 0;
	bool url = len > 4 && strcmp(f->name + len - 4, "_url") == 0, whole = true;
	char *result = NULL;
	FILE *out = open_memstream(&result, &size);

	if (!out)
		abort();
	for (const char *p = f->text; *p && whole;) {
		size_t n = *p == '$' ? strspn(p + 1, letters) : 0;
		if (n == 0) {
			fputc(*p++, out);
			continue;
		}
		char *name = xstrndup(p + 1, n);
		const cJSON *v = given(vars, name);
		char *text = v && cJSON_IsString(v)   ? xstrdup(v->valuestring)
		             : v && cJSON_IsNumber(v) ? cJSON_PrintUnformatted(v)
		                                      : NULL;
		bool first = p == f->text;
		p += n + 1;
		for (size_t end = text && url && first && *p == '/' ? strlen(text) : 0; end > 0 && text[end - 1] == '/';
			end--)
			text[end - 1] = '\0';
		whole = text != NULL;
		if (text)
			put_value(out, text, url && !first);
		free(text);
		free(name);
	}
	fclose(out);
	if (whole)
		return result;
	free(result);
	return NULL;
}

/* Sets a variable that is not given. */
static void add_variable(cJSON *vars, const char *name, cJSON *value)
{
	cJSON_DeleteItemFromObjectCaseSensitive(vars, name);
	cJSON_AddItemToObject(vars, name, value);
}

/* Completes the variables of a message. */
cJSON *template_variables(const struct template_set *t, const struct template *x, const cJSON *vars)
{
	cJSON *all = vars ? cJSON_Duplicate(vars, true) : cJSON_CreateObject();
	const cJSON *item;

	if (!all)
		abort();
	cJSON_ArrayForEach(item, t->brand) if (!given(all, item->string))
		add_variable(all, item->string, cJSON_Duplicate(item, true));
	/* one may be made of another, in any order */
	for (bool added = true; added;) {
		added = false;
		for (size_t i = 0; i < x->nfallbacks; i++) {
			const struct fallback *f = &x->fallbacks[i];
			char *text = given(all, f->name) ? NULL : fallback_text(f, all);
			if (text && *text) {
				add_variable(all, f->name, cJSON_CreateString(text));
				added = true;
			}
			free(text);
		}
	}
	return all;
}
