/* pages.c: the pages of a document as lists of texts and shapes, and how each of these is drawn. */
#include "config.h"

#include "pages.h"

#include <math.h>

#define LEADING 1.5 /* between the lines of a paragraph, above what the font itself asks for */

enum kind { ITEM_LAYOUT, ITEM_LINE, ITEM_BOX, ITEM_ARC, ITEM_SHAPE };

/* One thing on a page. */
struct item {
	enum kind kind;
	uint32_t colour;
	double x, y, w, h, radius; /* an arc: thickness in w, angles in h and to */
	double to;
	PangoLayout *layout;
	int line;
	enum shape shape;
};

/* Frees what an item holds. */
static void item_clear(void *item)
{
	g_clear_object(&((struct item *)item)->layout);
}

/* Frees a chapter's title. */
static void chapter_clear(void *chapter)
{
	g_free(((struct chapter *)chapter)->title);
}

/* Frees a page. */
static void page_free(void *page)
{
	g_array_unref(page);
}

struct pages *pages_new(struct fonts *f)
{
	struct pages *p = g_new0(struct pages, 1);

	p->fonts = f;
	p->list = g_ptr_array_new_with_free_func(page_free);
	p->chapters = g_array_new(FALSE, FALSE, sizeof(struct chapter));
	g_array_set_clear_func(p->chapters, chapter_clear);
	pages_break(p);
	return p;
}

void pages_free(struct pages *p)
{
	if (p == NULL)
		return;
	g_ptr_array_unref(p->list);
	g_array_unref(p->chapters);
	g_free(p);
}

unsigned pages_count(const struct pages *p)
{
	return p->list->len;
}

void pages_break(struct pages *p)
{
	GArray *page = g_array_new(FALSE, FALSE, sizeof(struct item));

	g_array_set_clear_func(page, item_clear);
	g_ptr_array_add(p->list, page);
	pages_go(p, p->list->len - 1);
	p->y = PAGE_TOP;
}

bool pages_room(struct pages *p, double h)
{
	if (p->y + h <= PAGE_BOTTOM)
		return false;
	pages_break(p);
	return true;
}

void pages_go(struct pages *p, unsigned page)
{
	p->page = page;
	p->current = g_ptr_array_index(p->list, page);
}

void pages_chapter(struct pages *p, const char *title)
{
	struct chapter c = { .title = g_strdup(title), .page = p->page, .y = p->y };

	g_array_append_val(p->chapters, c);
}

void pages_layout(struct pages *p, PangoLayout *l, double x, double y, uint32_t colour)
{
	struct item i = { .kind = ITEM_LAYOUT, .layout = l, .x = x, .y = y, .colour = colour };

	g_array_append_val(p->current, i);
}

void pages_line(struct pages *p, PangoLayout *l, int line, double x, double baseline, uint32_t colour)
{
	struct item i = { .kind = ITEM_LINE, .layout = l, .line = line, .x = x, .y = baseline, .colour = colour };

	g_array_append_val(p->current, i);
}

void pages_box(struct pages *p, double x, double y, double w, double h, double radius, uint32_t colour)
{
	struct item i = { .kind = ITEM_BOX, .x = x, .y = y, .w = w, .h = h, .radius = radius, .colour = colour };

	g_array_append_val(p->current, i);
}

void pages_arc(
	struct pages *p, double x, double y, double radius, double thick, double from, double to, uint32_t colour)
{
	struct item i = {
		.kind = ITEM_ARC, .x = x, .y = y, .radius = radius, .w = thick, .h = from, .to = to, .colour = colour
	};

	g_array_append_val(p->current, i);
}

void pages_shape(struct pages *p, enum shape shape, double x, double y, double size, uint32_t colour)
{
	struct item i = { .kind = ITEM_SHAPE, .shape = shape, .x = x, .y = y, .w = size, .colour = colour };

	g_array_append_val(p->current, i);
}

double pages_text(struct pages *p, const char *text, double size, enum weight w, double x, double y, double align,
	uint32_t colour)
{
	PangoLayout *l = fonts_layout(p->fonts, text, size, w, 0);
	double h = fonts_height(l);

	pages_layout(p, l, align > 0 ? x - align * fonts_width(l) : x, y, colour);
	return h;
}

void pages_paragraph(
	struct pages *p, const char *text, double size, enum weight w, double x, double width, uint32_t colour)
{
	PangoLayout *l = fonts_layout(p->fonts, text, size, w, width);
	int n = pango_layout_get_line_count(l);

	for (int i = 0; i < n; i++) {
		PangoLayoutLine *line = pango_layout_get_line_readonly(l, i);
		PangoRectangle r;
		double h, left = x;

		pango_layout_line_get_extents(line, NULL, &r);
		h = (double)r.height / PANGO_SCALE;
		/* neither the first nor the last line of a paragraph stands alone on a page */
		pages_room(p, (i == 0 && n > 1) || (i == n - 2 && i > 0) ? 2 * h + LEADING : h);
		if (line->resolved_dir == PANGO_DIRECTION_RTL)
			left += width - (double)r.width / PANGO_SCALE;
		pages_line(p, g_object_ref(l), i, left, p->y - (double)r.y / PANGO_SCALE, colour);
		p->y += h + (i + 1 < n ? LEADING : 0);
	}
	g_object_unref(l);
}

/* ---- drawing ---- */

/* A rectangle with round corners as a path. */
static void box_path(cairo_t *cr, const struct item *i)
{
	double r = fmin(i->radius, fmin(i->w, i->h) / 2);

	if (r <= 0) {
		cairo_rectangle(cr, i->x, i->y, i->w, i->h);
		return;
	}
	cairo_new_sub_path(cr);
	cairo_arc(cr, i->x + i->w - r, i->y + r, r, -G_PI / 2, 0);
	cairo_arc(cr, i->x + i->w - r, i->y + i->h - r, r, 0, G_PI / 2);
	cairo_arc(cr, i->x + r, i->y + i->h - r, r, G_PI / 2, G_PI);
	cairo_arc(cr, i->x + r, i->y + r, r, G_PI, 3 * G_PI / 2);
	cairo_close_path(cr);
}

/* A small shape, centred on its place. */
static void draw_shape(cairo_t *cr, const struct item *i)
{
	double r = i->w / 2, s = i->shape == SHAPE_UP ? 1 : -1;

	switch (i->shape) {
	case SHAPE_DISC:
		cairo_arc(cr, i->x, i->y, r, 0, 2 * G_PI);
		cairo_fill(cr);
		break;
	case SHAPE_RING:
		cairo_set_line_width(cr, r * 0.55);
		cairo_arc(cr, i->x, i->y, r * 0.74, 0, 2 * G_PI);
		cairo_stroke(cr);
		break;
	case SHAPE_DIAMOND:
		cairo_move_to(cr, i->x, i->y - r * 1.12);
		cairo_line_to(cr, i->x + r * 1.12, i->y);
		cairo_line_to(cr, i->x, i->y + r * 1.12);
		cairo_line_to(cr, i->x - r * 1.12, i->y);
		cairo_close_path(cr);
		cairo_fill(cr);
		break;
	case SHAPE_UP:
	case SHAPE_DOWN:
		cairo_move_to(cr, i->x, i->y - s * r);
		cairo_line_to(cr, i->x + r * 1.1, i->y + s * r * 0.85);
		cairo_line_to(cr, i->x - r * 1.1, i->y + s * r * 0.85);
		cairo_close_path(cr);
		cairo_fill(cr);
		break;
	}
}

void pages_draw(const struct pages *p, unsigned page, cairo_t *cr)
{
	const GArray *items = g_ptr_array_index(p->list, page);

	for (guint n = 0; n < items->len; n++) {
		const struct item *i = &g_array_index(items, struct item, n);

		cairo_set_source_rgb(
			cr, (i->colour >> 16 & 255) / 255.0, (i->colour >> 8 & 255) / 255.0, (i->colour & 255) / 255.0);
		switch (i->kind) {
		case ITEM_LAYOUT:
			cairo_move_to(cr, i->x, i->y);
			pango_cairo_show_layout(cr, i->layout);
			break;
		case ITEM_LINE:
			cairo_move_to(cr, i->x, i->y);
			pango_cairo_show_layout_line(cr, pango_layout_get_line_readonly(i->layout, i->line));
			break;
		case ITEM_BOX:
			box_path(cr, i);
			cairo_fill(cr);
			break;
		case ITEM_ARC:
			cairo_set_line_width(cr, i->w);
			cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
			cairo_arc(cr, i->x, i->y, i->radius, i->h, i->to);
			cairo_stroke(cr);
			break;
		case ITEM_SHAPE:
			draw_shape(cr, i);
			break;
		}
		cairo_new_path(cr);
	}
}
