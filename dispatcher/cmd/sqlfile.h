/* sqlfile.h: the files of the SQL directory, and the line of a file that an error of the server is about. */
#ifndef SQLFILE_H
#define SQLFILE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* One file, such as 010_pgmq.sql; the rest of it is filled in by `pgmqd migrate`. */
struct sql_file {
	char *name, *path, *text;
	char *checksum;   /* computed by the server */
	char *applied_at; /* NULL: never */
	bool changed;     /* since it was applied */
	char *missing;    /* something that it makes and that is not there */
};

/* All of them, by name. */
struct sql_dir {
	struct sql_file *files;
	size_t n;
};

/* Reads the files of a directory that are named like NNN_name.sql. NULL, or what is wrong, malloc'd; free in both
 * cases. */
char *sql_dir_read(struct sql_dir *d, const char *path);
/* The text of a file; NULL with *error, malloc'd, set. */
char *sql_file_read(const char *path, char **error);
void sql_dir_free(struct sql_dir *d);
int sql_file_compare(const void *a, const void *b);

/* The objects that the file makes by its line "-- makes: NAME NAME ...", as an array literal; malloc'd. */
char *sql_file_makes(const struct sql_file *f);

/* The line of a text that an error is about: the place that the server names, else the n-th statement, counted from 0.
 */
unsigned sql_error_line(const char *text, const PGresult *res, unsigned statement);

#endif
