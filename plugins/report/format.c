/* format.c: dates, numbers and texts as people of a language write them. */
#include "config.h"

#include "format.h"

#include <glib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NBSP "\u00a0"

static const char *const months[2][12] = {
	{ "января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября", "ноября",
		"декабря" },
	{ "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
		"December" },
};

char *format_date(const char *iso, enum lang lang)
{
	int year, month, day, end = 0;

	if (sscanf(iso, "%4d-%2d-%2d%n", &year, &month, &day, &end) != 3 || end != 10 ||
		!g_date_valid_dmy((GDateDay)day, (GDateMonth)month, (GDateYear)year))
		return NULL;
	return g_strdup_printf(
		"%d" NBSP "%s %d%s", day, months[lang][month - 1], year, lang == LANG_RU ? NBSP "г." : "");
}

/* A number too large or too small for its digits alone: 1,5·10³⁰⁰. */
static char *format_power(double value, enum lang lang)
{
	static const char *const raised[] = { "⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹" };
	char digits[G_ASCII_DTOSTR_BUF_SIZE], *power;
	GString *s = g_string_new(value < 0 ? "−" : "");

	if (!isfinite(value)) {
		g_string_append(s, isnan(value) ? "?" : "∞");
		return g_string_free(s, FALSE);
	}
	g_ascii_formatd(digits, sizeof(digits), "%.5e", fabs(value));
	power = strchr(digits, 'e');
	*power++ = '\0';
	for (char *end = power - 1; end > digits && (end[-1] == '0' || end[-1] == '.');) {
		bool point = *--end == '.';

		*end = '\0';
		if (point)
			break;
	}
	for (const char *p = digits; *p != '\0'; p++)
		g_string_append_c(s, *p == '.' && lang == LANG_RU ? ',' : *p);
	g_string_append(s, *power == '-' ? "·10⁻" : "·10");
	for (power += 1 + strspn(power + 1, "0"); *power != '\0'; power++)
		g_string_append(s, raised[*power - '0']);
	return g_string_free(s, FALSE);
}

char *format_number(double value, enum lang lang)
{
	char digits[G_ASCII_DTOSTR_BUF_SIZE], *end;
	size_t whole;
	GString *s;

	if (!isfinite(value) || fabs(value) > 9007199254740992.0) /* above, a double is not exact */
		return format_power(value, lang);
	/* six digits behind the point, or six that say something: 0.0000004 is not 0 */
	int decimals = value != 0 && fabs(value) < 0.1 ? 5 - (int)floor(log10(fabs(value))) : 6;
	char form[8];

	if (decimals > 18)
		return format_power(value, lang);
	g_snprintf(form, sizeof(form), "%%.%df", decimals);
	g_ascii_formatd(digits, sizeof(digits), form, fabs(value));
	for (end = digits + strlen(digits); end[-1] == '0'; end--) /* there is always a point before them */
		;
	*(end[-1] == '.' ? end - 1 : end) = '\0';
	whole = strcspn(digits, ".");
	s = g_string_new(value < 0 && strcmp(digits, "0") != 0 ? "−" : "");
	for (size_t i = 0; i < whole; i++) {
		/* in Russian a number of four digits is not split */
		if (i > 0 && (whole - i) % 3 == 0 && (lang == LANG_EN || whole > 4))
			g_string_append(s, lang == LANG_EN ? "," : NBSP);
		g_string_append_c(s, digits[i]);
	}
	if (digits[whole] == '.') {
		g_string_append_c(s, lang == LANG_EN ? '.' : ',');
		g_string_append(s, digits + whole + 1);
	}
	return g_string_free(s, FALSE);
}

char *format_score(double score, enum lang lang)
{
	return format_number(round(score * 10) / 10, lang);
}

char *format_unit(const char *value, const char *unit, enum lang lang)
{
	if (unit == NULL || unit[0] == '\0')
		return g_strdup(value);
	return g_strconcat(value, strcmp(unit, "%") == 0 && lang == LANG_EN ? "" : NBSP, unit, NULL);
}

char *format_range(const double *low, const double *high, const char *unit, enum lang lang)
{
	char *a = low ? format_number(*low, lang) : NULL, *b = high ? format_number(*high, lang) : NULL, *s = NULL, *r;

	if (a != NULL && b != NULL)
		s = g_strconcat(a, "–", b, NULL);
	else if (b != NULL)
		s = g_strconcat(lang == LANG_RU ? "до" NBSP : "up to" NBSP, b, NULL);
	else if (a != NULL)
		s = g_strconcat(lang == LANG_RU ? "от" NBSP : "at least" NBSP, a, NULL);
	r = s ? format_unit(s, unit, lang) : NULL;
	g_free(a);
	g_free(b);
	g_free(s);
	return r;
}

char *format_points(double n, enum lang lang)
{
	char *number, *s;
	long whole = lround(n = round(n * 10) / 10);
	const char *word;

	number = format_number(n, lang);
	if (lang == LANG_EN)
		word = n == 1 ? "point" : "points";
	else if (n != (double)whole)
		word = "балла";
	else if (whole % 10 == 1 && whole % 100 != 11)
		word = "балл";
	else if (whole % 10 >= 2 && whole % 10 <= 4 && (whole % 100 < 12 || whole % 100 > 14))
		word = "балла";
	else
		word = "баллов";
	s = g_strconcat(number, NBSP, word, NULL);
	g_free(number);
	return s;
}

char *format_fill(const char *sentence, const char *first, const char *second)
{
	GString *s = g_string_new(NULL);

	for (const char *p = sentence; *p != '\0'; p++) {
		bool one = strncmp(p, "{1}", 3) == 0;

		if (one || strncmp(p, "{2}", 3) == 0) {
			g_string_append(s, one ? first : second);
			p += 2;
		} else {
			g_string_append_c(s, *p);
		}
	}
	return g_string_free(s, FALSE);
}

/* Whether a character turns the direction of writing, or shows nothing: neither belongs into a report. */
static bool invisible(gunichar c)
{
	return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f ||
	       c == 0x61c || c == 0xfeff || c == 0xfffc || (c >= 0xe000 && c <= 0xf8ff);
}

char *format_text(const char *text, size_t max, int lines)
{
	GString *s = g_string_new(NULL);
	gunichar pending = 0, last = 0;
	size_t n = 0, word = 0;

	for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
		gunichar c = g_utf8_get_char(p);

		if (c == '\n' && lines)
			pending = '\n';
		else if (c < 0x20 || c == 0x7f || c == ' ' || c == 0x2028 || c == 0x2029 || (c >= 0x80 && c < 0xa0))
			pending = pending ? pending : ' ';
		else if (!invisible(c)) {
			if (n + (pending != 0) >= max) {
				g_string_append(s, "…");
				break;
			}
			if (pending && n > 0) {
				/* in running text no line ends in a word of one letter */
				g_string_append_unichar(
					s, pending == ' ' && lines && word == 1 && g_unichar_isalpha(last) ? 0xa0
													   : pending);
				n++;
				word = 0;
			}
			pending = 0;
			g_string_append_unichar(s, c);
			last = c;
			word++;
			n++;
		}
	}
	return g_string_free(s, FALSE);
}
