/* cmd.c: reads the command line of a command as its description says, and prints the description as --help. */
#include "config.h"

#include "cmd/cmd.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "settings/option.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
#define HELP_WIDTH 100 /* columns of --help */
#define DOC_COLUMN 28  /* where the text of an option begins */

static const struct cmd_option help_option = { .name = "help", .letter = 'h', .doc = "print this text" };

int cmd_usage(const char *command, const char *fmt, ...)
{
	va_list ap;
	char *problem;

	va_start(ap, fmt);
	problem = xvasprintf(fmt, ap);
	va_end(ap);
	fprintf(stderr, "pgmqd %s: %s; see pgmqd %s --help\n", command, problem, command);
	free(problem);
	return 2;
}

/* Collects the options of a command, the shared ones included; returns how many there are. */
static size_t all_options(const struct command *c, const struct cmd_option *all[OPTIONS_MAX])
{
	size_t n = 0;

	for (const struct cmd_option *o = c->options; o && o->name; o++)
		all[n++] = o;
	for (const struct cmd_option *o = c->shared; o && o->name; o++)
		all[n++] = o;
	all[n++] = &help_option;
	return n;
}

/* ---- help ---- */

/* Prints text from column `at` on, broken between words; the following lines begin at column `indent`. */
static void print_wrapped(const char *text, size_t at, size_t indent)
{
	for (bool first = true; *text; first = false) {
		size_t blank = strspn(text, " "), word = strcspn(text + blank, " \n");

		if (!first && at + blank + word > HELP_WIDTH) {
			printf("\n%*s", (int)indent, "");
			at = indent;
		} else {
			printf("%*s", (int)blank, "");
			at += blank;
		}
		printf("%.*s", (int)word, text + blank);
		at += word;
		text += blank + word;
		for (; *text == '\n'; text++) {
			printf("\n%*s", text[1] == '\n' ? 0 : (int)indent, "");
			at = indent;
		}
	}
	putchar('\n');
}

/* Prints one option. */
static void print_option(const struct cmd_option *o)
{
	const char *equals = !o->arg ? "" : o->optional ? "[=" : " ";
	char *head = o->letter ? xasprintf("  -%c, --%s%s%s%s", o->letter, o->name, equals, o->arg ? o->arg : "",
					 o->optional ? "]" : "")
	                       : xasprintf("      --%s%s%s%s", o->name, equals, o->arg ? o->arg : "",
					 o->optional ? "]" : "");
	int width = strlen(head) > DOC_COLUMN - 2 ? 0 : DOC_COLUMN;

	printf("%-*s", width, head);
	if (!width)
		printf("\n%*s", DOC_COLUMN, "");
	print_wrapped(o->doc, DOC_COLUMN, DOC_COLUMN);
	free(head);
}

/* Prints the forms in which a command is used. */
static void print_forms(const struct command *c)
{
	const char *form = c->usage;

	for (const char *head = "usage:"; form; head = "      ") {
		size_t len = strcspn(form, "\n");

		printf("%s pgmqd %s%s%.*s%s\n", head, c->name, len ? " " : "", (int)len, form,
			c->parts ? "" : " [OPTIONS]");
		form = form[len] ? form + len + 1 : NULL;
	}
}

/* Prints all that is known of a command. */
static void print_help(const struct command *c)
{
	const struct cmd_option *all[OPTIONS_MAX];
	size_t n = all_options(c, all);

	print_forms(c);
	putchar('\n');
	print_wrapped(c->text, 0, 0);
	putchar('\n');
	if (c->parts)
		cmd_print_list(c->parts);
	else
		for (size_t i = 0; i < n; i++)
			print_option(all[i]);
	if (c->exits) {
		putchar('\n');
		print_wrapped(c->exits, 0, 0);
	}
}

void cmd_print_list(const struct command *const *commands)
{
	for (; *commands; commands++) {
		printf("  %-12s ", (*commands)->name);
		print_wrapped((*commands)->summary, 15, 15);
	}
}

void cmd_print_table(const struct command *const *commands)
{
	const struct cmd_option *all[OPTIONS_MAX];

	for (; *commands; commands++) {
		const struct command *c = *commands;
		size_t n = all_options(c, all);

		printf("command\t%s\t%s\n", c->name, c->summary);
		for (const char *form = c->usage; form && *form; form = *form ? form + 1 : form) {
			printf("form\t%s\t%.*s\n", c->name, (int)strcspn(form, "\n"), form);
			form += strcspn(form, "\n");
			if (!*form)
				break;
		}
		for (size_t i = 0; !c->parts && i < n; i++)
			printf("option\t%s\t--%s\t%s%c\t%s%s\n", c->name, all[i]->name, all[i]->letter ? "-" : "",
				all[i]->letter ? all[i]->letter : '-', all[i]->arg ? all[i]->arg : "-",
				all[i]->optional ? "?" : "");
		if (c->parts)
			cmd_print_table(c->parts);
	}
}

/* ---- parsing ---- */

/* Stores a number; false when it is none, or not within the limits. */
static bool take_number(const struct cmd_option *o, const char *text, int64_t *to)
{
	char *end;

	errno = 0;
	*to = strtoll(text, &end, 10);
	return errno == 0 && end != text && !*end && *to >= o->least && *to <= o->most;
}

/* Stores the value of an option in the request; the exit status of a wrong one, else -1. */
static int take_value(const struct command *c, const struct cmd_option *o, void *request, const char *text)
{
	void *to = (char *)request + o->offset;
	struct cmd_list *list = to;
	struct pgmqd_option duration = { .name = o->name, .type = PGMQD_DURATION };
	char *problem;
	int status;

	switch (o->type) {
	case CMD_FLAG:
		*(bool *)to = true;
		return -1;
	case CMD_TEXT:
		*(const char **)to = text;
		return -1;
	case CMD_LIST:
		list->items = xrealloc(list->items, list->n + 1, sizeof(*list->items));
		list->items[list->n++] = text;
		return -1;
	case CMD_NUMBER:
		if (!text)
			*(int64_t *)to = o->absent;
		else if (!take_number(o, text, to) && o->most == INT64_MAX)
			return cmd_usage(c->name, "--%s takes a whole number from %lld on, not \"%s\"", o->name,
				(long long)o->least, text);
		else if (!take_number(o, text, to))
			return cmd_usage(c->name, "--%s takes a whole number from %lld to %lld, not \"%s\"", o->name,
				(long long)o->least, (long long)o->most, text);
		return -1;
	case CMD_DURATION:
		if (!text) {
			*(int64_t *)to = o->absent;
			return -1;
		}
		problem = option_set(&duration, to, text);
		status = problem ? cmd_usage(c->name, "--%s", problem) : -1;
		free(problem);
		return status;
	}
	return -1;
}

/* Reads all options; the rest of argv is what remains behind optind. -1, or the exit status. */
static int read_options(const struct command *c, void *request, int argc, char **argv)
{
	const struct cmd_option *all[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1] = { 0 };
	char shorts[2 * OPTIONS_MAX + 2] = ":", *s = shorts + 1;
	size_t n = all_options(c, all);
	int found, status = -1;

	for (size_t i = 0; i < n; i++) {
		int arg = !all[i]->arg ? no_argument : all[i]->optional ? optional_argument : required_argument;

		longs[i] = (struct option){ .name = all[i]->name, .has_arg = arg, .val = 256 + (int)i };
		if (all[i]->letter) {
			*s++ = all[i]->letter;
			if (arg == required_argument)
				*s++ = ':';
		}
	}
	optind = 0;
	opterr = 0;
	while (status < 0 && (found = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct cmd_option *o = NULL;

		if (found == '?' && optopt > 0 && optopt < 128) /* one of several letters in a word */
			return cmd_usage(c->name, "unknown option -%c", optopt);
		if (found == '?' || found == ':')
			return cmd_usage(
				c->name, found == ':' ? "%s needs a value" : "unknown option %s", argv[optind - 1]);
		for (size_t i = 0; i < n && !o; i++)
			if (found == 256 + (int)i || found == all[i]->letter)
				o = all[i];
		if (o == &help_option) {
			print_help(c);
			return 0;
		}
		status = take_value(c, o, request, optarg);
	}
	return status;
}

/* Whether `word` is one of the words of "a|b|c", which ends at a blank or a line's end. */
static bool is_one_of(const char *word, const char *words)
{
	size_t len = strlen(word);

	for (;; words++) {
		size_t n = strcspn(words, "| \n");

		if (n == len && strncmp(word, words, n) == 0)
			return true;
		words += n;
		if (*words != '|')
			return false;
	}
}

/* The form of use that the arguments are in: that which begins with the first of them, or NULL. */
static const char *find_form(const struct command *c, int argc, char **argv)
{
	for (const char *form = c->usage; form; form = strchr(form, '\n') ? strchr(form, '\n') + 1 : NULL)
		if (*form < 'a' || *form > 'z' || (argc && is_one_of(argv[0], form)))
			return form;
	return NULL;
}

/* The words that may come first, as "list, run, next". Malloc'd. */
static char *first_words(const struct command *c)
{
	char *words = xstrdup("");

	for (const char *form = c->usage; form; form = strchr(form, '\n') ? strchr(form, '\n') + 1 : NULL) {
		for (const char *p = form;; p++) {
			size_t n = strcspn(p, "| \n");
			char *more = xasprintf("%s%s%.*s", words, *words ? ", " : "", (int)n, p);

			free(words);
			words = more;
			p += n;
			if (*p != '|')
				break;
		}
	}
	return words;
}

/* Prints that the first word is missing or wrong; returns 2. */
static int refuse_first(const struct command *c, const char *word)
{
	char *words = first_words(c);
	int status = word ? cmd_usage(c->name, "\"%s\" is none of %s", word, words)
	                  : cmd_usage(c->name, "the first word must be one of %s", words);

	free(words);
	return status;
}

/* Compares the arguments with the forms of use. -1, or the exit status. */
static int check_arguments(const struct command *c, int argc, char **argv)
{
	const char *form = find_form(c, argc, argv), *missing = NULL;
	int least = 0, most = 0;

	if (!form)
		return refuse_first(c, argc ? argv[0] : NULL);
	for (const char *p = form; *p && *p != '\n'; p += strspn(p, " ")) {
		size_t len = strcspn(p, " \n");

		if (strncmp(p, "...", 3) == 0)
			most = argc;
		else
			most++;
		if (*p != '[' && *p != '.' && ++least == argc + 1)
			missing = p;
		p += len;
	}
	if (missing)
		return cmd_usage(c->name, "%.*s is missing", (int)strcspn(missing, " \n"), missing);
	if (argc > most)
		return cmd_usage(c->name, "\"%s\" is one argument too many", argv[most]);
	return -1;
}

/* Runs the part of a command that the first argument names. */
static int start_part(const struct command *c, int argc, char **argv)
{
	for (const struct command *const *part = c->parts; argc > 1 && *part; part++)
		if (strcmp(strchr((*part)->name, ' ') + 1, argv[1]) == 0)
			return cmd_start(*part, argc - 1, argv + 1);
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_help(c);
		return 0;
	}
	return check_arguments(c, argc - 1, argv + 1);
}

int cmd_start(const struct command *c, int argc, char **argv)
{
	void *request;
	int status;

	if (c->parts)
		return start_part(c, argc, argv);
	request = xcalloc(1, c->size);
	if (c->defaults)
		memcpy(request, c->defaults, c->size);
	status = read_options(c, request, argc, argv);
	argc -= optind;
	argv += optind;
	if (status < 0)
		status = check_arguments(c, argc, argv);
	if (status < 0)
		status = c->around ? c->around(c, request, argc, argv) : c->run(request, argc, argv);
	for (const struct cmd_option *o = c->options; o && o->name; o++)
		if (o->type == CMD_LIST)
			free(((struct cmd_list *)(void *)((char *)request + o->offset))->items);
	free(request);
	return status;
}

void cmd_print(FILE *out, const char *text)
{
	char *escaped = log_escape(text);

	fputs(escaped, out);
	free(escaped);
}

void cmd_print_json(cJSON *json, bool indented)
{
	char *text = indented ? cJSON_Print(json) : cJSON_PrintUnformatted(json);
	char *escaped = log_escape_json(text ? text : "{}");

	puts(escaped);
	free(escaped);
	cJSON_free(text);
	cJSON_Delete(json);
}

const char *cmd_guess(const struct command *const *commands, const char *name)
{
	struct option_guess g = { 0 };

	for (; *commands; commands++)
		option_guess_word(&g, (*commands)->name, name);
	return g.name;
}
