/* text.c: memory and texts for the plugins that use plugins/batch. */
#include "config.h"

#include "batch/text.h"

#include "pgmqd-plugin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *need(void *p)
{
	if (!p) {
		pgmqd_log(PGMQD_ERROR, "out of memory");
		abort();
	}
	return p;
}

char *format(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return need(text);
}

void text_add(struct text *t, const char *data, size_t n)
{
	if (t->len + n + 1 > t->room) {
		t->room = (t->len + n + 1) * 2;
		t->buf = need(realloc(t->buf, t->room));
	}
	memcpy(t->buf + t->len, data, n);
	t->len += n;
	t->buf[t->len] = '\0';
}
