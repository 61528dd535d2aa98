/* page_files.h: the files of the status page as the build put them into the program. */
#ifndef PAGE_FILES_H
#define PAGE_FILES_H

#include <stddef.h>

struct page_file {
	const char *path, *type, *tag; /* where it is served; its Content-Type; changes when the file does */
	const unsigned char *data;
	size_t size;
};

extern const struct page_file page_files[]; /* path NULL at the end */

#endif
