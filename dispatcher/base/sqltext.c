/* sqltext.c: PostgreSQL array parameters and literals as text. */
#include "config.h"

#include "base/sqltext.h"

#include "base/xalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `more` bytes and a NUL. */
static void reserve(struct sqltext *t, size_t more)
{
	if (t->len + more + 1 > t->size) {
		t->size = (t->size ? t->size * 2 : 64) + more;
		t->buf = xrealloc(t->buf, t->size, 1);
	}
}

/* Appends one byte. */
static void put(struct sqltext *t, char c)
{
	reserve(t, 1);
	t->buf[t->len++] = c;
	t->buf[t->len] = 0;
}

void sqltext_int(struct sqltext *t, int64_t value)
{
	put(t, t->len ? ',' : '{');
	reserve(t, 24);
	t->len += (size_t)snprintf(t->buf + t->len, 24, "%lld", (long long)value);
}

void sqltext_str(struct sqltext *t, const char *value)
{
	put(t, t->len ? ',' : '{');
	if (!value) {
		for (value = "NULL"; *value; value++)
			put(t, *value);
		return;
	}
	put(t, '"');
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			put(t, '\\');
		put(t, *value);
	}
	put(t, '"');
}

const char *sqltext_end(struct sqltext *t)
{
	if (!t->len)
		put(t, '{');
	put(t, '}');
	return t->buf;
}

void sqltext_free(struct sqltext *t)
{
	free(t->buf);
	memset(t, 0, sizeof(*t));
}

char *sqltext_literal(const char *s)
{
	size_t n = strlen(s);
	char *out = xmalloc(2 * n + 4), *p = out;

	*p++ = 'E';
	*p++ = '\'';
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			*p++ = *s;
		*p++ = *s;
	}
	*p++ = '\'';
	*p = 0;
	return out;
}

char *sqltext_identifier(const char *s)
{
	char *out = xmalloc(2 * strlen(s) + 3), *p = out;

	*p++ = '"';
	for (; *s; s++) {
		if (*s == '"')
			*p++ = *s;
		*p++ = *s;
	}
	*p++ = '"';
	*p = 0;
	return out;
}
