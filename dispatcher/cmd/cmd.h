/* cmd.h: the description of a command. The parser of the command line, --help, the completion and the check of the
 * manual pages all read it, so an option is written down once. */
#ifndef CMD_H
#define CMD_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* How the value of an option is kept in the command's request. */
enum cmd_type {
	CMD_FLAG,     /* bool */
	CMD_TEXT,     /* const char * */
	CMD_NUMBER,   /* int64_t from `least` to `most` */
	CMD_DURATION, /* int64_t in milliseconds, written as in the settings file */
	CMD_LIST      /* struct cmd_list: the option may be given more than once */
};

struct cmd_list {
	const char **items; /* the parser allocates it */
	size_t n;
};

struct cmd_option {
	const char *name; /* the long one, without dashes; the table ends at NULL */
	char letter;      /* the short one, or 0 */
	enum cmd_type type;
	size_t offset;
	const char *arg;     /* what --help calls the value: a known word such as FILE tells the completion what fits */
	const char *doc;     /* for --help; a line break begins a new line there */
	int64_t least, most; /* CMD_NUMBER */
	bool optional;       /* the value may be left out, and is `absent` then */
	int64_t absent;
};

/* A row of a table of options; more fields may follow, as in CMD_OPTION(..., .least = 1). */
#define CMD_OPTION(long_name, short_name, value, request, field, metavariable, ...)                                    \
	{                                                                                                              \
		.name = long_name, .letter = short_name, .type = value, .offset = offsetof(request, field),            \
		.arg = metavariable, .doc = __VA_ARGS__                                                                \
	}

struct command {
	const char *name;    /* "dlq"; of a command within another one "plugin test" */
	const char *summary; /* one line, for the list of commands */
	const char *usage;   /* the arguments without the options, one form a line: "list|show QUEUE\nnext [N ...]" */
	const char *text;    /* what --help says first */
	const char *exits;   /* what --help says of the exit status */
	const struct cmd_option *options;
	size_t size;                                      /* of the request */
	const void *defaults;                             /* what the request begins as; NULL: zeros */
	const struct cmd_option *shared;                  /* more options, of all commands of its kind; NULL: none */
	const struct command *const *parts;               /* the commands within this one, else NULL */
	int (*run)(void *request, int argc, char **argv); /* returns the exit status */
	/* Runs `run` with what all commands of its kind need around it; NULL: nothing. */
	int (*around)(const struct command *c, void *request, int argc, char **argv);
};

extern const struct command cmd_run, cmd_init, cmd_migrate, cmd_connect, cmd_doctor, cmd_status, cmd_pause, cmd_resume,
	cmd_send, cmd_tail, cmd_message, cmd_dlq, cmd_bounce, cmd_render, cmd_replay, cmd_schedule, cmd_bench,
	cmd_plugin;

/* Reads the command line (argv[0] is not looked at) and runs the command; returns the exit status. */
int cmd_start(const struct command *c, int argc, char **argv);

/* Prints the list of commands. */
void cmd_print_list(const struct command *const *commands);

/* Prints every command, argument and option for programs: the completion and the checks of `make check`. */
void cmd_print_table(const struct command *const *commands);

/* Prints one line about a wrong command line; returns 2. */
int cmd_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints text that came from a message, a server or a person: what a terminal would obey is escaped. */
void cmd_print(FILE *out, const char *text);

/* Prints a value as a line of JSON, or indented, with the same escaped in its texts; frees it. */
void cmd_print_json(cJSON *json, bool indented);

/* The command that a misspelt name may mean, or NULL. */
const char *cmd_guess(const struct command *const *commands, const char *name);

#endif
