/* plugin.c: `pgmqd plugin info | test | new`: what a plugin's author needs and an operator wants to know. */
#include "config.h"

#include "cmd/cmd.h"

#include "base/xalloc.h"
#include "cmd/plugin/test.h"
#include "worker/plugin.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define EXIT_CONFIG 78
#define NAME_MAX_LEN 40

static const char usage[] =
	"usage: pgmqd plugin info NAME|FILE [--plugin-dir DIR]\n"
	"       pgmqd plugin test NAME|FILE [KEY=VALUE ...] [OPTIONS] < messages.ndjson\n"
	"       pgmqd plugin new NAME DIR\n"
	"\n"
	"info  prints a plugin's version and its options\n"
	"test  runs a plugin on messages from standard input, without a database (`pgmqd plugin test --help`)\n"
	"new   makes a directory with the source of a plugin, a makefile, a test and a README; builds as it is\n"
	"\n"
	"      --plugin-dir DIR  look for plugins there (default: " PGMQD_PLUGINDIR ")\n"
	"Of test alone: --headers, --attempts N, --answers FILE, --skip-time, --json, --log LEVEL, --template-dir DIR, "
	"--valgrind\n";

/* The files of a skeleton, and what they are called in the new directory; %s is the plugin's name. */
static const struct {
	const char *from, *to;
	mode_t mode;
} skeleton[] = {
	{ "plugin.c.in", "%s.c", 0644 },
	{ "Makefile.in", "Makefile", 0644 },
	{ "test.sh.in", "test.sh", 0755 },
	{ "README.md.in", "README.md", 0644 },
	{ "configure.ac.in", "autotools/configure.ac", 0644 },
	{ "Makefile.am.in", "autotools/Makefile.am", 0644 },
};

/* Prints one line and gives a status. */
static int refuse(int status, char *text)
{
	fprintf(stderr, "pgmqd plugin: %s\n", text);
	free(text);
	return status;
}

/* ---- info ---- */

/* Prints one option. */
static void info_option(const struct pgmqd_option *o)
{
	printf("  %s (%s%s%s%s%s%s)\n", o->name, option_type_name(o), o->choices ? ": " : "",
		o->choices ? o->choices : "", o->required ? ", required" : "", o->def ? ", default " : "",
		o->def ? o->def : "");
	if (o->doc)
		printf("      %s\n", o->doc);
	if (o->env)
		printf("      Environment: %s\n", o->env);
}

/* pgmqd plugin info. */
static int info(const char *name, const char *dir)
{
	const char *from_env = getenv("PGMQD_PLUGIN_DIR");
	struct settings s = { 0 };
	char *error = NULL, *real = NULL;
	struct plugin *p;

	if (strchr(name, '/') && !(real = realpath(name, NULL)))
		return refuse(EXIT_CONFIG, xasprintf("%s: %s", name, strerror(errno)));
	s.plugin_dir = dir ? dir : from_env && *from_env ? from_env : PGMQD_PLUGINDIR;
	p = plugin_open(&s, real ? real : name, &error);
	free(real);
	if (!p) {
		char *text = xasprintf("\"%s\": %s", name, error);

		free(error);
		return refuse(EXIT_CONFIG, text);
	}
	printf("name: %s\nversion: %s\nsummary: %s\nfile: %s\napi: %u (this pgmqd speaks 1 to %u)\nmax_in_flight: ",
		p->d.name, p->d.version, p->d.summary ? p->d.summary : "", p->path, p->d._api_version,
		(unsigned)PGMQD_API_VERSION);
	printf(p->d.max_in_flight ? "%u\n" : "as configured\n", p->d.max_in_flight);
	printf("options:%s\n", p->options->name ? "" : " none");
	for (const struct pgmqd_option *o = p->options; o->name; o++)
		info_option(o);
	plugin_free(p);
	return 0;
}

/* ---- test ---- */

/* Becomes this program once more, under valgrind and without the option --valgrind. */
static int test_under_valgrind(int argc, char **argv)
{
	static char valgrind[] = "valgrind", quiet[] = "-q", status[] = "--error-exitcode=99",
		    leaks[] = "--leak-check=full", kinds[] = "--show-leak-kinds=definite",
		    errors[] = "--errors-for-leak-kinds=definite", /* no other kind is shown, so no other may fail */
		children[] = "--child-silent-after-fork=yes", plugin[] = "plugin", command[] = "test";
	char *first[] = { valgrind, quiet, status, leaks, kinds, errors, children, NULL, plugin, command };
	size_t n = sizeof(first) / sizeof(*first);
	char self[PATH_MAX], **args = xcalloc((size_t)argc + n + 1, sizeof(*args));
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len < 0)
		return refuse(1, xasprintf("cannot find this program: %s", strerror(errno)));
	self[len] = 0;
	memcpy(args, first, sizeof(first));
	args[n - 3] = self;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--valgrind") != 0)
			args[n++] = argv[i];
	execvp(args[0], args);
	return refuse(1, xasprintf("cannot run %s: %s", args[0], strerror(errno)));
}

/* pgmqd plugin test. */
static int test(int argc, char **argv)
{
	static char program[] = "pgmqd plugin test";

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--valgrind") == 0)
			return test_under_valgrind(argc, argv);
	argv[0] = program;
	return test_main(argc, argv);
}

/* ---- new ---- */

/* Whether it can name a plugin: lower case letters, digits and dashes. */
static bool name_is_good(const char *name)
{
	if (!islower((unsigned char)*name) || strlen(name) > NAME_MAX_LEN)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(name) && name[strlen(name) - 1] != '-';
}

/* Copies one file; @NAME@ becomes the name, and @IDENT@ the name as C would have it. NULL, or what is wrong. */
static char *copy_file(const char *from, const char *to, mode_t mode, const char *name)
{
	FILE *in = fopen(from, "re"), *out;
	char *line = NULL, *ident = xstrdup(name), *error = NULL;
	size_t size = 0;
	int fd;

	for (char *p = ident; *p; p++)
		if (*p == '-')
			*p = '_';
	if (!in) {
		free(ident);
		return xasprintf("cannot read %s: %s (is pgmqd installed completely?)", from, strerror(errno));
	}
	fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	out = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (!out) {
		error = xasprintf("cannot make %s: %s", to, strerror(errno));
	} else {
		while (getline(&line, &size, in) >= 0)
			for (char *p = line; *p;) {
				bool is_name = strncmp(p, "@NAME@", 6) == 0, is_ident = strncmp(p, "@IDENT@", 7) == 0;

				if (is_name || is_ident)
					fputs(is_name ? name : ident, out);
				else
					fputc(*p, out);
				p += is_name ? 6 : is_ident ? 7 : 1;
			}
		if (fclose(out) != 0)
			error = xasprintf("cannot write %s: %s", to, strerror(errno));
	}
	free(line);
	free(ident);
	fclose(in);
	return error;
}

/* pgmqd plugin new. */
static int new (const char *name, const char *dir)
{
	const char *data = getenv("PGMQD_SKELETON_DIR");
	char *error = NULL, *sub = xasprintf("%s/autotools", dir);

	if (!name_is_good(name))
		error = xasprintf("\"%s\" cannot name a plugin (lower case letters, digits and dashes, up to %d)", name,
			NAME_MAX_LEN);
	else if (mkdir(dir, 0755) != 0 && errno != EEXIST)
		error = xasprintf("cannot make the directory %s: %s", dir, strerror(errno));
	else if (mkdir(sub, 0755) != 0)
		error = xasprintf("cannot make the directory %s: %s (nothing is overwritten)", sub, strerror(errno));
	for (size_t i = 0; !error && i < sizeof(skeleton) / sizeof(*skeleton); i++) {
		char *from = xasprintf("%s/%s", data && *data ? data : PGMQD_DATADIR "/skeleton", skeleton[i].from);
		char *file = i == 0 ? xasprintf("%s.c", name) : xstrdup(skeleton[i].to),
		     *to = xasprintf("%s/%s", dir, file);

		error = copy_file(from, to, skeleton[i].mode, name);
		free(from);
		free(file);
		free(to);
	}
	free(sub);
	if (error)
		return refuse(1, error);
	printf("%s: the plugin \"%s\" is in %s.c; `make` builds it, `make check` tries it, README.md says the rest.\n",
		dir, name, name);
	return 0;
}

/* pgmqd plugin. */
int cmd_plugin(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *dir = NULL;

	if (strcmp(what, "test") == 0)
		return test(argc - 1, argv + 1);
	if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0 || (argc == 3 && strcmp(argv[2], "--help") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (strcmp(what, "info") == 0 && argc == 5 && strcmp(argv[3], "--plugin-dir") == 0)
		dir = argv[4];
	if (strcmp(what, "info") == 0 && (argc == 3 || dir))
		return info(argv[2], dir);
	if (strcmp(what, "new") == 0 && argc == 4)
		return new (argv[2], argv[3]);
	fputs(usage, stderr);
	return EXIT_USAGE;
}
