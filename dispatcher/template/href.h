/* href.h: follows HTML as it is written, and judges the addresses in its links and images. */
#ifndef HREF_H
#define HREF_H

#include <stdbool.h>
#include <stddef.h>

/* Where in the HTML the last byte was. */
enum href_state {
	HREF_TEXT = 0,
	HREF_OPEN, /* behind < */
	HREF_SKIP, /* a comment or declaration */
	HREF_TAG,  /* the tag's name */
	HREF_BETWEEN,
	HREF_NAME,
	HREF_EQUALS, /* behind an attribute's name */
	HREF_BEGIN,  /* behind = */
	HREF_VALUE
};

struct href {
	enum href_state state;
	char quote;    /* round the value; 0: none */
	char name[16]; /* of the attribute, in lower case, cut to fit */
	size_t name_len;
	char value[256]; /* its beginning */
	size_t value_len;
	bool variable;     /* a variable was written into this value */
	bool fixed_scheme; /* the template itself has written how the address starts */
};

/* Follows `len` more bytes. False: one of the values that ended in them has a variable and may not be an address. */
bool href_feed(struct href *h, const char *text, size_t len);

/* A variable's value is about to be written. True: it is the first one of an address. */
bool href_variable(struct href *h);

#endif
