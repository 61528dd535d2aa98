/* files.h: files that tests write, and what is written to stderr meanwhile. */
#ifndef FILES_H
#define FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Writes a file of that mode. */
void write_file(const char *name, const char *text, size_t len, mode_t mode);

/* Keeps what is written to stderr, such as warnings that a test causes on purpose. */
void quiet_start(void);
/* Ends that; returns whether `text` was in it. */
bool quiet_end(const char *text);

#endif
