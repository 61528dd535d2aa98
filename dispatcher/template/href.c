/* href.c: follows HTML as it is written, and judges the addresses in its links and images. */
#include "config.h"

#include "template/href.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* True for the attributes that hold an address which a mail program follows or loads. */
static bool href_is_address(const struct href *h)
{
	static const char *const names[] = { "href", "src", "action", "formaction", "background", "poster", "cite",
		"data", "srcset", "longdesc", "xlink:href", "ping", "manifest", "usemap" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strlen(names[i]) == h->name_len && memcmp(names[i], h->name, h->name_len) == 0)
			return true;
	return false;
}

/* True for an address that the mail program loads as an image. */
static bool href_is_image(const struct href *h)
{
	return strncmp(h->name, "src", 3) == 0 || strcmp(h->name, "background") == 0 || strcmp(h->name, "poster") == 0;
}

/* The character that an entity stands for, 0 for one that cannot be part of a scheme; *end is behind it. */
static char href_entity(const char *p, const char **end)
{
	static const struct {
		const char *name;
		char c;
	} named[] = { { "colon;", ':' }, { "tab;", '\t' }, { "newline;", '\n' }, { "sol;", '/' }, { "amp;", '&' } };
	char *stop;

	if (p[1] == '#') {
		bool hex = p[2] == 'x' || p[2] == 'X';
		unsigned long code = strtoul(p + (hex ? 3 : 2), &stop, hex ? 16 : 10);
		*end = *stop == ';' ? stop + 1 : stop;
		return code < 128 ? (char)code : 0;
	}
	for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
		if (strncasecmp(p + 1, named[i].name, strlen(named[i].name)) == 0) {
			*end = p + 1 + strlen(named[i].name);
			return named[i].c;
		}
	*end = p + 1;
	return '&';
}

/* Writes the beginning of the value as a browser reads it: entities resolved, white space and controls left out. */
static void href_plain(const struct href *h, char plain[sizeof h->value])
{
	size_t n = 0;

	for (const char *p = h->value; *p;) {
		char c = *p;

		if (c == '&')
			c = href_entity(p, &p);
		else
			p++;
		if ((unsigned char)c > ' ')
			plain[n++] = c;
	}
	plain[n] = '\0';
}

/* True when a text begins so, in either case. */
static bool href_begins(const char *text, const char *with)
{
	return strncasecmp(text, with, strlen(with)) == 0;
}

/* True for an address with a variable in it that may stand in a mail. */
static bool href_is_good(const struct href *h)
{
	char plain[sizeof h->value];

	href_plain(h, plain);
	/* what hides behind more white space than is kept cannot be judged */
	if (plain[0] == '\0')
		return h->value_len + 1 < sizeof h->value;
	if (href_begins(plain, "https://") || href_begins(plain, "http://") || href_begins(plain, "mailto:") ||
		href_begins(plain, "tel:"))
		return true;
	if (href_is_image(h) && (href_begins(plain, "cid:") || href_begins(plain, "data:image/")))
		return true;
	return h->fixed_scheme && !href_begins(plain, "javascript:") && !href_begins(plain, "vbscript:") &&
	       !href_begins(plain, "data:");
}

/* An attribute's name begins with c. */
static void href_name(struct href *h, char c)
{
	h->state = HREF_NAME;
	h->name_len = 0;
	memset(h->name, 0, sizeof h->name);
	h->name[h->name_len++] = (char)tolower((unsigned char)c);
}

/* An attribute's value begins. */
static void href_value(struct href *h, char quote)
{
	h->state = HREF_VALUE;
	h->quote = quote;
	h->value_len = 0;
	h->value[0] = '\0';
}

/* The value is complete. False: it may not be an address. */
static bool href_close(struct href *h, enum href_state next)
{
	bool good = !h->variable || !href_is_address(h) || href_is_good(h);

	h->state = next;
	h->variable = h->fixed_scheme = false;
	return good;
}

/* Follows one byte inside a value. */
static bool href_value_byte(struct href *h, char c)
{
	if (h->quote ? c == h->quote : c == '>')
		return href_close(h, h->quote ? HREF_BETWEEN : HREF_TEXT);
	if (!h->quote && isspace((unsigned char)c))
		return href_close(h, HREF_BETWEEN);
	if (h->value_len + 1 < sizeof h->value && (h->value_len > 0 || (unsigned char)c > ' ')) {
		h->value[h->value_len++] = c;
		h->value[h->value_len] = '\0';
	}
	return true;
}

/* Follows one byte of a tag outside its values. */
static void href_tag_byte(struct href *h, char c)
{
	bool space = isspace((unsigned char)c) || c == '/';

	if (c == '>') {
		h->state = HREF_TEXT;
		h->variable = false;
	} else if (h->state == HREF_TAG) {
		h->state = space ? HREF_BETWEEN : HREF_TAG;
	} else if (h->state == HREF_BETWEEN) {
		if (!space)
			href_name(h, c);
	} else if (c == '=') {
		h->state = HREF_BEGIN;
	} else if (h->state == HREF_NAME && !space) {
		if (h->name_len + 1 < sizeof h->name)
			h->name[h->name_len++] = (char)tolower((unsigned char)c);
	} else if (space) {
		h->state = c == '/' ? HREF_BETWEEN : HREF_EQUALS;
	} else {
		href_name(h, c);
	}
}

/* Follows one byte. */
static bool href_byte(struct href *h, char c)
{
	switch (h->state) {
	case HREF_TEXT:
		h->state = c == '<' ? HREF_OPEN : HREF_TEXT;
		break;
	case HREF_OPEN:
		h->state = c == '!' || c == '?'                    ? HREF_SKIP
		           : isalpha((unsigned char)c) || c == '/' ? HREF_TAG
		           : c == '<'                              ? HREF_OPEN
		                                                   : HREF_TEXT;
		break;
	case HREF_SKIP: /* ends at the first > so that what Outlook reads in a comment is followed, too */
		h->state = c == '>' ? HREF_TEXT : HREF_SKIP;
		break;
	case HREF_BEGIN:
		if (c == '"' || c == '\'') {
			href_value(h, c);
		} else if (c == '>') {
			return href_close(h, HREF_TEXT);
		} else if (!isspace((unsigned char)c)) {
			href_value(h, 0);
			return href_value_byte(h, c);
		}
		break;
	case HREF_VALUE:
		return href_value_byte(h, c);
	default:
		href_tag_byte(h, c);
		break;
	}
	return true;
}

/* Follows more HTML. */
bool href_feed(struct href *h, const char *text, size_t len)
{
	bool good = true;

	for (size_t i = 0; i < len; i++)
		good = href_byte(h, text[i]) && good;
	return good;
}

/* Notes that a variable comes. */
bool href_variable(struct href *h)
{
	if ((h->state != HREF_BEGIN && h->state != HREF_VALUE) || h->variable || !href_is_address(h))
		return false;
	h->variable = true;
	h->fixed_scheme = h->state == HREF_VALUE && strpbrk(h->value, ":/?#") != NULL;
	return true;
}
