/* fonts.c: text in the report's typeface; resolution-free metrics, so that the same text always takes the same room. */
#include "config.h"

#include "fonts.h"

#include <string.h>

struct fonts {
	PangoFontMap *map; /* our own: the default one would outlive us */
	PangoContext *context;
	char *families;
	GHashTable *known; /* character → whether a font has it; those that were asked for */
	GString *missing;  /* that some text wanted */
};

struct fonts *fonts_new(const char *families)
{
	struct fonts *f = g_new0(struct fonts, 1);
	cairo_font_options_t *o = cairo_font_options_create();

	f->families = g_strdup(families);
	f->known = g_hash_table_new(NULL, NULL);
	f->missing = g_string_new(NULL);
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
	g_hash_table_destroy(f->known);
	g_string_free(f->missing, TRUE);
	g_free(f->families);
	g_free(f);
}

/* A layout of a text as it is. Pango looks through all installed fonts for what the families do not have. */
static PangoLayout *layout_plain(struct fonts *f, const char *text, double size, enum weight weight, double width)
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

/* Whether some installed font has a character. */
static bool has_glyph(struct fonts *f, gunichar c)
{
	gpointer found;
	char text[8] = "";
	PangoLayout *l;
	bool has;

	if (g_hash_table_lookup_extended(f->known, GUINT_TO_POINTER(c), NULL, &found))
		return found != NULL;
	g_unichar_to_utf8(c, text);
	l = layout_plain(f, text, 10, REGULAR, 0);
	has = pango_layout_get_unknown_glyphs_count(l) == 0;
	g_object_unref(l);
	g_hash_table_insert(f->known, GUINT_TO_POINTER(c), GINT_TO_POINTER(has));
	return has;
}

/* The text with its code point, "[U+1F9A6]", in place of each character that no font has. */
static char *with_code_points(struct fonts *f, const char *text)
{
	GString *s = g_string_new(NULL);

	for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);
		char name[16];

		if (c < 0x80 || has_glyph(f, c)) {
			g_string_append_unichar(s, c);
			continue;
		}
		/* joiners and selectors only change their neighbours */
		if (g_unichar_type(c) == G_UNICODE_FORMAT || (c >= 0xfe00 && c <= 0xfe0f) ||
			(c >= 0xe0100 && c <= 0xe01ef))
			continue;
		g_snprintf(name, sizeof(name), "U+%04X", c);
		g_string_append_printf(s, "[%s]", name);
		if (strstr(f->missing->str, name) == NULL)
			g_string_append_printf(f->missing, "%s%s", f->missing->len ? " " : "", name);
	}
	return g_string_free(s, FALSE);
}

PangoLayout *fonts_layout(struct fonts *f, const char *text, double size, enum weight weight, double width)
{
	PangoLayout *l = layout_plain(f, text, size, weight, width);
	char *shown;

	if (pango_layout_get_unknown_glyphs_count(l) == 0)
		return l;
	shown = with_code_points(f, text);
	pango_layout_set_text(l, shown, -1);
	g_free(shown);
	return l;
}

char *fonts_take_missing(struct fonts *f)
{
	char *missing = f->missing->len ? g_strdup(f->missing->str) : NULL;

	g_string_truncate(f->missing, 0);
	return missing;
}

PangoLayout *fonts_cell(struct fonts *f, const char *text, double size, enum weight weight, double width, int lines)
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

bool fonts_can_show(struct fonts *f, const char *text)
{
	PangoLayout *l = layout_plain(f, text, 10, REGULAR, 0);
	bool can = pango_layout_get_unknown_glyphs_count(l) == 0;

	g_object_unref(l);
	return can;
}
