/* text.h: memory and texts for the plugins that use plugins/batch. */
#ifndef BATCH_TEXT_H
#define BATCH_TEXT_H

#include <stddef.h>

void *need(void *p); /* ends the process when memory is out */
char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A text that grows. */
struct text {
	char *buf; /* NUL-terminated; NULL while it is empty */
	size_t len, room;
};
void text_add(struct text *t, const char *data, size_t n);

#endif
