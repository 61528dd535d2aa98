/* sqlfile.c: the files of the SQL directory, and the line of a file that an error of the server is about. */
#include "config.h"

#include "base/xalloc.h"
#include "cmd/sqlfile.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES (16L * 1024 * 1024)

/* Whether a file is one of ours: three digits, "_", and a plain name. */
static bool name_fits(const char *name)
{
	size_t len = strlen(name), digits = strspn(name, "0123456789");

	return digits == 3 && name[3] == '_' && len > 8 && strcmp(name + len - 4, ".sql") == 0 &&
	       strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz_") == len - 4;
}

/* For qsort and bsearch. */
int sql_file_compare(const void *a, const void *b)
{
	return strcmp(((const struct sql_file *)a)->name, ((const struct sql_file *)b)->name);
}

char *sql_file_read(const char *path, char **error)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	char *text = NULL;
	size_t got;

	if (!f || fstat(fileno(f), &st) != 0) {
		*error = xasprintf("%s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
		*error = xasprintf("%s: not a file, or larger than %ld bytes", path, FILE_MAX_BYTES);
	} else {
		text = xmalloc((size_t)st.st_size + 1);
		got = fread(text, 1, (size_t)st.st_size, f);
		text[got] = '\0';
		if (ferror(f) || got != (size_t)st.st_size)
			*error = xasprintf("%s: cannot be read", path);
		else if (strlen(text) != got)
			*error = xasprintf("%s: contains a NUL byte", path);
	}
	if (f)
		fclose(f);
	if (*error) {
		free(text);
		return NULL;
	}
	return text;
}

/* Frees what sql_dir_read() has read. */
void sql_dir_free(struct sql_dir *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->files[i].name);
		free(d->files[i].path);
		free(d->files[i].text);
		free(d->files[i].checksum);
		free(d->files[i].applied_at);
		free(d->files[i].missing);
	}
	free(d->files);
}

/* Reads the SQL files of a directory; NULL, or what is wrong. */
char *sql_dir_read(struct sql_dir *d, const char *path)
{
	struct dirent *entry;
	char *error = NULL;
	DIR *dir = opendir(path);

	if (!dir)
		return xasprintf("%s: %s (--sql-dir or PGMQD_SQL_DIR names the directory of the SQL files)", path,
			strerror(errno));
	while (!error && (entry = readdir(dir))) {
		struct sql_file f = { 0 };

		if (!name_fits(entry->d_name))
			continue;
		f.name = xstrdup(entry->d_name);
		f.path = xasprintf("%s/%s", path, entry->d_name);
		f.text = sql_file_read(f.path, &error);
		d->files = xrealloc(d->files, d->n + 1, sizeof(*d->files));
		d->files[d->n++] = f;
	}
	closedir(dir);
	if (!error && d->n == 0)
		error = xasprintf("%s: there is no SQL file such as 010_pgmq.sql (--sql-dir or PGMQD_SQL_DIR names "
				  "their directory)",
			path);
	if (d->n)
		qsort(d->files, d->n, sizeof(*d->files), sql_file_compare);
	return error;
}

char *sql_file_makes(const struct sql_file *f)
{
	static const char word[] = "\n-- makes: ";
	const char *list = strstr(f->text, word);
	char *names = list ? xasprintf("{%.*s}", (int)strcspn(list + strlen(word), "\n"), list + strlen(word))
	                   : xstrdup("{}");

	for (char *p = names; *p; p++)
		if (*p == ' ')
			*p = ',';
	return names;
}

/* ---- where in a file an error is ---- */

/* The end of a quoted text that begins at p: '...' (with backslashes if `escapes`) or "...". */
static const char *skip_quoted(const char *p, bool escapes)
{
	char quote = *p++;

	for (; *p && *p != quote; p++)
		if (escapes && *p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

/* The end of a $tag$...$tag$ text that begins at p, or p + 1 when none does. */
static const char *skip_dollar_quoted(const char *p)
{
	size_t len = strspn(p + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") + 2;

	if (p[len - 1] != '$')
		return p + 1;
	for (const char *end = p + len; (end = strchr(end, '$')); end++)
		if (strncmp(end, p, len) == 0)
			return end + len;
	return p + strlen(p);
}

/* The end of a comment that begins at p; block comments may contain others. */
static const char *skip_comment(const char *p)
{
	int depth = 0;

	if (*p == '-')
		return p + strcspn(p, "\n");
	for (; *p; p++) {
		if (p[0] == '/' && p[1] == '*') {
			depth++;
			p++;
		} else if (p[0] == '*' && p[1] == '/') {
			p++;
			if (--depth == 0)
				return p + 1;
		}
	}
	return p;
}

/* Where the n-th statement of a text begins (counted from 0); the end of the text when there are fewer. */
static const char *find_statement(const char *text, unsigned n)
{
	bool inside = false;

	for (const char *p = text; *p;) {
		bool comment = strncmp(p, "--", 2) == 0 || strncmp(p, "/*", 2) == 0;

		if (!inside && !comment && !strchr(" \t\r\n;", *p)) {
			if (n-- == 0)
				return p;
			inside = true;
		}
		if (comment)
			p = skip_comment(p);
		else if (*p == '\'')
			p = skip_quoted(p, p > text && (p[-1] == 'E' || p[-1] == 'e'));
		else if (*p == '"')
			p = skip_quoted(p, false);
		else if (*p == '$')
			p = skip_dollar_quoted(p);
		else if (*p++ == ';')
			inside = false;
	}
	return text + strlen(text);
}

/* The line that an error of the server is about: the place that it names, else the statement that failed. */
unsigned sql_error_line(const char *text, const PGresult *res, unsigned statement)
{
	const char *position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION);
	const char *place = text;
	unsigned line = 1;

	if (position) {
		/* counted in characters, from 1 */
		for (long n = strtol(position, NULL, 10); *place && n > 1; n--)
			do
				place++;
			while (((unsigned char)*place & 0xC0) == 0x80);
	} else {
		place = find_statement(text, statement);
	}
	for (; text < place; text++)
		line += *text == '\n';
	return line;
}
