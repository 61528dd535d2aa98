/* render.c: renders a compiled Mustache template over cJSON values. */
#include "config.h"

#include "base/xalloc.h"
#include "template/href.h"
#include "template/mustache_private.h"
#include "template/render.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct buffer {
	char *data;
	size_t len, room;
};

/* The context stack: the values that the enclosing sections have opened. */
struct frame {
	const cJSON *value;
	const char *name; /* of the section, so that {{.}} inside {{#a_url}} is judged as a_url */
	const struct frame *up;
};

struct rendering {
	enum render_escape escape;
	render_lookup lookup;
	void *arg;
	struct buffer out;
	struct href href; /* where in the HTML the output is */
	char *link;       /* the variable that has the first part in the value under way, else the last one */
	unsigned partials;
	unsigned long steps;
	char **error;
};

/* Appends bytes to the output. Returns -1 when it has grown too long; the caller reports its own line. */
static int put(struct buffer *b, const char *text, size_t len)
{
	if (len > RENDER_MAX_OUTPUT - b->len)
		return -1;
	if (!b->data || b->len + len + 1 > b->room) {
		b->room = (b->len + len + 1) * 2;
		b->data = xrealloc(b->data, b->room, 1);
	}
	if (len > 0)
		memcpy(b->data + b->len, text, len);
	b->len += len;
	return 0;
}

/* Appends text with & < > " and ' made harmless. */
static int put_html(struct buffer *b, const char *s)
{
	for (;;) {
		size_t plain = strcspn(s, "&<>\"'");
		const char *entity;

		if (put(b, s, plain) != 0)
			return -1;
		s += plain;
		switch (*s++) {
		case '\0':
			return 0;
		case '&':
			entity = "&amp;";
			break;
		case '<':
			entity = "&lt;";
			break;
		case '>':
			entity = "&gt;";
			break;
		case '"':
			entity = "&quot;";
			break;
		default:
			entity = "&#39;";
			break;
		}
		if (put(b, entity, strlen(entity)) != 0)
			return -1;
	}
}

/* Appends template text, with the indentation of a partial in front of each line that begins in it. */
static int put_text(struct buffer *b, const struct node *n, const char *indent, size_t indent_len)
{
	const char *p = n->text, *end = p + n->len;
	bool line_start = n->line_start;

	if (indent_len == 0)
		return put(b, p, n->len);
	do {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl ? nl + 1 : end;

		if (line_start && put(b, indent, indent_len) != 0)
			return -1;
		if (put(b, p, (size_t)(stop - p)) != 0)
			return -1;
		p = stop;
		line_start = true;
	} while (p < end);
	return 0;
}

/* Finds the value of a name: its first part up the stack, the others strictly below that. *name is for messages. */
static const cJSON *resolve(const struct node *n, const struct frame *f, const char **name)
{
	const char *part = n->path;
	const cJSON *v = NULL;

	*name = n->name;
	if (n->nparts == 0) {
		if (f->name)
			*name = f->name;
		return f->value;
	}
	for (; f && !v; f = f->up)
		if (cJSON_IsObject(f->value))
			v = cJSON_GetObjectItemCaseSensitive(f->value, part);
	for (unsigned i = 1; i < n->nparts && v; i++) {
		part += strlen(part) + 1;
		v = cJSON_IsObject(v) ? cJSON_GetObjectItemCaseSensitive(v, part) : NULL;
	}
	return v;
}

/* True for a value that opens a section. */
static bool is_true(const cJSON *v)
{
	if (!v || cJSON_IsNull(v) || cJSON_IsFalse(v))
		return false;
	if (cJSON_IsString(v))
		return v->valuestring[0] != '\0';
	return !cJSON_IsArray(v) || v->child;
}

/* Prints a number as a person would write it: whole numbers without exponent, others as short as they can be read
 * back. */
static void format_number(double d, char *buf, size_t size)
{
	if (fabs(d) < 9007199254740992.0 && d == (double)(int64_t)d) {
		snprintf(buf, size, "%.0f", d == 0 ? 0.0 : d);
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(buf, size, "%.*g", digits, d);
		if (strtod(buf, NULL) == d)
			return;
	}
}

/* True when a variable's name says that it goes into a link. */
static bool is_url_name(const char *name)
{
	size_t len = strlen(name);

	return len >= 4 && strcmp(name + len - 4, "_url") == 0;
}

/* Reports that the output has grown too long. */
static int too_long(struct rendering *r, const struct mustache *m, const struct node *n)
{
	return mustache_error(r->error, m, n->line, "the result is longer than %d bytes", RENDER_MAX_OUTPUT);
}

/* Follows the HTML that was written from `from` on, and refuses a link that a variable leads elsewhere. */
static int check_links(struct rendering *r, const struct mustache *m, const struct node *n, size_t from)
{
	const char *wrong = r->escape == RENDER_HTML ? href_feed(&r->href, r->out.data, from, r->out.len) : NULL;

	return wrong ? mustache_error(r->error, m, n->line, "the value of %s %s", r->link, wrong) : 0;
}

/* Renders one variable. */
static int render_variable(struct rendering *r, const struct mustache *m, const struct node *n, const struct frame *f)
{
	const char *name, *text;
	const cJSON *v = resolve(n, f, &name);
	char number[40];

	if (!v || cJSON_IsNull(v))
		return 0;
	if (cJSON_IsString(v)) {
		text = v->valuestring;
	} else if (cJSON_IsNumber(v)) {
		if (!isfinite(v->valuedouble))
			return mustache_error(r->error, m, n->line, "the value of %s is out of range", name);
		format_number(v->valuedouble, number, sizeof number);
		text = number;
	} else if (cJSON_IsBool(v)) {
		text = cJSON_IsTrue(v) ? "true" : "false";
	} else {
		return mustache_error(
			r->error, m, n->line, "the value of %s is a list or an object and cannot be printed", name);
	}
	/* Escaping does not stop javascript:, so links are let through by their scheme. */
	if (r->escape == RENDER_HTML && is_url_name(name) && *text && strncasecmp(text, "https://", 8) != 0 &&
		strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "mailto:", 7) != 0)
		return mustache_error(
			r->error, m, n->line, "the value of %s must start with https://, http:// or mailto:", name);
	if (r->escape == RENDER_HTML) {
		if (!r->href.variable) {
			free(r->link);
			r->link = xstrdup(name);
		}
		href_variable(&r->href, r->out.data, r->out.len);
	}
	size_t from = r->out.len;
	if (r->escape == RENDER_HTML && n->type == NODE_VARIABLE ? put_html(&r->out, text)
								 : put(&r->out, text, strlen(text)))
		return too_long(r, m, n);
	int rc = check_links(r, m, n, from);
	r->href.given = false;
	return rc;
}

/* Renders the template's own text. */
static int render_text(
	struct rendering *r, const struct mustache *m, const struct node *n, const char *indent, size_t indent_len)
{
	size_t from = r->out.len;

	if (put_text(&r->out, n, indent, indent_len) != 0)
		return too_long(r, m, n);
	return check_links(r, m, n, from);
}

static int render_nodes(struct rendering *r, const struct mustache *m, size_t from, size_t to, const struct frame *f,
	const char *indent, size_t indent_len);

/* Renders a partial, its own indentation added to the one that is in force. */
static int render_partial(struct rendering *r, const struct mustache *m, const struct node *n, const struct frame *f,
	const char *indent, size_t indent_len)
{
	const struct mustache *partial = r->lookup ? r->lookup(r->arg, n->name) : NULL;
	size_t len = n->line_start ? indent_len + n->len : 0;
	char *sum = NULL;

	if (!partial)
		return 0;
	if (r->partials == RENDER_MAX_PARTIALS)
		return mustache_error(
			r->error, m, n->line, "more than %d partials inside each other", RENDER_MAX_PARTIALS);
	if (len > RENDER_MAX_OUTPUT)
		return too_long(r, m, n);
	if (len > 0) {
		sum = xmalloc(len);
		if (indent_len > 0)
			memcpy(sum, indent, indent_len);
		if (n->len > 0)
			memcpy(sum + indent_len, n->text, n->len);
	}
	r->partials++;
	int rc = render_nodes(r, partial, 0, partial->nnodes, f, sum, len);
	r->partials--;
	free(sum);
	return rc;
}

/* Renders the body of a section as often as its value says. */
static int render_section(struct rendering *r, const struct mustache *m, const struct node *n, const struct frame *f,
	const char *indent, size_t indent_len)
{
	struct frame inner = { .up = f };
	const cJSON *v = resolve(n, f, &inner.name);
	size_t body = (size_t)(n - m->nodes) + 1;

	if (n->type == NODE_INVERTED)
		return is_true(v) ? 0 : render_nodes(r, m, body, n->end, f, indent, indent_len);
	if (!is_true(v))
		return 0;
	if (!cJSON_IsArray(v)) {
		inner.value = v;
		return render_nodes(r, m, body, n->end, &inner, indent, indent_len);
	}
	for (inner.value = v->child; inner.value; inner.value = inner.value->next)
		if (render_nodes(r, m, body, n->end, &inner, indent, indent_len) != 0)
			return -1;
	return 0;
}

/* Renders the nodes [from, to). Its depth is bounded by the limits on sections and partials. */
static int render_nodes(struct rendering *r, const struct mustache *m, size_t from, size_t to, const struct frame *f,
	const char *indent, size_t indent_len)
{
	/* An empty section counts as well: lists in lists could keep the process busy for ever. */
	r->steps++;
	for (size_t i = from; i < to; i++) {
		const struct node *n = &m->nodes[i];
		int rc = 0;

		if (++r->steps > RENDER_MAX_STEPS)
			return mustache_error(
				r->error, m, n->line, "the template takes more than %d steps", RENDER_MAX_STEPS);
		switch (n->type) {
		case NODE_TEXT:
			rc = render_text(r, m, n, indent, indent_len);
			break;
		case NODE_VARIABLE:
		case NODE_RAW:
			rc = render_variable(r, m, n, f);
			break;
		case NODE_SECTION:
		case NODE_INVERTED:
			rc = render_section(r, m, n, f, indent, indent_len);
			i = n->end - 1;
			break;
		case NODE_PARTIAL:
			rc = render_partial(r, m, n, f, indent, indent_len);
			break;
		case NODE_COMMENT:
			break;
		}
		if (rc != 0)
			return -1;
	}
	return 0;
}

/* True when the data nests deeper than `left` levels. */
static bool is_too_deep(const cJSON *v, unsigned left)
{
	if (!cJSON_IsObject(v) && !cJSON_IsArray(v))
		return false;
	if (left == 0)
		return true;
	for (const cJSON *child = v->child; child; child = child->next)
		if (is_too_deep(child, left - 1))
			return true;
	return false;
}

/* Renders a template over data. */
char *render_mustache(const struct mustache *m, const cJSON *data, enum render_escape escape, render_lookup lookup,
	void *arg, size_t *len, char **error)
{
	struct rendering r = { .escape = escape, .lookup = lookup, .arg = arg, .error = error };
	struct frame root = { .value = data };

	*error = NULL;
	if (is_too_deep(data, RENDER_MAX_JSON)) {
		*error = xasprintf("%s: the data nests deeper than %d levels", m->name, RENDER_MAX_JSON);
		return NULL;
	}
	int rc = render_nodes(&r, m, 0, m->nnodes, &root, NULL, 0);
	free(r.link);
	if (rc != 0) {
		free(r.out.data);
		return NULL;
	}
	put(&r.out, "", 0); /* makes an empty result a string */
	r.out.data[r.out.len] = '\0';
	if (len)
		*len = r.out.len;
	return r.out.data;
}
