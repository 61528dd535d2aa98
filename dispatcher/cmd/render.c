/* render.c: the command `pgmqd render`: prints a mail template, or any Mustache file, filled with data. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
#include "template/render.h"
#include "template/template.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PGMQD_DATADIR
#define PGMQD_DATADIR "/usr/share/pgmqd"
#endif

#define DATA_MAX (16 * 1024 * 1024)

static const char *const part_names[TEMPLATE_NPARTS] = { "subject", "txt", "html" };

/* The options on the command line. */
struct request {
	const char *name, *lang, *data, *part, *template_dir, *file, *partials;
	bool html, text, open;
};

/* The partials of --file mode, compiled when they are first asked for. */
struct shelf {
	const char *dir;
	struct shelf_entry {
		char *name;
		struct mustache *compiled; /* NULL: there is no such file */
	} * entries;
	size_t n;
	char *error; /* the first one that happened */
};

/* Says what is wrong and returns the exit status 1. */
static int fail(char *error)
{
	fprintf(stderr, "pgmqd render: %s\n", error);
	free(error);
	return 1;
}

/* Reads a file, or standard input for "-". */
static char *slurp(const char *path, size_t *len, char **error)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *text = NULL;
	size_t got = 0, room = 0;

	if (!f) {
		*error = xasprintf("%s: %s", path, strerror(errno));
		return NULL;
	}
	do {
		if (room - got < 2) {
			room = room ? room * 2 : 8192;
			text = xrealloc(text, room, 1);
		}
		got += fread(text + got, 1, room - got - 1, f);
	} while (!feof(f) && !ferror(f) && got <= DATA_MAX);
	text[got] = '\0';
	if (ferror(f))
		*error = xasprintf("%s: %s", path, strerror(errno));
	else if (got > DATA_MAX)
		*error = xasprintf("%s: larger than %d bytes", path, DATA_MAX);
	if (f != stdin)
		fclose(f);
	if (*error) {
		free(text);
		return NULL;
	}
	*len = got;
	return text;
}

/* The line of a place in a text. */
static unsigned line_of(const char *text, const char *place)
{
	unsigned line = 1;

	for (; text < place; text++)
		line += *text == '\n';
	return line;
}

/* Reads the data; without a file, an empty object. */
static cJSON *read_data(const char *path, char **error)
{
	const char *stop;
	size_t len;

	if (!path)
		return cJSON_CreateObject();
	char *text = slurp(path, &len, error);
	if (!text)
		return NULL;
	if (strlen(text) != len) {
		*error = xasprintf("%s:%u: a NUL byte in the text", path, line_of(text, text + strlen(text)));
		free(text);
		return NULL;
	}
	/* cJSON ends a string at \u0000, which would lose what follows without a word. */
	for (const char *p = strchr(text, '\\'); p && p[1]; p = strchr(p + 2, '\\')) {
		if (strncmp(p + 1, "u0000", 5) != 0)
			continue;
		*error = xasprintf("%s:%u: \\u0000 cannot be part of a text", path, line_of(text, p));
		free(text);
		return NULL;
	}
	cJSON *data = cJSON_ParseWithLengthOpts(text, len + 1, &stop, true);
	if (!data)
		*error = xasprintf("%s:%u: this is not valid JSON", path, line_of(text, stop));
	free(text);
	return data;
}

/* Prints a part, with exactly one line end behind it. */
static void print_part(const char *text)
{
	size_t len = strlen(text);

	fputs(text, stdout);
	if (len == 0 || text[len - 1] != '\n')
		putchar('\n');
}

/* Writes the HTML to a new file that only its owner reads, prints the file's name, and hands it to the desktop's
 * browser where there is a desktop. */
static int open_html(const struct request *q, const char *html)
{
	const char *tmp = getenv("TMPDIR");
	char *path = xasprintf("%s/pgmqd-%s-XXXXXX.html", tmp && *tmp ? tmp : "/tmp", q->name),
	     *base = strrchr(path, '/') + 1;
	char *argv[] = { "xdg-open", path, NULL };
	FILE *f = NULL;
	pid_t pid;

	for (char *p = base; *p; p++) /* a template may lie in a folder */
		if (*p == '/')
			*p = '-';
	int fd = mkostemps(path, 5, O_CLOEXEC);
	if (fd == -1 || !(f = fdopen(fd, "w")) || fputs(html, f) == EOF || fclose(f) == EOF) {
		char *error = xasprintf("%s: %s", path, strerror(errno));
		free(path);
		return fail(error);
	}
	printf("%s\n", path);
	fflush(stdout);
	if (getenv("DISPLAY") || getenv("WAYLAND_DISPLAY"))
		(void)posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ); /* without it, the name is all there is */
	free(path);
	return 0;
}

/* Renders a template of the set. */
static int render_template(const struct request *q, const cJSON *data)
{
	struct template_result r;
	char *error;

	struct template_set *set = template_load(
		&(struct template_source){ .dir = q->template_dir ? q->template_dir : template_shipped(),
			.below = template_shipped(),
			.default_lang = "ru" },
		&error);
	if (!set)
		return fail(error);
	int rc = template_render(set, q->name, q->lang, data, &r);
	template_free(set);
	if (rc != 0) {
		rc = fail(xstrdup(r.error));
		template_result_free(&r);
		return rc;
	}
	if (q->lang && strncmp(r.lang, q->lang, strlen(r.lang)) != 0) /* as the daemon does it, and said */
		fprintf(stderr, "pgmqd render: no template \"%s\" in language %s: shown in %s\n", q->name, q->lang,
			r.lang);
	for (int i = 0; i < TEMPLATE_NPARTS && !q->open; i++) {
		if (q->part && strcmp(q->part, part_names[i]) != 0)
			continue;
		if (!q->part)
			printf("%s==== %s (%s) ====\n", i ? "\n" : "", part_names[i], r.lang);
		print_part(r.part[i]);
	}
	if (q->open)
		rc = open_html(q, r.part[TEMPLATE_HTML]);
	template_result_free(&r);
	return rc;
}

/* Finds a partial of --file mode. A name with a slash in it would leave the directory, so there is none of that name.
 */
static const struct mustache *shelf_find(void *arg, const char *name)
{
	struct shelf *s = arg;
	struct stat st;
	size_t len;

	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->entries[i].name, name) == 0)
			return s->entries[i].compiled;
	s->entries = xrealloc(s->entries, s->n + 1, sizeof *s->entries);
	struct shelf_entry *e = &s->entries[s->n++];
	*e = (struct shelf_entry){ .name = xstrdup(name) };
	if (!s->dir || strchr(name, '/') || name[0] == '.')
		return NULL;
	char *path = xasprintf("%s/%s.mustache", s->dir, name), *error = NULL;
	if (stat(path, &st) == 0 || errno != ENOENT) {
		char *text = slurp(path, &len, &error);
		if (text)
			e->compiled = mustache_parse(text, len, path, &error);
		free(text);
	}
	free(path);
	if (!s->error)
		s->error = error;
	else
		free(error);
	return e->compiled;
}

/* Whether a file's name ends so. */
static bool ends_with(const char *name, const char *end)
{
	size_t len = strlen(name), n = strlen(end);

	return len >= n && strcmp(name + len - n, end) == 0;
}

/* Renders a file of the user's own. */
static int render_file(const struct request *q, const cJSON *data)
{
	bool plain = ends_with(q->file, ".txt.mustache") || ends_with(q->file, ".subject.mustache");
	enum render_escape escape = q->text || (plain && !q->html) ? RENDER_PLAIN : RENDER_HTML;
	struct shelf shelf = { .dir = q->partials };
	char *error = NULL, *out = NULL;
	size_t len;

	char *text = slurp(q->file, &len, &error);
	if (!text)
		return fail(error);
	struct mustache *m = mustache_parse(text, len, q->file, &error);
	free(text);
	if (m)
		out = render_mustache(m, data, escape, shelf_find, &shelf, &len, &error);
	mustache_free(m);
	for (size_t i = 0; i < shelf.n; i++) {
		free(shelf.entries[i].name);
		mustache_free(shelf.entries[i].compiled);
	}
	free(shelf.entries);
	/* A broken partial renders as nothing; what it is that is broken says more than what comes of it. */
	if (shelf.error) {
		free(error);
		free(out);
		return fail(shelf.error);
	}
	if (!out)
		return fail(error);
	fwrite(out, 1, len, stdout);
	free(out);
	return 0;
}

/* Whether `part` is a part of a mail. */
static bool is_part(const char *part)
{
	for (int i = 0; i < TEMPLATE_NPARTS; i++)
		if (strcmp(part, part_names[i]) == 0)
			return true;
	return false;
}

/* Looks for options that exclude each other. -1 to go on, or the exit status. */
static int check_request(const struct request *q)
{
	if (!q->name == !q->file)
		return cmd_usage("render", q->name ? "name either a template or --file, not both"
						   : "TEMPLATE is missing; or name a file with --file");
	if (q->file && (q->part || q->lang || q->template_dir || q->open))
		return cmd_usage("render", "--part, --lang, --template-dir and --open do not go with --file");
	if (q->part && q->open)
		return cmd_usage("render", "--open shows the HTML; it does not go with --part");
	if (q->name && (q->partials || q->html || q->text))
		return cmd_usage("render", "--partials, --html and --text go with --file");
	if (q->html && q->text)
		return cmd_usage("render", "--html and --text exclude each other");
	if (q->file && q->data && strcmp(q->file, "-") == 0 && strcmp(q->data, "-") == 0)
		return cmd_usage("render", "the template and the data cannot both come from standard input");
	if (q->part && !is_part(q->part))
		return cmd_usage("render", "--part is subject, txt or html, not \"%s\"", q->part);
	return -1;
}

/* pgmqd render. */
static int render(void *request, int argc, char **argv)
{
	struct request *q = request;
	char *error = NULL;
	cJSON *data;
	int status;

	q->name = argc ? argv[0] : NULL;
	status = check_request(q);
	if (status >= 0)
		return status;
	data = read_data(q->data, &error);
	if (!data)
		return fail(error);
	status = q->file ? render_file(q, data) : render_template(q, data);
	cJSON_Delete(data);
	if (fflush(stdout) != 0 || ferror(stdout))
		return fail(xasprintf("standard output: %s", strerror(errno)));
	return status;
}

static const struct cmd_option options[] = {
	CMD_OPTION("lang", 'l', CMD_TEXT, struct request, lang, "LANG",
		"the language: ru, en and so on; ru-RU falls back to ru (default: ru)"),
	CMD_OPTION("data", 'd', CMD_TEXT, struct request, data, "FILE",
		"the variables, a JSON object; - reads standard input (default: no variables)"),
	CMD_OPTION("part", 'p', CMD_TEXT, struct request, part, "PART", "print this part only: subject, txt or html"),
	CMD_OPTION("open", 0, CMD_FLAG, struct request, open, NULL,
		"write the HTML to a file, print the file's name, and show it where there is a desktop"),
	CMD_OPTION("template-dir", 't', CMD_TEXT, struct request, template_dir, "DIR",
		"the directory of the templates (default: $PGMQD_TEMPLATE_DIR, else " PGMQD_DATADIR "/templates)"),
	CMD_OPTION("file", 'f', CMD_TEXT, struct request, file, "FILE",
		"render this Mustache file instead of a mail template; - reads standard input"),
	CMD_OPTION("partials", 'P', CMD_TEXT, struct request, partials, "DIR",
		"with --file: the directory of its partials, NAME.mustache"),
	CMD_OPTION("html", 0, CMD_FLAG, struct request, html, NULL,
		"with --file: escape variables for HTML (default, but for FILE.txt.mustache and "
		"FILE.subject.mustache)"),
	CMD_OPTION("text", 0, CMD_FLAG, struct request, text, NULL, "with --file: do not escape variables"),
	{ 0 },
};

const struct command cmd_render = {
	.name = "render",
	.summary = "print a mail template filled with its variables",
	.usage = "[TEMPLATE]",
	.text = "Prints a mail template, or with --file any Mustache file, filled with the variables of a message.",
	.exits = "Exit status: 0 success, 1 the template or the data is wrong, 2 usage error.",
	.options = options,
	.size = sizeof(struct request),
	.run = render,
};
