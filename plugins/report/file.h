/* file.h: a file that is there as a whole or not at all. */
#ifndef REPORT_FILE_H
#define REPORT_FILE_H

#include <stddef.h>

/* Writes dir/name, mode 0600, through a temporary file. 0, or an errno. */
int file_write(const char *dir, const char *name, const void *data, size_t len);

/* Removes dir/name, for good. 0, also when there is none; or an errno. */
int file_remove(const char *dir, const char *name);

/* Size of dir/name; -1: there is no such plain file. */
long long file_size(const char *dir, const char *name);

/* Whether file_write() would work: writes an empty file and removes it. 0, or an errno. */
int file_try(const char *dir);

/* Removes the temporary files of crashed processes. */
void file_sweep(const char *dir);

#endif
