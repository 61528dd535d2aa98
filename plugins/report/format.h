/* format.h: dates, numbers and texts as people of a language write them. */
#ifndef REPORT_FORMAT_H
#define REPORT_FORMAT_H

#include <stddef.h>

enum lang { LANG_RU, LANG_EN };

/* "2026-05-05" → "5 мая 2026 г.", "5 May 2026"; NULL when it is no date. All results are g_malloc'd. */
char *format_date(const char *iso, enum lang lang);
/* 36.6 → "36,6"; 12345.5 → "12 345,5" with spaces that do not break. At most six decimals, or six digits of a
 * small number; no trailing zeros. */
char *format_number(double value, enum lang lang);
/* A score, with one decimal at most. */
char *format_score(double score, enum lang lang);
/* A value and its unit: "36,6 °C" with a space that does not break; no space before % in English. */
char *format_unit(const char *value, const char *unit, enum lang lang);
/* Where a value should lie: "7–9 ч", "до 130", "от 2"; a bound that is NULL is open. NULL when both are. */
char *format_range(const double *low, const double *high, const char *unit, enum lang lang);
/* "1 балл", "3 балла", "68 баллов"; "1 point", "68 points". */
char *format_points(double n, enum lang lang);
/* A sentence with {1} and {2} in it, these replaced; `second` may be NULL where there is no {2}. */
char *format_fill(const char *sentence, const char *first, const char *second);
/* One line: controls and runs of spaces become one space, more than `max` characters end in an ellipsis. With `lines`
 * set, it is running text: line breaks stay, and a word of one letter stays with the next one. */
char *format_text(const char *text, size_t max, int lines);

#endif
