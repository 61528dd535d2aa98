/* table.c: the table of results: each page repeats its head and the title of an area that goes on. */
#include "config.h"

#include "table.h"

#include "chart.h"
#include "colours.h"

#define PAD 8.0
#define GAP 4.4 /* above and below the text of a row */
#define CELL_LINES 8
#define HEAD_HEIGHT 22.0
#define AREA_HEIGHT 24.0

/* Left edges of the columns, and where the last one ends. */
static const double edge[] = { PAGE_LEFT, PAGE_LEFT + 206, PAGE_LEFT + 314, PAGE_LEFT + 400, PAGE_RIGHT };

/* Width of a column's text. */
static double inner(int column)
{
	return edge[column + 1] - edge[column] - (column == 3 ? PAD + 12 : PAD) - (column == 0 ? PAD : 0);
}

/* Where a column's text begins. */
static double text_left(int column)
{
	return edge[column] + (column == 0 ? PAD : 0);
}

/* The head, at the page's y. */
static void draw_head(struct pages *p, const struct words *w)
{
	pages_box(p, PAGE_LEFT, p->y, PAGE_INNER, HEAD_HEIGHT, 4, COLOUR_BRAND);
	for (int c = 0; c < 4; c++)
		pages_text(p, w->column[c], 9, BOLD, text_left(c), p->y + 5, 0, COLOUR_ON_BRAND);
	p->y += HEAD_HEIGHT;
}

/* The line that begins an area, or goes on with it on a new page. */
static void draw_area(struct pages *p, const struct area *a, enum lang lang, bool again)
{
	const struct words *w = words_of(lang);
	char *title = again ? format_fill(w->continued, a->title, NULL) : g_strdup(a->title);
	PangoLayout *l = fonts_cell(p->fonts, title, 10.5, BOLD, PAGE_INNER - 130, 1);

	pages_box(p, PAGE_LEFT, p->y + 3, PAGE_INNER, AREA_HEIGHT - 4, 4, COLOUR_CARD);
	pages_layout(p, l, PAGE_LEFT + PAD, p->y + 3 + (AREA_HEIGHT - 4 - fonts_height(l)) / 2, COLOUR_INK);
	if (a->has_score && !again) {
		char *number = format_score(a->score, lang), *text = g_strconcat(number, "\u00a0", w->out_of, NULL);

		pages_text(p, text, 9.5, REGULAR, PAGE_RIGHT - PAD, p->y + 7, 1, COLOUR_MUTED);
		g_free(number);
		g_free(text);
	}
	p->y += AREA_HEIGHT;
	g_free(title);
}

/* Draws a row whose cells are measured; `line`: with a line above it. */
static void draw_row(struct pages *p, const struct result *r, PangoLayout *const cell[4], double h, bool line)
{
	static const uint32_t colour[] = { COLOUR_INK, COLOUR_INK, COLOUR_MUTED, COLOUR_INK };

	if (line)
		pages_box(p, PAGE_LEFT, p->y - 0.25, PAGE_INNER, 0.5, 0, COLOUR_LINE);
	for (int c = 0; c < 4; c++)
		pages_layout(p, cell[c], text_left(c) + (c == 3 ? 12 : 0), p->y + GAP, colour[c]);
	if (r->level != LEVEL_NONE)
		pages_shape(p, chart_shape(r->level), edge[3] + 4, p->y + GAP + 6.2, 6.5, chart_colour(r->level));
	p->y += h;
}

/* Makes the cells of a row; returns its height. */
static double measure_row(struct pages *p, const struct result *r, const struct words *w, PangoLayout *cell[4])
{
	double h = 0;

	cell[0] = fonts_cell(p->fonts, r->name, 9.5, REGULAR, inner(0), CELL_LINES);
	cell[1] = fonts_cell(p->fonts, r->value, 9.5, BOLD, inner(1), CELL_LINES);
	cell[2] = fonts_cell(p->fonts, r->reference, 9.5, REGULAR, inner(2), CELL_LINES);
	cell[3] = fonts_cell(p->fonts, w->level[r->level], 9, REGULAR, inner(3), 2);
	for (int c = 0; c < 4; c++)
		h = MAX(h, fonts_height(cell[c]));
	return h + 2 * GAP;
}

/* The height of a row alone. */
static double row_height(struct pages *p, const struct result *r, const struct words *w)
{
	PangoLayout *cell[4];
	double h = measure_row(p, r, w, cell);

	for (int c = 0; c < 4; c++)
		g_object_unref(cell[c]);
	return h;
}

void table_draw(struct pages *p, const GPtrArray *areas, enum lang lang)
{
	const struct words *w = words_of(lang);
	bool fresh = true; /* no head on this page yet */

	for (guint i = 0; i < areas->len; i++) {
		const struct area *a = g_ptr_array_index(areas, i);

		for (guint k = 0; k < a->results->len; k++) {
			const struct result *r = g_ptr_array_index(a->results, k);
			PangoLayout *cell[4];
			double h = measure_row(p, r, w, cell), need = h;
			bool first = k == 0;

			/* neither the first nor the last row of an area stands alone on a page */
			if (k + 1 < a->results->len && (first || k + 2 == a->results->len))
				need += row_height(p, g_ptr_array_index(a->results, k + 1), w);
			fresh = pages_room(p, need + (fresh ? HEAD_HEIGHT : 0) + (first ? AREA_HEIGHT : 0)) || fresh;
			if (fresh)
				draw_head(p, w);
			if (first || fresh)
				draw_area(p, a, lang, !first);
			draw_row(p, r, cell, h, !first && !fresh);
			fresh = false;
		}
	}
}
