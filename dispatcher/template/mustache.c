/* mustache.c: compiles Mustache templates into a flat list of nodes. */
#include "config.h"

#include "base/xalloc.h"
#include "template/mustache_private.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The reader's place in the source. The delimiters point into the source as well, or at the default ones. */
struct parser {
	struct mustache *m;
	const char *start, *p, *end; /* p: everything before it has become nodes */
	const char *counted;         /* how far `line` is right */
	unsigned line, text_line;    /* of `counted` and of `p` */
	const char *open, *close;
	size_t open_len, close_len;
	size_t stack[MUSTACHE_MAX_SECTIONS]; /* open sections */
	unsigned depth;
	char **error;
};

/* One tag as it stands in the source. */
struct tag {
	char sigil; /* 0 for a plain variable */
	const char *start, *after, *text;
	size_t len; /* of text, without the spaces round it */
	unsigned line;
};

/* Sets the error "NAME:LINE: text" and returns -1. */
int mustache_error(char **error, const struct mustache *m, unsigned line, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *text = xvasprintf(fmt, ap);
	va_end(ap);
	*error = xasprintf("%s:%u: %s", m->name, line, text);
	free(text);
	return -1;
}

/* True for the white space that tags may hold. */
static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

/* The line number of a place that is not before the last one asked for. */
static unsigned parser_line(struct parser *ps, const char *place)
{
	for (; ps->counted < place; ps->counted++)
		if (*ps->counted == '\n')
			ps->line++;
	return ps->line;
}

/* Appends a node and returns it; the pointer lives until the next call. */
static struct node *add_node(struct parser *ps, enum node_type type, unsigned line)
{
	struct mustache *m = ps->m;

	if (m->nnodes == m->room) {
		m->room = m->room ? m->room * 2 : 16;
		m->nodes = xrealloc(m->nodes, m->room, sizeof *m->nodes);
	}
	struct node *n = &m->nodes[m->nnodes++];
	*n = (struct node){ .type = type, .line = line };
	return n;
}

/* Appends text up to `to`. */
static void add_text_node(struct parser *ps, const char *from, const char *to, unsigned line)
{
	struct node *n = add_node(ps, NODE_TEXT, line);

	n->line_start = from == ps->start || from[-1] == '\n';
	n->text = from;
	n->len = (size_t)(to - from);
}

/* Appends the text from the parser's place up to `to`. A line that begins with a tag gets an empty text of its own,
 * which carries the indentation when the template is used as an indented partial. */
static void add_text(struct parser *ps, const char *to, bool before_tag)
{
	if (to > ps->p)
		add_text_node(ps, ps->p, to, ps->text_line);
	if (before_tag && (to == ps->start || to[-1] == '\n'))
		add_text_node(ps, to, to, ps->text_line);
}

/* Takes the name of a tag into the node: "a.b.c" is split, "." stays whole. Partials have one name whatever is in it.
 */
static int set_name(struct parser *ps, struct node *n, const struct tag *t)
{
	char **error = ps->error;

	if (t->len == 0)
		return mustache_error(error, ps->m, t->line, "a tag without a name");
	for (size_t i = 0; i < t->len; i++)
		if (is_space(t->text[i]))
			return mustache_error(
				error, ps->m, t->line, "the name \"%.*s\" has white space in it", (int)t->len, t->text);
	n->name = xstrndup(t->text, t->len);
	n->path = xstrndup(t->text, t->len);
	if (n->type == NODE_PARTIAL || strcmp(n->name, ".") == 0)
		return 0;
	n->nparts = 1;
	for (size_t i = 0, start = 0; i <= t->len; i++) {
		if (i < t->len && t->text[i] != '.')
			continue;
		if (i == start)
			return mustache_error(error, ps->m, t->line, "the name \"%s\" has an empty part", n->name);
		n->path[i] = '\0';
		n->nparts += i < t->len;
		start = i + 1;
	}
	return 0;
}

/* Finds needle in [p, end). */
static const char *find(const char *p, const char *end, const char *needle, size_t len)
{
	return memmem(p, (size_t)(end - p), needle, len);
}

/* Reads the tag that begins at `at`, where the opening delimiter stands. */
static int read_tag(struct parser *ps, const char *at, struct tag *t)
{
	const char *p = at + ps->open_len, *stop;
	char twin = 0; /* the character that must stand before the closing delimiter */

	*t = (struct tag){ .start = at, .line = parser_line(ps, at) };
	while (p < ps->end && is_space(*p))
		p++;
	if (p < ps->end && strchr("#^/>!={&", *p)) {
		t->sigil = *p++;
		twin = t->sigil == '{' ? '}' : t->sigil == '=' ? '=' : 0;
	}
	/* In {{{a}}} the first "}}" comes one too early: the brace before it must be the tag's own. */
	for (stop = p;; stop++) {
		stop = find(stop, ps->end, ps->close, ps->close_len);
		if (!stop)
			return mustache_error(ps->error, ps->m, t->line,
				"this tag is never closed, \"%.*s%.*s\" is missing", twin != 0, &twin,
				(int)ps->close_len, ps->close);
		if (!twin || (stop > p && stop[-1] == twin))
			break;
	}
	t->after = stop + ps->close_len;
	stop -= twin != 0;
	while (p < stop && is_space(*p))
		p++;
	while (stop > p && is_space(stop[-1]))
		stop--;
	t->text = p;
	t->len = (size_t)(stop - p);
	return 0;
}

/* True when nothing but blanks stands beside the tag on its line; then *from and *to are the line's bounds, its end
 * included. */
static bool is_standalone(const struct parser *ps, const struct tag *t, const char **from, const char **to)
{
	const char *a = t->start, *b = t->after;

	while (a > ps->p && (a[-1] == ' ' || a[-1] == '\t'))
		a--;
	if (a != ps->start && a[-1] != '\n')
		return false;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a tag that was read has an end */
	while (b < ps->end && (*b == ' ' || *b == '\t'))
		b++;
	if (b < ps->end && *b == '\r' && b + 1 < ps->end && b[1] == '\n')
		b++;
	if (b < ps->end && *b != '\n')
		return false;
	*from = a;
	*to = b < ps->end ? b + 1 : b;
	return true;
}

/* {{=<% %>=}}: takes the new pair of delimiters. */
static int set_delimiters(struct parser *ps, const struct tag *t)
{
	const char *p = t->text, *end = p + t->len, *open = p, *close;

	while (p < end && !is_space(*p))
		p++;
	size_t open_len = (size_t)(p - open);
	while (p < end && is_space(*p))
		p++;
	for (close = p; p < end && !is_space(*p); p++)
		;
	if (open_len == 0 || close == end || p != end || memchr(t->text, '=', t->len))
		return mustache_error(ps->error, ps->m, t->line,
			"bad delimiters \"%.*s\": two words without = are needed", (int)t->len, t->text);
	ps->open = open;
	ps->open_len = open_len;
	ps->close = close;
	ps->close_len = (size_t)(end - close);
	return 0;
}

/* {{/name}}: closes the innermost section, which must have that name. */
static int close_section(struct parser *ps, const struct tag *t)
{
	if (ps->depth == 0)
		return mustache_error(ps->error, ps->m, t->line, "{{/%.*s}} closes a section that was never opened",
			(int)t->len, t->text);
	struct node *n = &ps->m->nodes[ps->stack[ps->depth - 1]];
	if (strlen(n->name) != t->len || memcmp(n->name, t->text, t->len) != 0)
		return mustache_error(ps->error, ps->m, t->line,
			"{{/%.*s}} where the section \"%s\" of line %u should be closed", (int)t->len, t->text, n->name,
			n->line);
	n->end = ps->m->nnodes;
	ps->depth--;
	return 0;
}

/* Makes the node of a tag; `indent` is the blank space before a partial that stands alone, else NULL. */
static int add_tag(struct parser *ps, const struct tag *t, const char *indent)
{
	struct node *n;

	switch (t->sigil) {
	case '!':
		n = add_node(ps, NODE_COMMENT, t->line);
		n->text = t->text;
		n->len = t->len;
		return 0;
	case '=':
		return set_delimiters(ps, t);
	case '/':
		return close_section(ps, t);
	case '>':
		n = add_node(ps, NODE_PARTIAL, t->line);
		if (indent) {
			n->line_start = true;
			n->text = indent;
			n->len = (size_t)(t->start - indent);
		}
		return set_name(ps, n, t);
	case '#':
	case '^':
		if (ps->depth == MUSTACHE_MAX_SECTIONS)
			return mustache_error(ps->error, ps->m, t->line, "more than %d sections inside each other",
				MUSTACHE_MAX_SECTIONS);
		ps->stack[ps->depth++] = ps->m->nnodes;
		return set_name(ps, add_node(ps, t->sigil == '#' ? NODE_SECTION : NODE_INVERTED, t->line), t);
	default:
		return set_name(ps, add_node(ps, t->sigil ? NODE_RAW : NODE_VARIABLE, t->line), t);
	}
}

/* Turns the whole source into nodes. */
static int parse(struct parser *ps)
{
	const char *nul = memchr(ps->p, 0, (size_t)(ps->end - ps->p)), *at, *from = NULL, *to = NULL;
	struct tag t;

	if (nul)
		return mustache_error(ps->error, ps->m, parser_line(ps, nul), "a NUL byte in the text");
	while ((at = find(ps->p, ps->end, ps->open, ps->open_len)) != NULL) {
		if (read_tag(ps, at, &t) != 0)
			return -1;
		/* A tag that prints nothing and has a line to itself takes that line with it. */
		bool alone = t.sigil && t.sigil != '{' && t.sigil != '&' && is_standalone(ps, &t, &from, &to);
		if (alone)
			add_text(ps, from, false);
		else
			add_text(ps, at, true);
		if (add_tag(ps, &t, alone ? from : NULL) != 0)
			return -1;
		ps->p = alone ? to : t.after;
		ps->text_line = parser_line(ps, ps->p);
	}
	add_text(ps, ps->end, false);
	if (ps->depth > 0) {
		struct node *n = &ps->m->nodes[ps->stack[ps->depth - 1]];
		return mustache_error(ps->error, ps->m, n->line, "the section \"%s\" is never closed", n->name);
	}
	return 0;
}

/* Compiles a template. */
struct mustache *mustache_parse(const char *text, size_t len, const char *name, char **error)
{
	struct mustache *m = xcalloc(1, sizeof *m);

	*error = NULL;
	m->name = xstrdup(name);
	m->source = xmalloc(len + 1);
	memcpy(m->source, text, len);
	m->source[len] = '\0';
	struct parser ps = { .m = m,
		.start = m->source,
		.p = m->source,
		.end = m->source + len,
		.counted = m->source,
		.line = 1,
		.text_line = 1,
		.open = "{{",
		.open_len = 2,
		.close = "}}",
		.close_len = 2,
		.error = error };
	if (parse(&ps) != 0) {
		mustache_free(m);
		return NULL;
	}
	return m;
}

/* Frees a template; NULL is fine. */
void mustache_free(struct mustache *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->nnodes; i++) {
		free(m->nodes[i].name);
		free(m->nodes[i].path);
	}
	free(m->nodes);
	free(m->source);
	free(m->name);
	free(m);
}

/* Walks the partials that a template names. */
int mustache_each_partial(const struct mustache *m, int (*cb)(void *arg, const char *name, unsigned line), void *arg)
{
	int rc = 0;

	for (size_t i = 0; i < m->nnodes && rc == 0; i++)
		if (m->nodes[i].type == NODE_PARTIAL)
			rc = cb(arg, m->nodes[i].name, m->nodes[i].line);
	return rc;
}

/* Walks the comments of a template. */
int mustache_each_comment(
	const struct mustache *m, int (*cb)(void *arg, const char *text, size_t len, unsigned line), void *arg)
{
	int rc = 0;

	for (size_t i = 0; i < m->nnodes && rc == 0; i++)
		if (m->nodes[i].type == NODE_COMMENT)
			rc = cb(arg, m->nodes[i].text, m->nodes[i].len, m->nodes[i].line);
	return rc;
}
