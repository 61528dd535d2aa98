/* template_read.c: reads and compiles a directory of mail templates into a set. */
#include "config.h"

#include "base/xalloc.h"
#include "template/template_private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_LEN (1024 * 1024)
#define SUFFIX ".mustache"

static const char *const part_names[TEMPLATE_NPARTS] = { "subject", "txt", "html" };

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

/* The partial of that name; it is added to the language if need be. */
static struct partial *partial_get(struct language *lang, const char *name, size_t len)
{
	for (size_t i = 0; i < lang->npartials; i++)
		if (strncmp(lang->partials[i].name, name, len) == 0 && lang->partials[i].name[len] == '\0')
			return &lang->partials[i];
	lang->partials = xrealloc(lang->partials, lang->npartials + 1, sizeof *lang->partials);
	struct partial *p = &lang->partials[lang->npartials++];
	*p = (struct partial){ .name = xstrndup(name, len) };
	return p;
}

/* Loads one file of a partials folder. */
static int load_partial(void *arg, const char *path, const char *name, char **error)
{
	struct language *lang = arg;
	size_t len = strlen(name), suffix = strlen(SUFFIX);

	if (len < suffix || strcmp(name + len - suffix, SUFFIX) != 0)
		return 0;
	if (!template_name_ok(name, len - suffix)) {
		*error = xasprintf("%s: a partial is called NAME" SUFFIX ", with a-z, 0-9 and _ in NAME", path);
		return -1;
	}
	struct mustache *m = file_compile(path, error);
	if (!m)
		return -1;
	struct partial *p = partial_get(lang, name, len - suffix);
	mustache_free(p->compiled);
	free(p->path);
	p->compiled = m;
	p->path = xstrdup(path);
	return 0;
}

/* The set and language that load_part() adds to. */
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
	if (part == TEMPLATE_NPARTS || !template_name_ok(file, name_len)) {
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
	mustache_free(t->part[part]);
	free(t->path[part]);
	t->part[part] = m;
	t->path[part] = xstrdup(path);
	return 0;
}

/* The language of that name; it is added to the set if need be. */
static struct language *language_get(struct template_set *t, const char *name)
{
	for (size_t i = 0; i < t->nlangs; i++)
		if (strcmp(t->langs[i]->name, name) == 0)
			return t->langs[i];
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
	l.lang = language_get(t, name);
	l.lang->common = language_get(t, "");

	char *partials = xasprintf("%s/partials", path);
	int rc = is_dir(partials) ? dir_each(partials, load_partial, l.lang, error) : 0;
	free(partials);
	return rc == 0 ? dir_each(path, load_part, &l, error) : -1;
}

/* Reads a directory of templates. */
int template_read(struct template_set *t, const char *dir, char **error)
{
	struct language *common = language_get(t, "");
	char *partials = xasprintf("%s/partials", dir);
	int rc = is_dir(partials) ? dir_each(partials, load_partial, common, error) : 0;

	free(partials);
	return rc == 0 ? dir_each(dir, load_language, t, error) : -1;
}
