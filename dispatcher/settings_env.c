/* settings_env.c: what comes from the environment: the variables that fill options in, and .env files. */
#include "config.h"

#include "log.h"
#include "settings.h"
#include "xalloc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The value that a row takes from the environment. */
char *settings_env_value(const struct pgmqd_option *row)
{
	const char *value = row->env ? getenv(row->env) : NULL;
	size_t len = row->env ? strlen(row->env) : 0;

	if (!value || !*value)
		return NULL;
	if (row->type == PGMQD_DURATION && len > 3 && strcmp(row->env + len - 3, "_MS") == 0 && value[strspn(value, "0123456789")] == '\0')
		return xasprintf("%sms", value);
	return xstrdup(value);
}

/* Fills in what the file left open. */
void settings_env_fill(const struct pgmqd_option *table, void *base, bool *given, char **errors)
{
	for (size_t i = 0; table && table[i].name; i++) {
		char *value = given[i] ? NULL : settings_env_value(&table[i]), *error;

		if (!value)
			continue;
		given[i] = true;
		error = option_set(&table[i], base, value);
		if (error)
			settings_error(errors, "environment variable %s: %s", table[i].env, error);
		free(error);
		free(value);
	}
}

/* A quoted value, in place: '...' is taken as it stands, "..." knows \n, \t, \r, \", \\ and \$. What follows the closing quote must be
 * blank or a comment. NULL, or what is wrong. */
static const char *unquote(char *s, char **value)
{
	char quote = *s++, *out = s;

	*value = s;
	for (; *s != quote; s++) {
		if (!*s)
			return "the closing quote is missing (a value is one line)";
		if (quote == '"' && *s == '\\' && s[1]) {
			s++;
			*out++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s == 'r' ? '\r' : *s;
		} else {
			*out++ = *s;
		}
	}
	s++;
	*out = '\0';
	s += strspn(s, " \t");
	return *s && *s != '#' ? "there is something behind the closing quote" : NULL;
}

/* A bare value, in place: it ends before a blank and #, or at the line's end. */
static void trim_bare(char *s)
{
	for (char *p = s; *p; p++)
		if (*p == '#' && (p == s || p[-1] == ' ' || p[-1] == '\t')) {
			*p = '\0';
			break;
		}
	for (size_t n = strlen(s); n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'); n--)
		s[n - 1] = '\0';
}

/* One line of the file. NULL, or what is wrong; values are never quoted, they are secrets more often than not. */
static const char *env_line(char *s)
{
	const char *error;
	char *name, *value, *old;

	s += strspn(s, " \t");
	if (!*s || *s == '#')
		return NULL;
	if (strncmp(s, "export", 6) == 0 && (s[6] == ' ' || s[6] == '\t'))
		s += 6 + strspn(s + 6, " \t");
	name = s;
	if (!isalpha((unsigned char)*s) && *s != '_')
		return "not a line like NAME=value";
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	value = s + strspn(s, " \t");
	if (*value != '=')
		return "not a line like NAME=value";
	*s = '\0';
	value++;
	value += strspn(value, " \t");
	if (*value == '\'' || *value == '"') {
		error = unquote(value, &value);
		if (error)
			return error;
	} else {
		trim_bare(value);
	}
	old = getenv(name);
	if (setenv(name, value, !old || !*old) != 0) /* empty counts as not set */
		return strerror(errno);
	return NULL;
}

/* Reads a .env file into the environment. */
char *settings_env_file(const char *path)
{
	char *line = NULL, *error = NULL;
	const char *what = NULL;
	unsigned lineno = 0;
	size_t size = 0;
	struct stat st;
	ssize_t n;
	FILE *f = fopen(path, "re");

	if (!f)
		return xasprintf("%s: the file given by --env-file cannot be read: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH))
		log_warn("%s can be read by everybody, and files like this hold secrets: chmod o= it", path);
	errno = 0;
	while (!what && (n = getline(&line, &size, f)) >= 0) {
		char *start = line;

		lineno++;
		if (lineno == 1 && strncmp(line, "\xEF\xBB\xBF", 3) == 0)
			start += 3;
		if (strlen(line) != (size_t)n)
			what = "there is a NUL byte in the line";
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			line[--n] = '\0';
		if (!what)
			what = env_line(start);
	}
	if (what)
		error = xasprintf("%s:%u: %s", path, lineno, what);
	else if (ferror(f))
		error = xasprintf("%s: the file given by --env-file cannot be read: %s", path, strerror(errno));
	if (line)
		explicit_bzero(line, size);
	free(line);
	fclose(f);
	return error;
}
