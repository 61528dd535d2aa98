/* plugin.c: the commands `pgmqd plugin info`, `test` and `new`, for those who write plugins and those who use them. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/cmd.h"
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
#include <sysexits.h>
#include <unistd.h>

#define NAME_MAX_LEN 40

/* The options of `plugin info`. */
struct info_request {
	const char *dir;
};

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
static int info(void *request, int argc, char **argv)
{
	const struct info_request *q = request;
	const char *name = argv[0];
	const char *from_env = getenv("PGMQD_PLUGIN_DIR");
	struct settings s = { 0 };
	char *error = NULL, *real = NULL;
	struct plugin *p;

	if (strchr(name, '/') && !(real = realpath(name, NULL)))
		return refuse(EX_CONFIG, xasprintf("%s: %s", name, strerror(errno)));
	(void)argc;
	s.plugin_dir = q->dir ? q->dir : from_env && *from_env ? from_env : PGMQD_PLUGINDIR;
	p = plugin_open(&s, real ? real : name, &error);
	free(real);
	if (!p) {
		char *text = xasprintf("\"%s\": %s", name, error);

		free(error);
		return refuse(EX_CONFIG, text);
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

/* Becomes this program once more, under valgrind and without --valgrind. */
static int test_under_valgrind(const struct test_options *o, int argc, char **argv)
{
	/* memcheck shows no other kind of leak, so no other may fail */
	static const char *const memcheck[] = { "valgrind", "-q", "--error-exitcode=99", "--leak-check=full",
		"--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", "--child-silent-after-fork=yes" };
	char attempts[24], self[PATH_MAX];
	const char *const given[][2] = { { "--attempts", attempts }, { "--answers", o->answers }, { "--log", o->log },
		{ "--plugin-dir", o->plugin_dir }, { "--template-dir", o->template_dir } };
	const char **args = xcalloc((size_t)argc + 32, sizeof(*args));
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int n = 0;

	if (len < 0)
		return refuse(1, xasprintf("cannot find this program: %s", strerror(errno)));
	self[len] = 0;
	snprintf(attempts, sizeof(attempts), "%lld", (long long)o->attempts);
	for (size_t i = 0; i < sizeof(memcheck) / sizeof(*memcheck); i++)
		args[n++] = memcheck[i];
	args[n++] = self;
	args[n++] = "plugin";
	args[n++] = "test";
	for (size_t i = 0; i < sizeof(given) / sizeof(*given); i++)
		if (given[i][1]) {
			args[n++] = given[i][0];
			args[n++] = given[i][1];
		}
	if (o->headers)
		args[n++] = "--headers";
	if (o->json)
		args[n++] = "--json";
	if (o->skip_time)
		args[n++] = "--skip-time";
	args[n++] = "--";
	for (int i = 0; i < argc; i++)
		args[n++] = argv[i];
	execvp(args[0], (char **)(void *)args);
	return refuse(1, xasprintf("cannot run %s: %s", args[0], strerror(errno)));
}

/* pgmqd plugin test. */
static int test(void *request, int argc, char **argv)
{
	const struct test_options *o = request;

	return o->valgrind ? test_under_valgrind(o, argc, argv) : test_main(o, argc, argv);
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
static int new (void *request, int argc, char **argv)
{
	const char *name = argv[0], *dir = argv[1];
	const char *data = getenv("PGMQD_SKELETON_DIR");
	char *error = NULL, *sub = xasprintf("%s/autotools", dir);

	(void)request;
	(void)argc;
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

static const struct cmd_option info_options[] = {
	CMD_OPTION("plugin-dir", 0, CMD_TEXT, struct info_request, dir, "DIR",
		"the directory of the plugins (default: $PGMQD_PLUGIN_DIR, else " PGMQD_PLUGINDIR ")"),
	{ 0 },
};

static const struct command plugin_info = {
	.name = "plugin info",
	.summary = "print a plugin's version and its options",
	.usage = "NAME|FILE",
	.text = "Prints a plugin's version and its options, with types and defaults. A NAME with a slash in it is a "
		"file.",
	.exits = "Exit status: 0 success, 2 usage error, 78 the plugin cannot be loaded.",
	.options = info_options,
	.size = sizeof(struct info_request),
	.run = info,
};

static const struct test_options test_defaults = { .attempts = 1, .log = "error" };

static const struct cmd_option test_options[] = {
	CMD_OPTION("headers", 0, CMD_FLAG, struct test_options, headers, NULL,
		"each line is the message's headers, a tab, and the message"),
	CMD_OPTION("attempts", 0, CMD_NUMBER, struct test_options, attempts, "N",
		"deliver a message that is retried up to N times, at once (default 1)", .least = 1, .most = 1000000),
	CMD_OPTION("answers", 0, CMD_TEXT, struct test_options, answers, "FILE",
		"the answers of the database, lines {\"match\": \"part of the statement\", \"rows\": [[...]], "
		"\"affected\": 1} "
		"or {\"match\": ..., \"error\": \"...\"}"),
	CMD_OPTION("json", 0, CMD_FLAG, struct test_options, json, NULL, "print the outcomes as JSON"),
	CMD_OPTION("skip-time", 0, CMD_FLAG, struct test_options, skip_time, NULL,
		"put the clock forward to the next timer whenever only timers are waited for"),
	CMD_OPTION("log", 0, CMD_TEXT, struct test_options, log, "LEVEL",
		"log to standard error: error (default), warn, info, debug"),
	CMD_OPTION("plugin-dir", 0, CMD_TEXT, struct test_options, plugin_dir, "DIR",
		"the directory of the plugins (default: $PGMQD_PLUGIN_DIR, else " PGMQD_PLUGINDIR ")"),
	CMD_OPTION("template-dir", 0, CMD_TEXT, struct test_options, template_dir, "DIR",
		"the directory of the mail templates (default: $PGMQD_TEMPLATE_DIR, else " PGMQD_DATADIR "/templates)"),
	CMD_OPTION("valgrind", 0, CMD_FLAG, struct test_options, valgrind, NULL, "run under valgrind"),
	{ 0 },
};

static const struct command plugin_test = {
	.name = "plugin test",
	.summary = "run a plugin on messages from standard input, without a database",
	.usage = "NAME|FILE [KEY=VALUE ...]",
	.text = "Runs a plugin on the messages of standard input, one JSON value a line, without a database, and "
		"prints the "
		"outcome of each, in their order. KEY=VALUE is an option of the plugin, or one of a [queue] section "
		"(max_in_flight, deadline and so on).",
	.exits = "Exit status: 0 every message got its outcome from the plugin; 1 one did not, or the plugin broke a "
		 "rule; 2 "
		 "usage error; 78 wrong options.",
	.options = test_options,
	.size = sizeof(struct test_options),
	.defaults = &test_defaults,
	.run = test,
};

static const struct command plugin_new = {
	.name = "plugin new",
	.summary = "make a directory with the source of a new plugin",
	.usage = "NAME DIR",
	.text = "Makes the directory DIR with the source of a plugin, a makefile, a test and a README. It builds as it "
		"is.",
	.exits = "Exit status: 0 success, 1 failure, 2 usage error.",
	.size = 1,
	.run = new,
};

static const struct command *const parts[] = { &plugin_info, &plugin_test, &plugin_new, NULL };

const struct command cmd_plugin = {
	.name = "plugin",
	.summary = "show, test or start a plugin",
	.usage = "info|test|new ...",
	.text = "For those who write plugins, and those who use them. `pgmqd plugin info --help` and so on say more.",
	.parts = parts,
};
