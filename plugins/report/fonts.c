/* fonts.c: text in the report's typeface; resolution-free metrics, so that the same text always takes the same room. */
#include "config.h"

#include "fonts.h"

struct fonts {
	PangoFontMap *map; /* our own: the default one would outlive us */
	PangoContext *context;
	char *families;
};

struct fonts *fonts_new(const char *families)
{
	struct fonts *f = g_new0(struct fonts, 1);
	cairo_font_options_t *o = cairo_font_options_create();

	f->families = g_strdup(families);
	f->map = pango_cairo_font_map_new();
	f->context = pango_font_map_create_context(f->map);
	cairo_font_options_set_hint_style(o, CAIRO_HINT_STYLE_NONE);
	cairo_font_options_set_hint_metrics(o, CAIRO_HINT_METRICS_OFF);
	cairo_font_options_set_antialias(o, CAIRO_ANTIALIAS_GRAY);
	pango_cairo_context_set_font_options(f->context, o);
	pango_cairo_context_set_resolution(f->context, 72); /* a point is a point */
	pango_context_set_round_glyph_positions(f->context, FALSE);
	pango_context_set_language(f->context, pango_language_from_string("ru")); /* not the environment's */
	cairo_font_options_destroy(o);
	return f;
}

void fonts_free(struct fonts *f)
{
	if (f == NULL)
		return;
	g_object_unref(f->context);
	g_object_unref(f->map);
	g_free(f->families);
	g_free(f);
}

PangoLayout *fonts_layout(const struct fonts *f, const char *text, double size, enum weight weight, double width)
{
	PangoLayout *l = pango_layout_new(f->context);
	PangoFontDescription *d = pango_font_description_new();

	pango_font_description_set_family_static(d, f->families);
	pango_font_description_set_weight(d, weight == BOLD ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
	pango_font_description_set_absolute_size(d, size * PANGO_SCALE);
	pango_layout_set_font_description(l, d);
	pango_font_description_free(d);
	if (width > 0) {
		pango_layout_set_width(l, (int)(width * PANGO_SCALE));
		pango_layout_set_wrap(l, PANGO_WRAP_WORD_CHAR);
	}
	pango_layout_set_text(l, text, -1);
	return l;
}

PangoLayout *fonts_cell(
	const struct fonts *f, const char *text, double size, enum weight weight, double width, int lines)
{
	PangoLayout *l = fonts_layout(f, text, size, weight, width);

	pango_layout_set_height(l, -lines);
	pango_layout_set_ellipsize(l, PANGO_ELLIPSIZE_END);
	return l;
}

double fonts_width(PangoLayout *l)
{
	int w;

	pango_layout_get_size(l, &w, NULL);
	return (double)w / PANGO_SCALE;
}

double fonts_height(PangoLayout *l)
{
	int h;

	pango_layout_get_size(l, NULL, &h);
	return (double)h / PANGO_SCALE;
}

bool fonts_can_show(const struct fonts *f, const char *text)
{
	PangoLayout *l = fonts_layout(f, text, 10, REGULAR, 0);
	bool can = pango_layout_get_unknown_glyphs_count(l) == 0;

	g_object_unref(l);
	return can;
}
