/* xalloc.h: allocators that end the process when memory is out, and small string helpers. */
#ifndef XALLOC_H
#define XALLOC_H

#include <stdarg.h>
#include <stddef.h>

_Noreturn void xalloc_die(const char *what); /* writes a line without allocating, and ends the process */
void *xmalloc(size_t size) __attribute__((returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((returns_nonnull));
void *xrealloc(void *p, size_t n, size_t size) __attribute__((returns_nonnull)); /* n * size, checked for overflow */
char *xstrdup(const char *s);                                                    /* NULL in, NULL out */
char *xstrndup(const char *s, size_t n);
char *xoneline(const char *text)
	__attribute__((nonnull)); /* a copy in which every run of blanks and line ends is one space */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

#endif
