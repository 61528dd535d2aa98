/* document.c: a report as a whole: who and when, the summary, the chart, what to do, the table, and the heads and feet
 * of its pages. */
#include "config.h"

#include "document.h"

#include "chart.h"
#include "colours.h"
#include "pdf.h"
#include "table.h"

#include <string.h>

#define CARD_PAD 18.0
#define ADVICE_LEFT 28.0  /* behind the number */
#define ADVICE_RIGHT 32.0 /* shorter lines are easier to read */

/* The part of the report's number that people read to each other. */
static char *short_id(const struct report_data *d)
{
	char *id = g_strndup(d->id, 8), *upper = g_ascii_strup(id, -1);

	g_free(id);
	return upper;
}

/* The round mark with the brand's first letter, and the brand's name beside it. */
static void draw_brand(struct pages *p, const char *brand, double y, double size)
{
	if (brand[0] == '\0')
		return;
	char *letter = g_strndup(brand, (gsize)(g_utf8_next_char(brand) - brand));
	PangoLayout *l = fonts_layout(p->fonts, letter, size * 0.52, BOLD, 0),
		    *name = fonts_layout(p->fonts, brand, size * 0.5, BOLD, 0);

	pages_shape(p, SHAPE_DISC, PAGE_LEFT + size / 2, y + size / 2, size, COLOUR_BRAND);
	pages_layout(p, l, PAGE_LEFT + (size - fonts_width(l)) / 2, y + (size - fonts_height(l)) / 2, COLOUR_ON_BRAND);
	pages_layout(p, name, PAGE_LEFT + size * 1.3, y + (size - fonts_height(name)) / 2, COLOUR_INK);
	g_free(letter);
}

/* The first page's top: brand, title, person, check-up, date. */
static void draw_top(struct pages *p, const struct report_data *d, const char *brand)
{
	const struct words *w = words_of(d->lang);
	char *id = short_id(d), *number = format_fill(w->number, id, NULL);
	char *line = d->type[0] != '\0' ? g_strconcat(d->type, "  ·  ", d->date, NULL) : g_strdup(d->date);
	PangoLayout *name = fonts_cell(
		p->fonts, d->name[0] != '\0' ? d->name : w->for_nobody, 16, REGULAR, PAGE_INNER, 2);

	draw_brand(p, brand, 40, 34);
	pages_text(p, number, 9, REGULAR, PAGE_RIGHT, 51, 1, COLOUR_MUTED);
	p->y = 90;
	p->y += pages_text(p, w->title, 27, BOLD, PAGE_LEFT, p->y, 0, COLOUR_INK) + 3;
	pages_layout(p, name, PAGE_LEFT, p->y, COLOUR_BRAND_TEXT);
	p->y += fonts_height(name) + 3;
	p->y += pages_text(p, line, 10.5, REGULAR, PAGE_LEFT, p->y, 0, COLOUR_MUTED) + 18;
	g_free(id);
	g_free(number);
	g_free(line);
}

/* A section's heading; `need`: room for it and what follows at once. */
static void draw_heading(struct pages *p, const char *title, double need)
{
	pages_room(p, need);
	pages_chapter(p, title);
	p->y += pages_text(p, title, 15, BOLD, PAGE_LEFT, p->y, 0, COLOUR_INK) + 7;
}

/* Areas of one level, "Сон (54), Стресс (58)", `max` at most; NULL: there are none. */
static char *name_areas(const struct report_data *d, enum level level, unsigned max)
{
	GString *s = g_string_new(NULL);
	double past = level == LEVEL_GOOD ? 101 : -1;

	/* best first, or worst first: each round finds the next score, and names all areas that have it */
	while (max > 0) {
		double next = -1;

		for (guint i = 0; i < d->areas->len; i++) {
			const struct area *a = g_ptr_array_index(d->areas, i);
			bool fits = a->has_score && (level == LEVEL_GOOD) == (data_level(a->score) == LEVEL_GOOD);

			if (fits && (level == LEVEL_GOOD ? a->score < past && a->score > next
							 : a->score > past && (next < 0 || a->score < next)))
				next = a->score;
		}
		if (next < 0)
			break;
		for (guint i = 0; i < d->areas->len && max > 0; i++) {
			const struct area *a = g_ptr_array_index(d->areas, i);
			char *number;

			if (!a->has_score || a->score != next)
				continue;
			number = format_score(a->score, d->lang);
			g_string_append_printf(s, "%s%s\u00a0(%s)", s->len ? ", " : "", a->title, number);
			g_free(number);
			max--;
		}
		past = next;
	}
	return g_string_free(s, s->len == 0);
}

/* Adds a sentence on a line of its own. */
static void add_sentence(GString *s, const char *sentence, const char *value)
{
	char *text = format_fill(sentence, value, NULL);

	g_string_append_printf(s, "%s%s", s->len ? "\n" : "", text);
	g_free(text);
}

/* The text of the summary: the assessment's own, or one made of the scores. */
static char *summary_text(const struct report_data *d)
{
	const struct words *w = words_of(d->lang);
	char *strong, *weak;
	GString *s;

	if (d->summary[0] != '\0')
		return g_strdup(d->summary);
	s = g_string_new(NULL);
	if (d->has_score) {
		char *points = format_points(d->score, d->lang);

		add_sentence(s, w->total, points);
		g_free(points);
	} else {
		g_string_append(s, d->areas->len ? w->no_score : w->no_answers);
	}
	strong = name_areas(d, LEVEL_GOOD, 3);
	weak = name_areas(d, LEVEL_POOR, 3);
	if (strong)
		add_sentence(s, w->strong, strong);
	if (weak)
		add_sentence(s, w->weak, weak);
	g_free(strong);
	g_free(weak);
	return g_string_free(s, FALSE);
}

/* The card with the gauge and the summary; a text too long for a card follows below it. */
static void draw_summary(struct pages *p, const struct report_data *d)
{
	const struct words *w = words_of(d->lang);
	double left = PAGE_LEFT + CARD_PAD + (d->has_score ? GAUGE_WIDTH + 24 : 0),
	       width = PAGE_RIGHT - CARD_PAD - left, h, text_height;
	enum level level = d->has_score ? data_level(d->score) : LEVEL_NONE;
	char *text = summary_text(d);
	PangoLayout *l = fonts_cell(p->fonts, text, 10.5, REGULAR, width, 12), *head;
	bool cut = pango_layout_is_ellipsized(l) || pango_layout_get_line_count(l) > 14;

	pages_chapter(p, w->summary);
	if (cut) { /* the card shows the level alone */
		g_object_unref(l);
		l = fonts_layout(p->fonts, "", 10.5, REGULAR, width);
	}
	pango_layout_set_spacing(l, 2 * PANGO_SCALE);
	head = fonts_layout(p->fonts, d->has_score ? w->verdict[level] : w->summary, 15, BOLD, 0);
	text_height = 26 + (cut ? 0 : fonts_height(l));
	h = MAX(text_height, d->has_score ? GAUGE_HEIGHT : 0) + 2 * CARD_PAD;
	pages_box(p, PAGE_LEFT, p->y, PAGE_INNER, h, 10, COLOUR_CARD);
	if (d->has_score) {
		chart_gauge(p, d->score, d->lang, PAGE_LEFT + CARD_PAD, p->y + (h - GAUGE_HEIGHT) / 2);
		pages_shape(
			p, chart_shape(level), left + 5, p->y + (h - text_height) / 2 + 10.5, 10, chart_colour(level));
	}
	pages_layout(p, head, left + (d->has_score ? 17 : 0), p->y + (h - text_height) / 2, COLOUR_INK);
	pages_layout(p, l, left, p->y + (h - text_height) / 2 + 26, COLOUR_INK);
	p->y += h + (cut ? 10 : 18);
	if (cut) {
		pages_paragraph(p, text, 10.5, REGULAR, PAGE_LEFT, PAGE_INNER, COLOUR_INK);
		p->y += 18;
	}
	g_free(text);
}

/* The chart of areas, if any has a score. */
static void draw_chart(struct pages *p, const struct report_data *d)
{
	bool any = false;

	for (guint i = 0; i < d->areas->len; i++)
		any = any || ((const struct area *)g_ptr_array_index(d->areas, i))->has_score;
	if (!any)
		return;
	draw_heading(p, words_of(d->lang)->areas, 90);
	chart_bars(p, d->areas, d->lang);
	p->y += 10;
}

/* The recommendations, numbered. */
static void draw_advice(struct pages *p, const struct report_data *d)
{
	if (d->advice->len == 0)
		return;
	draw_heading(p, words_of(d->lang)->advice, 80);
	for (guint i = 0; i < d->advice->len; i++) {
		const struct advice *a = g_ptr_array_index(d->advice, i);
		char number[12];

		pages_room(p, 46);
		g_snprintf(number, sizeof(number), "%u", i + 1);
		pages_shape(p, SHAPE_DISC, PAGE_LEFT + 9, p->y + 9, 18, COLOUR_PALE);
		pages_text(p, number, 9.5, BOLD, PAGE_LEFT + 9, p->y + 2.6, 0.5, COLOUR_BRAND_TEXT);
		if (a->title[0] != '\0')
			pages_paragraph(p, a->title, 10.5, BOLD, PAGE_LEFT + ADVICE_LEFT,
				PAGE_INNER - ADVICE_LEFT - ADVICE_RIGHT, COLOUR_INK);
		else
			p->y += 2;
		pages_paragraph(p, a->text, 10, REGULAR, PAGE_LEFT + ADVICE_LEFT,
			PAGE_INNER - ADVICE_LEFT - ADVICE_RIGHT, COLOUR_INK);
		p->y += 8;
	}
	p->y += 10;
}

/* The questions without an answer, in one paragraph. */
static void draw_unanswered(struct pages *p, const struct report_data *d)
{
	GString *names = g_string_new(NULL);

	for (guint i = 0; i < d->areas->len; i++) {
		const struct area *a = g_ptr_array_index(d->areas, i);

		if (a->unanswered->len > 0)
			g_string_append_printf(names, "%s%s", names->len ? ", " : "", a->unanswered->str);
	}
	if (names->len > 0) {
		char *text = format_fill(words_of(d->lang)->unanswered, names->str, NULL);

		pages_paragraph(p, text, 9.5, REGULAR, PAGE_LEFT, PAGE_INNER, COLOUR_MUTED);
		p->y += 4;
		g_free(text);
	}
	g_string_free(names, TRUE);
}

/* The table, the results that are left out, and the note at the end. */
static void draw_results(struct pages *p, const struct report_data *d)
{
	const struct words *w = words_of(d->lang);
	PangoLayout *note;

	if (d->results > 0) {
		draw_heading(p, w->results, 26 + TABLE_BEGIN);
		table_draw(p, d->areas, d->lang);
		p->y += 8;
	}
	draw_unanswered(p, d);
	if (d->left_out > 0) {
		char number[12], *more;

		g_snprintf(number, sizeof(number), "%u", d->left_out);
		more = format_fill(w->more, number, NULL);
		pages_paragraph(p, more, 9.5, REGULAR, PAGE_LEFT, PAGE_INNER, COLOUR_MUTED);
		g_free(more);
	}
	note = fonts_layout(p->fonts, w->note, 8.5, REGULAR, PAGE_INNER);
	p->y += 8;
	pages_room(p, fonts_height(note));
	pages_layout(p, note, PAGE_LEFT, p->y, COLOUR_MUTED);
}

/* Heads and feet, now that the number of pages is known. */
static void draw_margins(struct pages *p, const struct report_data *d, const char *brand)
{
	const struct words *w = words_of(d->lang);
	unsigned n = pages_count(p);

	for (unsigned i = 0; i < n; i++) {
		char number[12], total[12], *page, *foot;

		g_snprintf(number, sizeof(number), "%u", i + 1);
		g_snprintf(total, sizeof(total), "%u", n);
		page = format_fill(w->page, number, total);
		pages_go(p, i);
		if (i > 0) {
			PangoLayout *name = fonts_cell(p->fonts, d->name, 9, REGULAR, 260, 1);

			draw_brand(p, brand, 36, 22);
			pango_layout_set_alignment(name, PANGO_ALIGN_RIGHT);
			pages_layout(p, name, PAGE_RIGHT - 260, 41, COLOUR_MUTED);
			pages_box(p, PAGE_LEFT, 67, PAGE_INNER, 0.6, 0, COLOUR_LINE);
		}
		foot = g_strconcat(brand, brand[0] != '\0' ? "  ·  " : "", w->subject, "  ·  ", d->date, NULL);
		pages_box(p, PAGE_LEFT, PAGE_HEIGHT - 48, PAGE_INNER, 0.6, 0, COLOUR_LINE);
		pages_text(p, foot, 8.5, REGULAR, PAGE_LEFT, PAGE_HEIGHT - 42, 0, COLOUR_MUTED);
		pages_text(p, page, 8.5, REGULAR, PAGE_RIGHT, PAGE_HEIGHT - 42, 1, COLOUR_MUTED);
		g_free(page);
		g_free(foot);
	}
}

GByteArray *document_make(
	const struct report_data *d, struct fonts *f, const char *brand, unsigned *pages, const char **reason)
{
	const struct words *w = words_of(d->lang);
	struct pages *p = pages_new(f);
	char *title = d->name[0] != '\0' ? g_strconcat(w->title, " — ", d->name, NULL) : g_strdup(w->title);
	struct pdf_about about = {
		.title = title, .author = brand, .subject = w->subject, .lang = w->tag, .created = d->completed_utc
	};
	GByteArray *out;

	draw_top(p, d, brand);
	draw_summary(p, d);
	draw_chart(p, d);
	draw_advice(p, d);
	draw_results(p, d);
	draw_margins(p, d, brand);
	*pages = pages_count(p);
	out = pdf_make(p, &about, reason);
	pages_free(p);
	g_free(title);
	return out;
}
