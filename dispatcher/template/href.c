/* href.c: follows HTML as it is written, and judges the addresses in its links, images and styles. */
#include "config.h"

#include "base/xalloc.h"
#include "template/href.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PLAIN_MAX 64 /* of an address: more than any scheme */

static const char wrong_link[] = "is in a link and must start with https://, http://, mailto: or tel:";
static const char wrong_style[] = "is in a style, whose addresses must start with https://, http:// or cid:";
static const char wrong_script[] = "is in an attribute that mail programs run or read as a page";

/* What an attribute is to a mail program. */
enum href_kind { KIND_OTHER, KIND_LINK, KIND_IMAGE, KIND_LIST, KIND_STYLE, KIND_CONTENT, KIND_SCRIPT };

/* What the attribute is; a prefix, as in xlink:href, makes no difference. */
static enum href_kind href_kind(const struct href *h)
{
	static const struct {
		const char *name;
		enum href_kind kind;
	} names[] = { { "href", KIND_LINK }, { "src", KIND_IMAGE }, { "action", KIND_LINK },
		{ "formaction", KIND_LINK }, { "background", KIND_IMAGE }, { "poster", KIND_IMAGE },
		{ "cite", KIND_LINK }, { "data", KIND_LINK }, { "srcset", KIND_LIST }, { "imagesrcset", KIND_LIST },
		{ "longdesc", KIND_LINK }, { "ping", KIND_LINK }, { "manifest", KIND_LINK }, { "usemap", KIND_LINK },
		{ "codebase", KIND_LINK }, { "classid", KIND_LINK }, { "archive", KIND_LINK }, { "profile", KIND_LINK },
		{ "dynsrc", KIND_IMAGE }, { "lowsrc", KIND_IMAGE }, { "base", KIND_LINK }, { "style", KIND_STYLE },
		{ "content", KIND_CONTENT }, { "srcdoc", KIND_SCRIPT } };
	const char *name = memchr(h->name, ':', h->name_len);

	name = name ? name + 1 : h->name;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i].name, name) == 0)
			return names[i].kind;
	return strncmp(name, "on", 2) == 0 ? KIND_SCRIPT : KIND_OTHER;
}

/* The character that an entity stands for, 0 for one that cannot be part of a scheme; *end is behind it. */
static char href_entity(const char *p, const char **end)
{
	static const struct {
		const char *name;
		char c;
	} named[] = { { "colon;", ':' }, { "tab;", '\t' }, { "newline;", '\n' }, { "sol;", '/' }, { "amp;", '&' },
		{ "lpar;", '(' }, { "bsol;", '\\' }, { "quot;", '"' }, { "apos;", '\'' }, { "commat;", '@' },
		{ "equals;", '=' } };
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

/* One more character of a value as a program reads it: entities resolved; 0 for one that cannot be part of a scheme. */
static char href_next(const char **p, const char *end)
{
	char c = **p;

	if (c == '&' && end - *p > 2)
		return href_entity(*p, p);
	++*p;
	return c;
}

/* Writes the beginning of an address as a browser reads it: entities resolved, white space and controls left out. */
static void href_plain(const char *p, const char *end, char plain[PLAIN_MAX])
{
	size_t n = 0;

	while (p < end && n + 1 < PLAIN_MAX) {
		char c = href_next(&p, end);
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

/* True when an address begins in a way that may stand in a mail. */
static bool href_may(const char *plain, bool image)
{
	if (href_begins(plain, "https://") || href_begins(plain, "http://") || href_begins(plain, "mailto:") ||
		href_begins(plain, "tel:"))
		return true;
	return image && (href_begins(plain, "cid:") ||
				(href_begins(plain, "data:image/") && !href_begins(plain, "data:image/svg")));
}

/* True when an address has no scheme of its own. */
static bool href_is_relative(const char *plain)
{
	return plain[strcspn(plain, ":/?#")] != ':';
}

/* True for an address with a variable in it that may stand in a mail. */
static bool href_is_good(const struct href *h, const char *p, const char *end, bool image)
{
	char plain[PLAIN_MAX];

	href_plain(p, end, plain);
	if (plain[0] == '\0' || href_may(plain, image) || (h->whole && href_is_relative(plain)))
		return true;
	return h->fixed_scheme && !href_begins(plain, "javascript:") && !href_begins(plain, "vbscript:") &&
	       !href_begins(plain, "data:");
}

/* True when all addresses of a srcset may stand in a mail; the first one is judged like a single one. */
static bool href_list_is_good(const struct href *h, const char *p, const char *end)
{
	for (bool first = true; p < end; first = false) {
		const char *stop;
		char plain[PLAIN_MAX];

		while (p < end && (isspace((unsigned char)*p) || *p == ','))
			p++;
		for (stop = p; stop < end && !isspace((unsigned char)*stop); stop++)
			;
		href_plain(p, stop, plain);
		if (first ? !href_is_good(h, p, stop, true) : !href_may(plain, true) && !href_is_relative(plain))
			return false;
		p = stop < end && stop > p && stop[-1] == ',' ? stop : memchr(stop, ',', (size_t)(end - stop));
		if (!p)
			break;
	}
	return true;
}

/* A style as a program reads it: entities, escapes and comments resolved, lower case, blanks left out. The room is as
 * long as the text, and one more. */
static void href_css_plain(const char *p, const char *end, char *plain)
{
	while (p < end) {
		char c = href_next(&p, end);

		if (c == '\\' && p < end) {
			unsigned code = 0, digits = 0;

			for (; p < end && digits < 6 && isxdigit((unsigned char)*p); p++, digits++)
				code = code * 16 +
				       (unsigned)(isdigit((unsigned char)*p) ? *p - '0' : (*p | 32) - 'a' + 10);
			if (digits == 0)
				c = href_next(&p, end);
			else
				c = code < 128 ? (char)code : '?';
		} else if (c == '/' && p < end && *p == '*') {
			while (p < end && !(*p == '/' && p[-1] == '*'))
				p++;
			p += p < end;
			continue;
		}
		if ((unsigned char)c > ' ')
			*plain++ = (char)tolower((unsigned char)c);
	}
	*plain = '\0';
}

/* True when no address in a style, and nothing that runs, is forbidden in a mail. */
static bool href_css_is_good(const char *text, size_t len)
{
	static const char *const never[] = { "expression(", "-moz-binding", "behavior:", "javascript:", "vbscript:" };
	static const char *const before[] = { "url(", "@import", "src(", "image(", "image-set(" };
	char *plain = xmalloc(len + 1);
	bool good = true;

	href_css_plain(text, text + len, plain);
	for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
		good = good && !strstr(plain, never[i]);
	for (size_t i = 0; i < sizeof before / sizeof before[0]; i++)
		for (const char *p = plain; (p = strstr(p, before[i])) != NULL;) {
			p += strlen(before[i]);
			p += strspn(p, "\"'");
			good = good &&
			       (href_may(p, true) || href_begins(p, "data:font/") ||
				       href_begins(p, "data:application/") || strcspn(p, ":") > strcspn(p, "/?#)\"';"));
		}
	free(plain);
	return good;
}

/* True when a page is not sent elsewhere by <meta content>. */
static bool href_content_is_good(const char *text, size_t len)
{
	char *plain = xmalloc(len + 1), *p;
	bool good = true;

	href_css_plain(text, text + len, plain);
	if ((p = strstr(plain, "url=")) != NULL) {
		p += 4 + strspn(p + 4, "\"'");
		good = href_may(p, false) || href_is_relative(p);
	}
	free(plain);
	return good;
}

/* An attribute's name begins with c. */
static void href_name(struct href *h, char c)
{
	h->state = HREF_NAME;
	h->name_len = 0;
	memset(h->name, 0, sizeof h->name);
	h->name[h->name_len++] = (char)tolower((unsigned char)c);
}

/* A value begins at an offset. */
static void href_value(struct href *h, char quote, size_t at)
{
	h->state = HREF_VALUE;
	h->quote = quote;
	h->from = at;
	h->whole = h->given && !h->variable;
}

/* The value is complete. NULL, or what is wrong with it. */
static const char *href_close(struct href *h, const char *text, size_t at, enum href_state next)
{
	const char *value = text + h->from, *end = text + at, *wrong = NULL;
	size_t len = (size_t)(end - value);

	if (h->variable && h->state == HREF_CSS) {
		wrong = href_css_is_good(value, len) ? NULL : wrong_style;
	} else if (h->variable) {
		switch (href_kind(h)) {
		case KIND_LINK:
		case KIND_IMAGE:
			wrong = href_is_good(h, value, end, href_kind(h) == KIND_IMAGE) ? NULL : wrong_link;
			break;
		case KIND_LIST:
			wrong = href_list_is_good(h, value, end) ? NULL : wrong_link;
			break;
		case KIND_STYLE:
			wrong = href_css_is_good(value, len) ? NULL : wrong_style;
			break;
		case KIND_CONTENT:
			wrong = href_content_is_good(value, len) ? NULL : wrong_link;
			break;
		case KIND_SCRIPT:
			wrong = wrong_script;
			break;
		case KIND_OTHER:
			break;
		}
	}
	h->state = next;
	h->variable = h->fixed_scheme = h->whole = false;
	return wrong;
}

/* A tag ends: behind <style> comes CSS. */
static void href_tag_end(struct href *h, size_t at)
{
	h->state = strcmp(h->tag, "style") == 0 ? HREF_CSS : HREF_TEXT;
	h->from = at + 1;
	h->variable = false;
}

/* Follows one byte inside a value. */
static const char *href_value_byte(struct href *h, const char *text, size_t at)
{
	char c = text[at];
	const char *wrong = NULL;

	if (h->quote ? c == h->quote : c == '>' || isspace((unsigned char)c)) {
		wrong = href_close(h, text, at, HREF_BETWEEN);
		if (c == '>' && !h->quote)
			href_tag_end(h, at);
	} else if (h->given) {
		h->variable = true;
	}
	return wrong;
}

/* Follows one byte of a tag outside its values. */
static void href_tag_byte(struct href *h, char c, size_t at)
{
	bool space = isspace((unsigned char)c) || c == '/';

	if (c == '>') {
		href_tag_end(h, at);
	} else if (h->state == HREF_TAG) {
		h->state = space ? HREF_BETWEEN : HREF_TAG;
		if (!space && h->tag_len + 1 < sizeof h->tag)
			h->tag[h->tag_len++] = (char)tolower((unsigned char)c);
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

/* Follows a byte behind <. */
static void href_open(struct href *h, char c)
{
	memset(h->tag, 0, sizeof h->tag);
	h->tag_len = 0;
	h->variable = false;
	if (c == '!' || c == '?') {
		h->state = HREF_SKIP;
	} else if (isalpha((unsigned char)c) || c == '/') {
		h->state = HREF_TAG;
		h->tag[h->tag_len++] = (char)tolower((unsigned char)c);
	} else if (c != '<') {
		h->state = HREF_TEXT;
	}
}

/* Follows one byte. */
static const char *href_byte(struct href *h, const char *text, size_t at)
{
	char c = text[at];

	switch (h->state) {
	case HREF_TEXT:
		h->state = c == '<' ? HREF_OPEN : HREF_TEXT;
		break;
	case HREF_OPEN:
		href_open(h, c);
		break;
	case HREF_SKIP: /* ends at the first > so that what Outlook reads in a comment is followed, too */
		h->state = c == '>' ? HREF_TEXT : HREF_SKIP;
		break;
	case HREF_CSS:
		if (c == '/' && at > h->from && text[at - 1] == '<') {
			const char *wrong = href_close(h, text, at - 1, HREF_OPEN);
			href_open(h, c);
			return wrong;
		}
		h->variable = h->variable || h->given;
		break;
	case HREF_BEGIN:
		if (c == '"' || c == '\'') {
			href_value(h, c, at + 1);
		} else if (c == '>') {
			href_tag_end(h, at);
		} else if (!isspace((unsigned char)c)) {
			href_value(h, 0, at);
			return href_value_byte(h, text, at);
		}
		break;
	case HREF_VALUE:
		return href_value_byte(h, text, at);
	default:
		href_tag_byte(h, c, at);
		break;
	}
	return NULL;
}

/* Follows more HTML. */
const char *href_feed(struct href *h, const char *text, size_t from, size_t to)
{
	const char *wrong = NULL;

	for (size_t at = from; at < to && !wrong; at++)
		wrong = href_byte(h, text, at);
	return wrong;
}

/* Notes that a variable comes. */
void href_variable(struct href *h, const char *text, size_t len)
{
	h->given = true;
	if (h->state == HREF_VALUE && !h->variable)
		for (size_t at = h->from; at < len; at++)
			h->fixed_scheme = h->fixed_scheme || strchr(":/?#", text[at]) != NULL;
	if (h->state == HREF_BEGIN || h->state == HREF_VALUE || h->state == HREF_CSS)
		h->variable = true;
}
