/* pages.h: the pages of a document, kept as lists of items until their number is known. */
#ifndef REPORT_PAGES_H
#define REPORT_PAGES_H

#include "fonts.h"

#include <cairo.h>
#include <stdint.h>

#define PAGE_WIDTH 595.276
#define PAGE_HEIGHT 841.89
#define PAGE_LEFT 48.0
#define PAGE_RIGHT (PAGE_WIDTH - 48.0)
#define PAGE_TOP 84.0 /* of pages after the first; above it is the running head */
#define PAGE_BOTTOM (PAGE_HEIGHT - 60.0)
#define PAGE_INNER (PAGE_RIGHT - PAGE_LEFT)

/* A shape beside a word, so that colour is never the only difference. */
enum shape { SHAPE_DISC, SHAPE_DIAMOND, SHAPE_UP, SHAPE_DOWN, SHAPE_RING };

/* A chapter for the reader's list of contents. */
struct chapter {
	char *title;
	unsigned page; /* from 0 */
	double y;
};

struct pages {
	struct fonts *fonts;
	GPtrArray *list;  /* of GArray of items */
	GArray *current;  /* where items go */
	GArray *chapters; /* of struct chapter */
	unsigned page;    /* number of `current`, from 0 */
	double y;         /* where the next thing begins */
};

struct pages *pages_new(struct fonts *f);
void pages_free(struct pages *p);

unsigned pages_count(const struct pages *p);
void pages_break(struct pages *p);             /* y goes to the top of a new page */
bool pages_room(struct pages *p, double h);    /* a new page unless `h` points are left; true: it is new */
void pages_go(struct pages *p, unsigned page); /* for heads and feet, when all pages are there */
void pages_chapter(struct pages *p, const char *title);

/* All take places from the top left corner in points; colours are 0xrrggbb. Layouts are taken over. */
void pages_layout(struct pages *p, PangoLayout *l, double x, double y, uint32_t colour);
void pages_line(struct pages *p, PangoLayout *l, int line, double x, double baseline, uint32_t colour);
void pages_box(struct pages *p, double x, double y, double w, double h, double radius, uint32_t colour);
void pages_arc(
	struct pages *p, double x, double y, double radius, double thick, double from, double to, uint32_t colour);
void pages_shape(struct pages *p, enum shape shape, double x, double y, double size, uint32_t colour);

/* Text at x; returns its height. `align`: 0 left, 0.5 centred on x, 1 ending at x. */
double pages_text(struct pages *p, const char *text, double size, enum weight w, double x, double y, double align,
	uint32_t colour);
/* A paragraph from y on, over as many pages as it needs; y goes below it. */
void pages_paragraph(
	struct pages *p, const char *text, double size, enum weight w, double x, double width, uint32_t colour);

/* Draws one page. */
void pages_draw(const struct pages *p, unsigned page, cairo_t *cr);

#endif
