/* chart.c: pictures of scores; each value is printed beside its picture. */
#include "config.h"

#include "chart.h"

#include "colours.h"

#define LABEL_WIDTH 138.0
#define BAR_LEFT (PAGE_LEFT + LABEL_WIDTH + 12)
#define BAR_RIGHT (PAGE_RIGHT - 138)
#define BAR_HEIGHT 9.0
#define AXIS_HEIGHT 14.0
#define ROW_GAP 5.0
#define ROW_HEIGHT 21.5

enum shape chart_shape(enum level level)
{
	switch (level) {
	case LEVEL_GOOD:
		return SHAPE_DISC;
	case LEVEL_FAIR:
		return SHAPE_RING;
	case LEVEL_LOW:
		return SHAPE_DOWN;
	case LEVEL_HIGH:
		return SHAPE_UP;
	default:
		return SHAPE_DIAMOND;
	}
}

uint32_t chart_colour(enum level level)
{
	return level == LEVEL_GOOD ? COLOUR_GOOD : level == LEVEL_FAIR ? COLOUR_FAIR : COLOUR_POOR;
}

void chart_gauge(struct pages *p, double score, enum lang lang, double x, double y)
{
	const struct words *w = words_of(lang);
	double cx = x + GAUGE_WIDTH / 2, cy = y + GAUGE_WIDTH / 2, from = G_PI * 0.83, span = G_PI * 1.34,
	       r = GAUGE_WIDTH / 2 - 7;
	char *number = format_score(score, lang);
	PangoLayout *big = fonts_layout(p->fonts, number, 38, BOLD, 0);

	pages_arc(p, cx, cy, r, 11, from, from + span, COLOUR_TRACK);
	if (score > 0)
		pages_arc(p, cx, cy, r, 11, from, from + span * score / 100, chart_colour(data_level(score)));
	pages_layout(p, big, cx - fonts_width(big) / 2, cy - 33, COLOUR_INK);
	pages_text(p, w->out_of, 10, REGULAR, cx, cy + 11, 0.5, COLOUR_MUTED);
	g_free(number);
}

/* The lines and numbers behind the bars, over the height of `n` of them. */
static void draw_axis(struct pages *p, double height)
{
	static const char *const ticks[] = { "0", "25", "50", "75", "100" };

	for (int i = 0; i <= 4; i++) {
		double x = BAR_LEFT + (BAR_RIGHT - BAR_LEFT) * i / 4;

		pages_box(p, x - 0.25, p->y, 0.5, height, 0, COLOUR_LINE);
		pages_text(p, ticks[i], 7.5, REGULAR, x, p->y + height + 2, 0.5, COLOUR_MUTED);
	}
}

/* One bar, in a row of height `h` at the page's y. */
static void draw_bar(struct pages *p, const struct area *a, PangoLayout *label, double h, enum lang lang)
{
	enum level level = data_level(a->score);
	double mid = p->y + h / 2, width = (BAR_RIGHT - BAR_LEFT) * a->score / 100;
	char *number = format_score(a->score, lang);
	PangoLayout *value = fonts_layout(p->fonts, number, 11.5, BOLD, 0),
		    *word = fonts_cell(p->fonts, words_of(lang)->area_level[level], 9, REGULAR, 92, 1);

	pages_layout(p, label, PAGE_LEFT, mid - fonts_height(label) / 2, COLOUR_INK);
	pages_box(p, BAR_LEFT, mid - BAR_HEIGHT / 2, BAR_RIGHT - BAR_LEFT, BAR_HEIGHT, BAR_HEIGHT / 2, COLOUR_TRACK);
	if (width > 0)
		pages_box(p, BAR_LEFT, mid - BAR_HEIGHT / 2, width < BAR_HEIGHT ? BAR_HEIGHT : width, BAR_HEIGHT,
			BAR_HEIGHT / 2, chart_colour(level));
	pages_layout(p, value, BAR_RIGHT + 32 - fonts_width(value), mid - fonts_height(value) / 2, COLOUR_INK);
	pages_shape(p, chart_shape(level), BAR_RIGHT + 44, mid, 6.5, chart_colour(level));
	pages_layout(p, word, BAR_RIGHT + 52, mid - fonts_height(word) / 2, COLOUR_MUTED);
	g_free(number);
}

void chart_bars(struct pages *p, const GPtrArray *areas, enum lang lang)
{
	guint i = 0;

	while (i < areas->len) {
		GPtrArray *labels = g_ptr_array_new();
		guint first = i, k = 0;
		double height = 0;

		/* as many as this page takes, since the axis is drawn behind them */
		for (; i < areas->len; i++) {
			const struct area *a = g_ptr_array_index(areas, i);
			PangoLayout *l;
			double h;

			if (!a->has_score)
				continue;
			l = fonts_cell(p->fonts, a->title, 10.5, REGULAR, LABEL_WIDTH, 2);
			h = MAX(fonts_height(l) + ROW_GAP, ROW_HEIGHT);
			if (p->y + height + h + AXIS_HEIGHT > PAGE_BOTTOM && (labels->len > 0 || p->y > PAGE_TOP)) {
				g_object_unref(l);
				break;
			}
			height += h;
			g_ptr_array_add(labels, l);
		}
		if (labels->len > 0)
			draw_axis(p, height);
		for (guint n = first; n < i; n++) {
			const struct area *a = g_ptr_array_index(areas, n);
			PangoLayout *l;
			double h;

			if (!a->has_score)
				continue;
			l = g_ptr_array_index(labels, k++);
			h = MAX(fonts_height(l) + ROW_GAP, ROW_HEIGHT);
			draw_bar(p, a, l, h, lang);
			p->y += h;
		}
		g_ptr_array_unref(labels);
		p->y += AXIS_HEIGHT;
		if (i < areas->len)
			pages_break(p);
	}
}
