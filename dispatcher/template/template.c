/* template.c: the set of mail templates: read and compiled from a directory once, then found by name and language. */
#include "config.h"

#include "base/xalloc.h"
#include "template/mustache.h"
#include "template/template.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_LEN 64
#define LANG_MAX_LEN 35 /* the longest that RFC 5646 asks one to take */
#define FILE_MAX_LEN (1024 * 1024)
#define SUFFIX ".mustache"

static const char *const part_names[TEMPLATE_NPARTS] = { "subject", "txt", "html" };

struct partial {
	char *name, *path;
	struct mustache *compiled;
};

/* One folder of a language, with what its templates share. */
struct language {
	char *name;
	const struct language *common; /* the partials of all languages; its own come first */
	struct partial *partials;
	size_t npartials;
};

struct template
{
	char *name;
	const struct language *lang;
	char *path[TEMPLATE_NPARTS];
	struct mustache *part[TEMPLATE_NPARTS];
	char **required;
	size_t nrequired;
};

struct template_set {
	char *default_lang;
	struct language **langs; /* pointers, since templates point to them; the first one holds what all share */
	size_t nlangs;
	struct template *templates; /* sorted by name, then language, once loaded */
	size_t ntemplates;
};

/* What the walks over a template's tags need. */
struct check {
	struct template *template; /* NULL: a partial is looked at */
	const struct language *lang;
	const char *path;
	char **error;
};

/* ------------------------------------------------------------------ names */

/* True for ^[a-z0-9_]{1,64}$. */
static bool name_ok(const char *s, size_t len)
{
	return len >= 1 && len <= NAME_MAX_LEN && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") >= len;
}

/* True for a language tag such as ru, en or pt-BR: two or three letters, then shorter and longer words behind hyphens.
 */
static bool lang_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz");

	if (n < 2 || n > 3)
		return false;
	for (s += n; *s == '-'; s += n) {
		for (n = 0, s++; isalnum((unsigned char)s[n]); n++)
			;
		if (n < 2 || n > 8)
			return false;
	}
	return *s == '\0';
}

/* A name out of a message, fit for an error text: no control characters, not endless. */
static char *name_for_people(const char *name)
{
	char *s = xstrndup(name, strnlen(name, NAME_MAX_LEN));

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
static struct template *template_find(struct template_set *t, const char *name, const char *lang)
{
	for (size_t i = 0; i < t->ntemplates; i++)
		if (strcmp(t->templates[i].name, name) == 0 && strcasecmp(t->templates[i].lang->name, lang) == 0)
			return &t->templates[i];
	return NULL;
}

/* The template in a language or, one subtag after the other left off, in what that is a kind of. */
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

/* The partial of that name, for the renderer. */
static const struct mustache *partial_find(void *arg, const char *name)
{
	const struct language *lang;

	for (lang = arg; lang; lang = lang->common)
		for (size_t i = 0; i < lang->npartials; i++)
			if (strcmp(lang->partials[i].name, name) == 0)
				return lang->partials[i].compiled;
	return NULL;
}

/* ------------------------------------------------------------------ loading */

/* Reads a whole file; NULL and *error when that is not possible. */
static char *file_read(const char *path, size_t *len, char **error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo in the folder must not hang the start */
	struct stat st;
	char *text = NULL;
	size_t got = 0;
	ssize_t n = 0;

	if (fd < 0 || fstat(fd, &st) != 0) {
		*error = xasprintf("%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		*error = xasprintf("%s: not a file", path);
	} else if (st.st_size > FILE_MAX_LEN) {
		*error = xasprintf("%s: larger than %d bytes", path, FILE_MAX_LEN);
	} else {
		text = xmalloc((size_t)st.st_size + 1);
		while (got < (size_t)st.st_size && (n = read(fd, text + got, (size_t)st.st_size - got)) > 0)
			got += (size_t)n;
		if (n < 0) {
			*error = xasprintf("%s: %s", path, strerror(errno));
			free(text);
			text = NULL;
		}
	}
	if (fd >= 0)
		close(fd);
	*len = got;
	return text;
}

/* Reads and compiles one file. */
static struct mustache *file_compile(const char *path, char **error)
{
	struct mustache *m;
	size_t len;
	char *text = file_read(path, &len, error);

	if (!text)
		return NULL;
	m = mustache_parse(text, len, path, error);
	free(text);
	return m;
}

/* Takes hidden files and editors' backups out of a listing. */
static int entry_wanted(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return e->d_name[0] != '.' && e->d_name[len - 1] != '~';
}

/* True when a path is a directory. */
static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Calls cb for each entry of a directory in alphabetical order, until it fails. */
static int dir_each(const char *dir, int (*cb)(void *arg, const char *path, const char *name, char **error), void *arg,
	char **error)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, entry_wanted, alphasort), rc = 0;

	if (n < 0) {
		*error = xasprintf("%s: %s", dir, strerror(errno));
		return -1;
	}
	for (int i = 0; i < n; i++) {
		char *path = xasprintf("%s/%s", dir, list[i]->d_name);
		if (rc == 0)
			rc = cb(arg, path, list[i]->d_name, error);
		free(path);
		free(list[i]);
	}
	free(list);
	return rc;
}

/* Loads one file of a partials folder. */
static int load_partial(void *arg, const char *path, const char *name, char **error)
{
	struct language *lang = arg;
	size_t len = strlen(name), suffix = strlen(SUFFIX);

	if (len < suffix || strcmp(name + len - suffix, SUFFIX) != 0)
		return 0;
	if (!name_ok(name, len - suffix)) {
		*error = xasprintf("%s: a partial is called NAME" SUFFIX ", with a-z, 0-9 and _ in NAME", path);
		return -1;
	}
	struct mustache *m = file_compile(path, error);
	if (!m)
		return -1;
	lang->partials = xrealloc(lang->partials, lang->npartials + 1, sizeof *lang->partials);
	lang->partials[lang->npartials++] = (struct partial){
		.name = xstrndup(name, len - suffix), .path = xstrdup(path), .compiled = m
	};
	return 0;
}

/* Where load_part puts what it finds. */
struct load {
	struct template_set *set;
	struct language *lang;
};

/* Loads one file of a language's folder: NAME.PART.mustache. */
static int load_part(void *arg, const char *path, const char *file, char **error)
{
	struct load *l = arg;
	size_t len = strlen(file), suffix = strlen(SUFFIX), name_len = strcspn(file, ".");
	const char *dot = file + name_len;
	int part;

	if (len < suffix || strcmp(file + len - suffix, SUFFIX) != 0)
		return 0;
	for (part = 0; part < TEMPLATE_NPARTS; part++)
		if (strncmp(dot + 1, part_names[part], strlen(part_names[part])) == 0 &&
			strcmp(dot + 1 + strlen(part_names[part]), SUFFIX) == 0)
			break;
	if (part == TEMPLATE_NPARTS || !name_ok(file, name_len)) {
		*error = xasprintf("%s: a template is called NAME.subject" SUFFIX ", NAME.txt" SUFFIX
				   " or NAME.html" SUFFIX ", with a-z, 0-9 and _ in NAME",
			path);
		return -1;
	}
	struct mustache *m = file_compile(path, error);
	if (!m)
		return -1;
	char *name = xstrndup(file, name_len);
	struct template *t = template_find(l->set, name, l->lang->name);
	if (!t) {
		l->set->templates = xrealloc(l->set->templates, l->set->ntemplates + 1, sizeof *l->set->templates);
		t = &l->set->templates[l->set->ntemplates++];
		*t = (struct template){ .name = xstrdup(name), .lang = l->lang };
	}
	free(name);
	t->part[part] = m;
	t->path[part] = xstrdup(path);
	return 0;
}

/* Adds a language to the set. */
static struct language *language_new(struct template_set *t, const char *name)
{
	struct language *lang = xcalloc(1, sizeof *lang);

	lang->name = xstrdup(name);
	t->langs = xrealloc(t->langs, t->nlangs + 1, sizeof *t->langs);
	t->langs[t->nlangs++] = lang;
	return lang;
}

/* Loads one entry of the templates directory, when it is a language's folder. */
static int load_language(void *arg, const char *path, const char *name, char **error)
{
	struct template_set *t = arg;
	struct load l = { .set = t };

	if (!lang_ok(name) || !is_dir(path))
		return 0;
	l.lang = language_new(t, name);
	l.lang->common = t->langs[0];

	char *partials = xasprintf("%s/partials", path);
	int rc = is_dir(partials) ? dir_each(partials, load_partial, l.lang, error) : 0;
	free(partials);
	return rc == 0 ? dir_each(path, load_part, &l, error) : -1;
}

/* A partial that does not exist renders as nothing by the specification; in a mail that would be a hole, so it is an
 * error. */
static int check_partial(void *arg, const char *name, unsigned line)
{
	struct check *c = arg;

	if (partial_find((void *)c->lang, name))
		return 0;
	*c->error = xasprintf("%s:%u: there is no partial \"%s\" (%s/partials/%s.mustache or partials/%s.mustache)",
		c->path, line, name, c->lang->name, name, name);
	return -1;
}

/* Takes the variables out of a comment that reads "required: a b.c". */
static int check_comment(void *arg, const char *text, size_t len, unsigned line)
{
	static const char word[] = "required:", separators[] = " \t\r\n,";
	struct check *c = arg;
	struct template *t = c->template;
	size_t n = strlen(word);

	if (len < n || memcmp(text, word, n) != 0)
		return 0;
	char *list = xstrndup(text + n, len - n), *save, *name;
	int rc = 0;
	for (name = strtok_r(list, separators, &save); name && rc == 0; name = strtok_r(NULL, separators, &save)) {
		size_t i = 0;
		if (name[0] == '.' || name[strlen(name) - 1] == '.' || strstr(name, "..")) {
			*c->error = xasprintf("%s:%u: \"%s\" is not the name of a variable", c->path, line, name);
			rc = -1;
			break;
		}
		while (i < t->nrequired && strcmp(t->required[i], name) != 0)
			i++;
		if (i < t->nrequired)
			continue;
		t->required = xrealloc(t->required, t->nrequired + 1, sizeof *t->required);
		t->required[t->nrequired++] = xstrdup(name);
	}
	free(list);
	return rc;
}

/* Looks whether everything that the templates name exists, and gathers their required variables. */
static int template_check(struct template_set *t, char **error)
{
	/* What all languages share may ask for partials of a language's own, so it is looked at through each language.
	 */
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
				*error = xasprintf("%.*s/%s.%s" SUFFIX
						   ": missing; a template needs subject, txt and html",
					dir, other, x->name, part_names[part]);
				return -1;
			}
			if (mustache_each_partial(x->part[part], check_partial, &c) != 0 ||
				mustache_each_comment(x->part[part], check_comment, &c) != 0)
				return -1;
		}
	}
	return 0;
}

/* Reads a directory of templates. */
struct template_set *template_load(const char *dir, const char *default_lang, char **error)
{
	struct template_set *t = xcalloc(1, sizeof *t);
	int rc;

	*error = NULL;
	t->default_lang = xstrdup(default_lang);
	struct language *common = language_new(t, "");
	char *partials = xasprintf("%s/partials", dir);
	rc = is_dir(partials) ? dir_each(partials, load_partial, common, error) : 0;
	free(partials);
	if (rc == 0)
		rc = dir_each(dir, load_language, t, error);
	if (rc == 0)
		rc = template_check(t, error);
	if (rc == 0 && t->ntemplates == 0) {
		*error = xasprintf("%s: no templates in it (LANG/NAME.subject" SUFFIX " and so on)", dir);
		rc = -1;
	}
	if (rc != 0) {
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
	free(t);
}

/* Calls cb for each template. */
void template_each(struct template_set *t, void (*cb)(void *arg, const char *name, const char *lang), void *arg)
{
	for (size_t i = 0; i < t->ntemplates; i++)
		cb(arg, t->templates[i].name, t->templates[i].lang->name);
}

/* ------------------------------------------------------------------ rendering */

/* True when a required variable is there and says something. */
static bool is_given(const cJSON *vars, const char *name)
{
	char *copy = xstrdup(name), *save, *part;
	const cJSON *v = vars;

	for (part = strtok_r(copy, ".", &save); part && v; part = strtok_r(NULL, ".", &save))
		v = cJSON_IsObject(v) ? cJSON_GetObjectItemCaseSensitive(v, part) : NULL;
	free(copy);
	return v && !cJSON_IsNull(v) && !(cJSON_IsString(v) && v->valuestring[0] == '\0');
}

/* The required variables that are not given, as "a, b", or NULL. */
static char *missing_variables(const struct template *x, const cJSON *vars)
{
	char *list = NULL;

	for (size_t i = 0; i < x->nrequired; i++) {
		if (is_given(vars, x->required[i]))
			continue;
		char *longer = list ? xasprintf("%s, %s", list, x->required[i]) : xstrdup(x->required[i]);
		free(list);
		list = longer;
	}
	return list;
}

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
	char *missing = missing_variables(x, vars);

	if (missing) {
		r->error = xasprintf("template \"%s\" (%s): required variables are missing or empty: %s", x->name,
			x->lang->name, missing);
		free(missing);
		return;
	}
	for (int part = 0; part < TEMPLATE_NPARTS; part++) {
		enum mustache_escape escape = part == TEMPLATE_HTML ? MUSTACHE_ESCAPE_HTML : MUSTACHE_ESCAPE_NONE;
		char *why = NULL;
		r->part[part] = mustache_render(x->part[part], vars, escape, partial_find, (void *)x->lang, NULL, &why);
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
	if (!name_ok(name,
		    strlen(name))) { /* it is not repeated: there may be anything in it, an address for instance */
		result->error = xasprintf("template: not a template's name (1 to %d of a-z, 0-9 and _)", NAME_MAX_LEN);
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
		char *shown = name_for_people(lang ? lang : t->default_lang ? t->default_lang : "no language given");
		result->error = xasprintf("template \"%s\": there is none of that name (%s)", name, shown);
		free(shown);
		return -1;
	}
	render_parts(x, vars, result);
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
