/* href.h: follows HTML as it is written, and judges the addresses in it that a variable has a part in. */
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
	HREF_VALUE,
	HREF_CSS /* the text of <style> */
};

struct href {
	enum href_state state;
	char quote;    /* round the value; 0: none */
	char tag[8];   /* its name, in lower case, cut to fit */
	char name[16]; /* of the attribute, likewise */
	size_t tag_len, name_len;
	size_t from;       /* where the value or the text of <style> begins */
	bool given;        /* the bytes that come are a variable's */
	bool variable;     /* a variable has a part in this value */
	bool whole;        /* the value begins inside a variable that brings its own HTML */
	bool fixed_scheme; /* the template itself has written how the address starts */
};

/* Follows the bytes `from` to `to` of the HTML `text`. NULL, or what is wrong with a value that ended in them. */
const char *href_feed(struct href *h, const char *text, size_t from, size_t to);

/* A variable's value is about to be written behind `len` bytes of HTML: its bytes are fed next, then given is reset. */
void href_variable(struct href *h, const char *text, size_t len);

#endif
