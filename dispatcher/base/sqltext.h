/* sqltext.h: PostgreSQL array parameters and literals as text. */
#ifndef SQLTEXT_H
#define SQLTEXT_H

#include <stddef.h>
#include <stdint.h>

/* An array literal that grows: {1,2} or {"a","b"}. All zero is an empty one. */
struct sqltext {
	char *buf;
	size_t len, size;
};

void sqltext_int(struct sqltext *t, int64_t value);
void sqltext_str(struct sqltext *t, const char *value); /* NULL: null */
const char *sqltext_end(struct sqltext *t);             /* closes it; the text is the array's until sqltext_free() */
void sqltext_free(struct sqltext *t);

/* A number that is a macro, as a part of a statement. */
#define SQLTEXT_NUMBER_(n) #n
#define SQLTEXT_NUMBER(n) SQLTEXT_NUMBER_(n)

char *sqltext_literal(const char *s);    /* E'...', malloc'd */
char *sqltext_identifier(const char *s); /* "...", malloc'd */

#endif
