/* words.h: every word that a report says by itself, in each language. */
#ifndef REPORT_WORDS_H
#define REPORT_WORDS_H

#include "format.h"

/* How good a result is. */
enum level { LEVEL_NONE, LEVEL_GOOD, LEVEL_FAIR, LEVEL_POOR, LEVEL_LOW, LEVEL_HIGH, LEVELS };

struct words {
	const char *tag; /* BCP 47 */
	const char *title, *subject, *for_nobody, *number;
	const char *summary, *areas, *advice, *results;
	const char *out_of, *total, *strong, *weak, *no_answers, *no_score;
	const char *column[4];
	const char *level[LEVELS];
	const char *area_level[LEVELS];
	const char *verdict[LEVELS]; /* the same as a heading */
	const char *continued, *more, *unanswered, *page, *other_area, *note;
	const char *comprehensive; /* the one type of check-up that has a name of its own */
};

/* "ru", "ru-RU" → Russian; everything else English. */
enum lang words_lang(const char *tag);
const struct words *words_of(enum lang lang);

#endif
