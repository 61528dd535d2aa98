/* load.c: reads the settings file: libinih splits the lines, the tables say what may stand in them. */
#include "config.h"

#include "base/log.h"
#include "base/xalloc.h"
#include "settings/assumed.h"
#include "settings/check.h"
#include "settings/env.h"
#include "settings/load.h"
#include "settings/settings.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define LOAD_LINE_MAX 8192 /* where the INI library can be told; else it is 200 */

enum section { SECTION_NONE, SECTION_GLOBAL, SECTION_QUEUE, SECTION_JOB, SECTION_BAD };

/* A file that is being read. */
struct load {
	struct settings *s;
	FILE *f;
	char *line; /* getline()'s */
	size_t size;
	unsigned lineno;
	bool pending; /* the line was handed to the parser, and the parser has not handed it back as a pair yet */
	const char *key_line; /* that line, inside `line` */
	enum section section;
	unsigned global_line; /* of [pgmqd]; 0: none yet */
	char **errors;
};

#define LOAD_ERROR(l, fmt, ...) settings_error((l)->errors, "%s:%u: " fmt, (l)->s->path, (l)->lineno, __VA_ARGS__)

/* The queue whose section is open. */
static struct queue_settings *load_queue(struct load *l)
{
	return &l->s->queues[l->s->nqueues - 1];
}

/* The job type whose section is open. */
static struct job_settings *load_job(struct load *l)
{
	return &l->s->jobs[l->s->njobs - 1];
}

/* Fills from the environment what a section left open. */
static void load_fill(struct load *l, const struct pgmqd_option *table, void *base, const unsigned *lines)
{
	bool given[SETTINGS_ROWS_MAX];

	for (size_t i = 0; i < SETTINGS_ROWS_MAX; i++)
		given[i] = lines[i] != 0;
	settings_env_fill(table, base, given, l->errors);
}

/* Ends a section: what it did not say comes from the environment, and the whole of it is checked. */
static void load_close_section(struct load *l)
{
	if (l->section == SECTION_GLOBAL) {
		load_fill(l, settings_global_options, l->s, l->s->lines);
	} else if (l->section == SECTION_QUEUE) {
		load_fill(l, settings_queue_options, load_queue(l), load_queue(l)->lines);
		settings_check_queue(l->s, load_queue(l), l->errors);
	}
	l->section = SECTION_BAD;
}

/* Starts the section of a queue. */
static void load_open_queue(struct load *l, const char *name)
{
	struct queue_settings *q;

	if (!settings_check_queue_name(name)) {
		LOAD_ERROR(l,
			"[queue %s]: not the name of a queue (at most 47 bytes, without ', $, ;, -- and control "
			"characters)",
			name);
		return;
	}
	for (size_t i = 0; i < l->s->nqueues; i++)
		if (strcasecmp(l->s->queues[i].name, name) == 0) {
			LOAD_ERROR(l, "[queue %s]: the queue has a section already, in line %u%s", name,
				l->s->queues[i].line,
				strcmp(l->s->queues[i].name, name) ? " (pgmq does not tell upper from lower case)"
								   : "");
			return;
		}
	l->s->queues = xrealloc(l->s->queues, l->s->nqueues + 1, sizeof(*l->s->queues));
	q = &l->s->queues[l->s->nqueues++];
	memset(q, 0, sizeof(*q));
	q->files = settings_env_files();
	q->name = xstrdup(name);
	q->line = l->lineno;
	option_defaults(settings_queue_options, q);
	l->section = SECTION_QUEUE;
}

/* Starts the section of a job type. */
static void load_open_job(struct load *l, const char *name)
{
	struct job_settings *j;
	size_t len = strlen(name);

	if (len == 0 || len > 63 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != len) {
		LOAD_ERROR(
			l, "[job %s]: not the name of a job type (a-z, digits, - and _, at most 63 characters)", name);
		return;
	}
	for (size_t i = 0; i < l->s->njobs; i++)
		if (strcmp(l->s->jobs[i].name, name) == 0) {
			LOAD_ERROR(l, "[job %s]: the job type has a section already, in line %u", name,
				l->s->jobs[i].line);
			return;
		}
	l->s->jobs = xrealloc(l->s->jobs, l->s->njobs + 1, sizeof(*l->s->jobs));
	j = &l->s->jobs[l->s->njobs++];
	memset(j, 0, sizeof(*j));
	j->name = xstrdup(name);
	j->line = l->lineno;
	option_defaults(settings_job_options, j);
	l->section = SECTION_JOB;
}

/* Starts a section by its head, "pgmqd", "queue NAME" or "job TYPE"; anything else leaves a bad one, whose lines are
 * passed over. */
static void load_open_section(struct load *l, char *head)
{
	size_t word = strcspn(head, " \t");
	char *name = head + word + strspn(head + word, " \t");
	struct option_guess g = { 0 };

	head[word] = '\0';
	if (strcmp(head, "pgmqd") == 0 && !*name) {
		if (l->global_line) {
			LOAD_ERROR(l, "[pgmqd]: there is this section already, in line %u", l->global_line);
			return;
		}
		l->global_line = l->lineno;
		l->section = SECTION_GLOBAL;
	} else if (strcmp(head, "queue") == 0) {
		load_open_queue(l, name);
	} else if (strcmp(head, "job") == 0) {
		load_open_job(l, name);
	} else {
		if (*name) {
			option_guess_word(&g, "queue", head);
			option_guess_word(&g, "job", head);
		} else
			option_guess_word(&g, "pgmqd", head);
		if (g.name && *name)
			LOAD_ERROR(l, "[%s %s]: unknown section (did you mean [%s %s]?)", head, name, g.name, name);
		else if (g.name)
			LOAD_ERROR(l, "[%s]: unknown section (did you mean [pgmqd]?)", head);
		else
			LOAD_ERROR(l, "[%s%s%s]: unknown section (there are [pgmqd], [queue NAME] and [job TYPE])",
				head, *name ? " " : "", name);
	}
}

/* Whether nothing but a comment follows the end of a section. */
static bool is_section_end(const char *rest)
{
	rest += strspn(rest, " \t");
	return !*rest || *rest == ';' || *rest == '#';
}

/* The head of a section; the name of a queue may have brackets, too. libinih would cut it at 49 characters, and says
 * nothing of a section without lines. */
static void load_section_line(struct load *l, char *s)
{
	char *close = strchr(s, ']');

	load_close_section(l);
	if (!close) {
		LOAD_ERROR(l, "\"%.100s\": the ] of the section is missing", s);
		return;
	}
	while (close && !is_section_end(close + 1))
		close = strchr(close + 1, ']');
	if (!close) {
		LOAD_ERROR(l, "\"%.100s\": there is something behind the ] of the section", s);
		return;
	}
	for (s++; *s == ' ' || *s == '\t'; s++)
		continue;
	while (close > s && (close[-1] == ' ' || close[-1] == '\t'))
		close--;
	*close = '\0';
	load_open_section(l, s);
}

/* Gives a host's option its value. */
static void load_option(struct load *l, const struct pgmqd_option *row, void *base, unsigned *line, const char *value)
{
	char *error;

	if (*line) {
		LOAD_ERROR(l, "%s: this option was given already, in line %u", row->name, *line);
		return;
	}
	*line = l->lineno;
	error = option_set(row, base, value);
	if (error)
		LOAD_ERROR(l, "%s", error);
	free(error);
}

/* Keeps a plugin's option until the plugin is there to be asked. */
static void load_pair(struct load *l, struct queue_settings *q, const char *key, const char *value)
{
	for (size_t i = 0; i < q->npairs; i++)
		if (strcmp(q->pairs[i].key, key) == 0) {
			LOAD_ERROR(l, "%s: this option was given already, in line %u", key, q->pairs[i].line);
			return;
		}
	q->pairs = xrealloc(q->pairs, q->npairs + 1, sizeof(*q->pairs));
	q->pairs[q->npairs++] = (struct settings_pair){
		.key = xstrdup(key), .value = xstrdup(value), .line = l->lineno
	};
}

/* A key of [pgmqd] that is none. */
static void load_refuse_global(struct load *l, const char *key)
{
	struct option_guess g = { 0 };

	option_guess(&g, settings_global_options, key);
	if (option_find(settings_queue_options, key))
		LOAD_ERROR(l, "%s: this option belongs into a section [queue NAME]", key);
	else if (g.name)
		LOAD_ERROR(l, "%s: unknown option of [pgmqd] (did you mean %s?)", key, g.name);
	else
		LOAD_ERROR(l, "%s: unknown option of [pgmqd]", key);
}

/* libinih's handler: one key = value. Which section it is in is known better here. */
static int load_key(void *arg, const char *section, const char *key, const char *value
#if INI_HANDLER_LINENO
	,
	int lineno
#endif
)
{
	struct load *l = arg;
	const struct pgmqd_option *row;
	struct queue_settings *q;

	(void)section;
#if INI_HANDLER_LINENO
	(void)lineno;
#endif
	if (!key || !value || !*key)
		return 1; /* pending stays, and the line is told of */
	l->pending = false;
	switch (l->section) {
	case SECTION_NONE:
		LOAD_ERROR(l, "%s: there is no section yet (write [pgmqd] or [queue NAME] above)", key);
		l->section = SECTION_BAD; /* once is enough */
		break;
	case SECTION_GLOBAL:
		row = option_find(settings_global_options, key);
		if (row)
			load_option(l, row, l->s, &l->s->lines[row - settings_global_options], value);
		else
			load_refuse_global(l, key);
		break;
	case SECTION_QUEUE:
		q = load_queue(l);
		row = option_find(settings_queue_options, key);
		if (row)
			load_option(l, row, q, &q->lines[row - settings_queue_options], value);
		else
			load_pair(l, q, key, value);
		break;
	case SECTION_JOB:
		row = option_find(settings_job_options, key);
		if (row)
			load_option(l, row, load_job(l), &load_job(l)->lines[row - settings_job_options], value);
		else
			LOAD_ERROR(l, "%s: unknown option of a job type", key);
		break;
	case SECTION_BAD:
		break;
	}
	return 1;
}

/* The length of a line's first word, within reason: what follows it may be a secret. */
static int load_word(const char *line)
{
	size_t n = strcspn(line, "=: \t");

	return n < 50 ? (int)n : 50;
}

/* Tells of a line that the parser made nothing of. */
static void load_settle_line(struct load *l)
{
	if (l->pending)
		LOAD_ERROR(l, "\"%.*s\": not a line like key = value", load_word(l->key_line), l->key_line);
	l->pending = false;
}

/* libinih's reader: gives it one line at a time without what it would misread: long lines (which it cuts), indented
 * lines (which it takes for the rest of the value above) and heads of sections. */
static char *load_read(char *buf, int size, void *arg)
{
	static const char empty[] = "\n";
	struct load *l = arg;
	ssize_t n;
	char *s;

	load_settle_line(l);
	n = getline(&l->line, &l->size, l->f);
	if (n < 0)
		return NULL;
	l->lineno++;
	s = l->line;
	memcpy(buf, empty, sizeof(empty));
	if (strlen(s) != (size_t)n) {
		LOAD_ERROR(l, "%s", "there is a NUL byte in the line");
		return buf;
	}
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	if (l->lineno == 1 && strncmp(s, "\xEF\xBB\xBF", 3) == 0)
		s += 3;
	s += strspn(s, " \t\v\f\r");
	n = (ssize_t)strlen(s);
	if (!*s || *s == '#' || *s == ';')
		return buf;
	if (*s == '[') {
		load_section_line(l, s);
		return buf;
	}
	if (n > size - 4) { /* libinih wants room for CR, LF and NUL */
		LOAD_ERROR(l,
			"\"%.*s\": the line is too long, %zd characters; %d is the most (use the environment for such "
			"a value)",
			load_word(s), s, n, size - 4);
		return buf;
	}
	memcpy(buf, s, (size_t)n);
	memcpy(buf + n, empty, sizeof(empty));
	l->pending = true;
	l->key_line = s;
	return buf;
}

/* Opens the assumed settings where the usual file does not exist, and logs what is assumed; NULL: there are none. */
static FILE *load_open_assumed(struct settings *s)
{
	char *report, *rest, *line;
	FILE *f = NULL;

	if (strcmp(s->path, SETTINGS_USUAL_PATH) != 0)
		return NULL;
	s->assumed = assumed_settings(s->path, &report);
	if (s->assumed)
		f = fmemopen(s->assumed, strlen(s->assumed), "r");
	for (rest = report; (line = strsep(&rest, "\n")) != NULL;)
		log_info("%s", line);
	free(report);
	errno = f ? 0 : ENOENT;
	return f;
}

/* Opens the file and looks at its mode. */
static FILE *load_open(struct settings *s, char **errors)
{
	struct stat st;
	FILE *f = fopen(s->path, "re");

	if (!f && errno == ENOENT && (f = load_open_assumed(s)) != NULL)
		return f;
	if (!f && errno == ENOENT) {
		settings_error(errors,
			"%s: there is no such settings file (`pgmqd init` writes one for a database; -c FILE or "
			"PGMQD_CONF "
			"names another; without a file, DATABASE_URL must name the database)",
			s->path);
		return NULL;
	}
	if (f && fstat(fileno(f), &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			fclose(f);
			f = NULL;
			errno = EISDIR;
		} else {
			s->world_readable = S_ISREG(st.st_mode) && (st.st_mode & S_IROTH);
			settings_env_warn_of_mode(s->path, &st, false);
		}
	}
	if (!f)
		settings_error(errors, "%s: the settings file cannot be read: %s", s->path, strerror(errno));
	return f;
}

/* Warns of a password in the file that everybody can read. */
static void load_warn_of_password(const struct settings *s)
{
	static const struct {
		const char *name, *env;
	} tokens[] = { { "http_token", "PGMQD_HTTP_TOKEN" }, { "http_people", "PGMQD_HTTP_PEOPLE" } };
	const struct pgmqd_option *row = option_find(settings_global_options, "database");
	char *shown = settings_redact_conninfo(s->database);

	if (s->lines[row - settings_global_options] && s->world_readable && strcmp(shown, s->database) != 0)
		log_warn("%s holds the password of the database and can be read by everybody: chmod o= it, or set "
			 "PGPASSWORD or DATABASE_URL",
			s->path);
	free(shown);
	for (size_t i = 0; i < sizeof(tokens) / sizeof(*tokens); i++) {
		row = option_find(settings_global_options, tokens[i].name);
		if (s->lines[row - settings_global_options] && s->world_readable)
			log_warn("%s holds %s and can be read by everybody: chmod o= it, or set %s", s->path,
				tokens[i].name, tokens[i].env);
	}
}

/* Reads the settings. */
struct settings *settings_load(const char *path, char **errors)
{
	struct settings *s = xcalloc(1, sizeof(*s));
	struct load l = { .s = s, .errors = errors };

	*errors = NULL;
	if (!path) {
		path = getenv("PGMQD_CONF");
		if (!path || !*path)
			path = SETTINGS_USUAL_PATH;
	}
	s->path = xstrdup(path);
	l.f = load_open(s, errors);
	if (!l.f) {
		settings_free(s);
		return NULL;
	}
	option_defaults(settings_global_options, s);
#if defined(HAVE_DECL_INI_MAX_LINE) && HAVE_DECL_INI_MAX_LINE
	ini_max_line = LOAD_LINE_MAX; /* Debian's build can be told */
#endif
	errno = 0;
	ini_parse_stream(load_read, &l, load_key, &l); /* its result says less than what was collected */
	if (ferror(l.f))
		settings_error(errors, "%s: the settings file cannot be read: %s", s->path, strerror(errno));
	fclose(l.f);
	free(l.line);
	load_close_section(&l);
	if (!l.global_line) { /* the environment counts without a section, too */
		l.section = SECTION_GLOBAL;
		load_close_section(&l);
	}
	for (size_t i = 0; i < s->njobs; i++)
		settings_check_job(s, &s->jobs[i], errors);
	settings_check_global(s, l.global_line ? l.global_line : 1, errors);
	if (*errors) {
		settings_free(s);
		return NULL;
	}
	load_warn_of_password(s);
	return s;
}

/* ---- the options of a plugin ---- */

/* Reports an unknown key, and the known one that is nearest. */
static void refuse_pair(const struct settings *s, const struct queue_settings *q, const struct settings_pair *pair,
	const struct pgmqd_option *table, char **errors)
{
	struct option_guess g = { 0 };

	option_guess(&g, table, pair->key);
	option_guess(&g, settings_queue_options, pair->key);
	if (option_find(settings_global_options, pair->key))
		settings_error(errors, "%s:%u: %s: this option belongs into the section [pgmqd]", s->path, pair->line,
			pair->key);
	else if (g.name)
		settings_error(errors, "%s:%u: %s: unknown option of a queue with the plugin %s (did you mean %s?)",
			s->path, pair->line, pair->key, q->plugin, g.name);
	else
		settings_error(errors, "%s:%u: %s: unknown option of a queue with the plugin %s", s->path, pair->line,
			pair->key, q->plugin);
}

/* Whether a required row has its value. */
static bool row_is_filled(const struct pgmqd_option *row, const void *base, bool given)
{
	char *text = option_print(row, base);
	bool filled = *text && (given || row->def);

	free(text);
	return filled;
}

/* Fills a plugin's options in. */
char *settings_plugin_options(
	const struct settings *s, const struct queue_settings *q, const struct pgmqd_option *table, void *handle)
{
	const char *secret = NULL;
	char *errors = NULL, *error;
	size_t n = 0;
	bool *given;

	while (table && table[n].name)
		n++;
	given = xcalloc(n, sizeof(*given));
	option_defaults(table, handle);
	for (size_t i = 0; i < q->npairs; i++) {
		const struct settings_pair *pair = &q->pairs[i];
		const struct pgmqd_option *row = option_find(table, pair->key);

		if (!row) {
			refuse_pair(s, q, pair, table, &errors);
			continue;
		}
		given[row - table] = true;
		error = option_set(row, handle, pair->value);
		if (error)
			settings_error(&errors, "%s:%u: %s", s->path, pair->line, error);
		free(error);
		if (option_type(row) == PGMQD_SECRET && *pair->value)
			secret = pair->key;
	}
	settings_env_fill(table, handle, given, &errors);
	for (size_t i = 0; i < n; i++) {
		const struct pgmqd_option *row = &table[i];

		if (!row->required || row_is_filled(row, handle, given[i]))
			continue;
		if (given[i] && option_type(row) != PGMQD_STRING &&
			option_type(row) != PGMQD_SECRET) /* it does not parse, and that was told */
			continue;
		if (row->env)
			settings_error(&errors,
				"%s:%u: [queue %s]: %s is missing (write %s = ... here, or set %s in the environment)",
				s->path, q->line, q->name, row->name, row->name, row->env);
		else
			settings_error(&errors, "%s:%u: [queue %s]: %s is missing (write %s = ... here)", s->path,
				q->line, q->name, row->name, row->name);
	}
	if (secret && s->world_readable)
		log_warn("%s holds %s of [queue %s] and can be read by everybody: chmod o= it, or move the secret to "
			 "the environment",
			s->path, secret, q->name);
	free(given);
	return errors;
}
