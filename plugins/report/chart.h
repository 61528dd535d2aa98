/* chart.h: pictures of scores: the gauge of the whole and the bars of the areas. */
#ifndef REPORT_CHART_H
#define REPORT_CHART_H

#include "data.h"
#include "pages.h"

/* The shape and colour of a level. */
enum shape chart_shape(enum level level);
uint32_t chart_colour(enum level level);

#define GAUGE_WIDTH 132.0
#define GAUGE_HEIGHT 104.0

/* A gauge with its top left corner at x, y. */
void chart_gauge(struct pages *p, double score, enum lang lang, double x, double y);
/* One bar for each area that has a score, from the page's y on. */
void chart_bars(struct pages *p, const GPtrArray *areas, enum lang lang);

#endif
