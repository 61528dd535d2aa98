/* env.c: what comes from the environment: the variables that fill options in, files with one value each, and .env
 * files. */
#include "config.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/xalloc.h"
#include "settings/env.h"
#include "settings/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define VALUE_MAX 65536 /* bytes of a file that is one value */

extern char **environ;

/* Warns of a file that others may change or read. */
void settings_env_warn_of_mode(const char *path, const struct stat *st, bool holds)
{
	if (!S_ISREG(st->st_mode))
		return;
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		log_warn("%s can be changed by others than its owner: chmod go-w it", path);
	if (holds && (st->st_mode & S_IROTH))
		log_warn("%s can be read by everybody, and files like this hold secrets: chmod o= it", path);
}

/* Reads a file that is one value, without the newline at its end. NULL with *error; or with neither, when there is no
 * such file. */
static char *env_read(const char *path, char **error)
{
	char *text = xmalloc(VALUE_MAX + 2);
	FILE *f = fopen(path, "re");
	struct stat st;
	size_t n;

	if (!f || fstat(fileno(f), &st) != 0 || S_ISDIR(st.st_mode)) {
		if (errno != ENOENT || f)
			*error = xasprintf("%s cannot be read: %s", path, f ? "it is no file" : strerror(errno));
		if (f)
			fclose(f);
		free(text);
		return NULL;
	}
	settings_env_warn_of_mode(path, &st, true);
	n = fread(text, 1, VALUE_MAX + 1, f);
	if (ferror(f))
		*error = xasprintf("%s cannot be read: %s", path, strerror(errno));
	fclose(f);
	text[n] = '\0';
	if (n > 0 && n <= VALUE_MAX && text[n - 1] == '\n')
		text[--n] = '\0';
	if (n > 0 && text[n - 1] == '\r')
		text[--n] = '\0';
	if (!*error && (n > VALUE_MAX || strlen(text) != n || strpbrk(text, "\r\n")))
		*error = xasprintf("%s is not a file of one line with one value", path);
	if (*error) {
		explicit_bzero(text, n);
		free(text);
		text = NULL;
	}
	return text;
}

/* The value of a variable out of a file. *path is the file that it should be in; NULL when none is named. */
static char *env_from_file(const char *name, char **path, char **error)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY"), *file;
	char *key = xasprintf("%s_FILE", name), *value = NULL;

	*path = NULL;
	file = getenv(key);
	if (file && *file) {
		*path = xstrdup(file);
		value = env_read(file, error);
		if (!value && !*error)
			*error = xasprintf("%s, which %s names, does not exist", file, key);
	} else if (dir && *dir) {
		*path = xasprintf("%s/%s", dir, name);
		value = env_read(*path, error);
		if (!value && !*error) {
			free(*path);
			*path = NULL;
		}
	}
	free(key);
	return value;
}

/* The value that a row takes from outside of the settings file. */
char *settings_env_value(const struct pgmqd_option *row, char **source, char **error)
{
	char *path = NULL, *wrong = NULL, *value = row->env ? env_from_file(row->env, &path, &wrong) : NULL;
	const char *text = row->env ? getenv(row->env) : NULL;
	size_t len = row->env ? strlen(row->env) : 0;

	if (!path && text && *text)
		value = xstrdup(text);
	if (value && option_type(row) == PGMQD_DURATION && len > 3 && strcmp(row->env + len - 3, "_MS") == 0 &&
		*value && value[strspn(value, "0123456789")] == '\0') {
		text = value;
		value = xasprintf("%sms", text);
		free((char *)text);
	}
	if (value && !*value) {
		free(value);
		value = NULL;
	}
	if (source)
		*source = !value ? NULL : path ? xasprintf("file %s", path) : xasprintf("environment, %s", row->env);
	if (error)
		*error = wrong;
	else
		free(wrong);
	free(path);
	return value;
}

/* Mixes what tells one state of a file from another into a number. */
static uint64_t env_mix(uint64_t hash, const char *path)
{
	struct stat st;
	uint64_t parts[4] = { 0 };

	if (stat(path, &st) == 0) {
		parts[0] = (uint64_t)st.st_ino;
		parts[1] = (uint64_t)st.st_size;
		parts[2] = (uint64_t)st.st_mtim.tv_sec;
		parts[3] = (uint64_t)st.st_mtim.tv_nsec;
	}
	return hash_add(hash, parts, sizeof(parts));
}

/* A number that changes when a file that values come from does: which of them matter only the plugins know. */
uint64_t settings_env_files(void)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	uint64_t hash = HASH_START;

	for (char **e = environ; *e; e++) {
		const char *equals = strchr(*e, '=');

		if (equals && equals - *e > 5 && strncmp(equals - 5, "_FILE", 5) == 0)
			hash = env_mix(hash, equals + 1);
	}
	return dir && *dir ? env_mix(hash, dir) : hash;
}

/* Fills in what the file left open. */
void settings_env_fill(const struct pgmqd_option *table, void *base, bool *given, char **errors)
{
	for (size_t i = 0; table && table[i].name; i++) {
		char *source = NULL, *error = NULL,
		     *value = given[i] ? NULL : settings_env_value(&table[i], &source, &error);

		if (error)
			settings_error(errors, "%s: %s", table[i].name, error);
		free(error);
		if (!value)
			continue;
		given[i] = true;
		error = option_set(&table[i], base, value);
		if (error && strncmp(source, "file ", 5) == 0)
			settings_error(errors, "%s: %s", source, error);
		else if (error)
			settings_error(errors, "environment variable %s: %s", table[i].env, error);
		free(error);
		free(source);
		explicit_bzero(value, strlen(value));
		free(value);
	}
}

static const char unclosed[] = "the closing quote is missing";

/* A quoted value, in place: '...' and `...` are taken as they stand, "..." knows \n, \t, \r, \", \\ and \$. What
 * follows the closing quote must be blank or a comment. NULL, or what is wrong. */
static const char *unquote(char *s, char **value)
{
	char quote = *s++, *out = s;

	*value = s;
	for (; *s != quote; s++) {
		if (!*s)
			return unclosed;
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

/* Whether a value that begins in this line, behind the first =, is in quotes that end in a later one. */
static bool goes_on(const char *s)
{
	size_t start = strspn(s, " \t");
	const char *p = s[start] == '#' ? NULL : strchr(s, '=');
	char quote;

	if (!p)
		return false;
	p += 1 + strspn(p + 1, " \t");
	quote = *p;
	if (!quote || !strchr("'\"`", quote))
		return false;
	for (p++; *p && *p != quote; p++)
		if (quote == '"' && *p == '\\' && p[1])
			p++;
	return !*p;
}

/* One line of the file, or the lines of one value. NULL, or what is wrong; values are never quoted, they are secrets
 * more often than not. */
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
	while (isalnum((unsigned char)*s) || (*s && strchr("_.-", *s))) /* with . and - they are of no use to us */
		s++;
	value = s + strspn(s, " \t");
	if (*value != '=')
		return "not a line like NAME=value";
	*s = '\0';
	value++;
	value += strspn(value, " \t");
	if (*value && strchr("'\"`", *value)) {
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

/* Reads one line without its end into *line, behind what is in it already (n bytes). Its new length, or -1; *nul when
 * there is a NUL byte in it. */
static ssize_t env_getline(FILE *f, char **line, size_t n, bool *nul)
{
	char *next = NULL;
	size_t size = 0;
	ssize_t len = getline(&next, &size, f);

	if (len >= 0) {
		*nul = strlen(next) != (size_t)len;
		while (len > 0 && (next[len - 1] == '\n' || next[len - 1] == '\r'))
			next[--len] = '\0';
		*line = xrealloc(*line, 1, n + (size_t)len + 2);
		if (n)
			(*line)[n++] = '\n';
		memcpy(*line + n, next, (size_t)len + 1);
		len += (ssize_t)n;
	}
	if (next)
		explicit_bzero(next, size);
	free(next);
	return len;
}

/* Reads a .env file into the environment. */
char *settings_env_file(const char *path)
{
	char *line = NULL, *error = NULL;
	const char *what = NULL;
	unsigned lineno = 0, lines = 0;
	bool nul = false;
	struct stat st;
	ssize_t n, more;
	FILE *f = fopen(path, "re");

	if (!f)
		return xasprintf("%s: the file given by --env-file cannot be read: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) == 0)
		settings_env_warn_of_mode(path, &st, true);
	errno = 0;
	while (!what && (n = env_getline(f, &line, 0, &nul)) >= 0) {
		size_t mark;

		lineno = ++lines;
		mark = lineno == 1 && strncmp(line, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
		while (!nul && goes_on(line + mark) && (more = env_getline(f, &line, (size_t)n, &nul)) >= 0) {
			n = more;
			lines++;
		}
		what = nul ? "there is a NUL byte in the line" : env_line(line + mark);
		explicit_bzero(line, (size_t)n);
	}
	if (what)
		error = xasprintf("%s:%u: %s", path, lineno, what);
	else if (ferror(f))
		error = xasprintf("%s: the file given by --env-file cannot be read: %s", path, strerror(errno));
	free(line);
	fclose(f);
	return error;
}
