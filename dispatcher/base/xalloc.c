/* xalloc.c: allocators that end the process when memory is out, so that no caller has to go on without. */
#include "config.h"

#include "base/xalloc.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void xalloc_die(const char *what)
{
	static const char prefix[] = "pgmqd: ";

	/* a message that cannot be written is lost */
	if (write(STDERR_FILENO, prefix, sizeof(prefix) - 1) > 0 && write(STDERR_FILENO, what, strlen(what)) > 0)
		abort();
	abort();
}

/* Allocates; a size of 0 gives a pointer that can be freed. */
void *xmalloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		xalloc_die("out of memory\n");
	return p;
}

/* Allocates n zeroed things. */
void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		xalloc_die("out of memory\n");
	return p;
}

/* Resizes to n things; p may be NULL. */
void *xrealloc(void *p, size_t n, size_t size)
{
	if (size && n > SIZE_MAX / size)
		xalloc_die("an allocation is larger than the address space\n");
	p = realloc(p, n && size ? n * size : 1);
	if (!p)
		xalloc_die("out of memory\n");
	return p;
}

/* Copies a string; NULL stays NULL. */
char *xstrdup(const char *s)
{
	return s ? xstrndup(s, strlen(s)) : NULL;
}

/* Copies at most n bytes of a string and ends them. */
char *xstrndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = xmalloc(len + 1);

	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

/* Prints into a new string. */
char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	return s;
}

/* The same with a va_list. */
char *xvasprintf(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		xalloc_die("out of memory\n");
	return s;
}

char *xoneline(const char *text)
{
	char *line = xasprintf("%s", text), *to = line;

	for (const char *from = line; *from; from++) {
		bool space = *from == '\n' || *from == '\t' || *from == ' ';

		if (!space || (to > line && to[-1] != ' '))
			*to++ = space ? ' ' : *from;
	}
	while (to > line && to[-1] == ' ')
		to--;
	*to = 0;
	return line;
}
