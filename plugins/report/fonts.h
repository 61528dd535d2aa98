/* fonts.h: text in the report's typeface, measured and broken into lines in points. */
#ifndef REPORT_FONTS_H
#define REPORT_FONTS_H

#include <pango/pangocairo.h>
#include <stdbool.h>

struct fonts;

enum weight { REGULAR, BOLD };

struct fonts *fonts_new(const char *families);
void fonts_free(struct fonts *f);

/* The characters that no installed font has, "U+1F9A6 U+20BF", and forgets them. NULL: there were none; g_malloc'd. */
char *fonts_take_missing(struct fonts *f);

/* Whether there is a glyph for every character of `text`. */
bool fonts_can_show(struct fonts *f, const char *text);

/* A text of `size` points, broken at `width` (0: one line). Unref it, or hand it over to a page. */
PangoLayout *fonts_layout(struct fonts *f, const char *text, double size, enum weight weight, double width);
/* The same, of `lines` lines at most, the rest an ellipsis. */
PangoLayout *fonts_cell(struct fonts *f, const char *text, double size, enum weight weight, double width, int lines);

double fonts_width(PangoLayout *l);
double fonts_height(PangoLayout *l);

#endif
