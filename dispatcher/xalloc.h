/* xalloc.h: allocators that end the process when memory is out, and small string helpers. */
#ifndef XALLOC_H
#define XALLOC_H

#include <stdarg.h>
#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n, size_t size); /* n * size, checked for overflow */
char *xstrdup(const char *s);                   /* NULL in, NULL out */
char *xstrndup(const char *s, size_t n);
char *xoneline(const char *text); /* a copy in which every run of blanks and line ends is one space */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

#endif
