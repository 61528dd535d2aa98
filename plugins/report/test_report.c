/* test_report.c: dates, numbers and texts of the report plugin, what it takes out of answers, and how its pages break.
 */
#include "config.h"

#include "colours.h"
#include "data.h"
#include "document.h"
#include "format.h"
#include "pages.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NB "\u00a0"

/* Compares a text that is ours to free. */
static void same(char *got, const char *want)
{
	if (want == NULL)
		assert_null(got);
	else
		assert_string_equal(got, want);
	g_free(got);
}

/* Dates in both languages, and what is none. */
static void dates(void **state)
{
	(void)state;
	same(format_date("2026-05-05", LANG_RU), "5" NB "мая 2026" NB "г.");
	same(format_date("2026-05-05", LANG_EN), "5" NB "May 2026");
	same(format_date("2024-02-29", LANG_EN), "29" NB "February 2024");
	same(format_date("2025-02-29", LANG_EN), NULL);
	same(format_date("2026-13-01", LANG_EN), NULL);
	same(format_date("2026-05-05T10:00", LANG_EN), "5" NB "May 2026");
	same(format_date("", LANG_RU), NULL);
	same(format_date("5 May", LANG_RU), NULL);
}

/* Numbers, their signs and groups. */
static void numbers(void **state)
{
	(void)state;
	same(format_number(36.6, LANG_RU), "36,6");
	same(format_number(36.6, LANG_EN), "36.6");
	same(format_number(0, LANG_RU), "0");
	same(format_number(-0.0000001, LANG_RU), "−0,0000001");
	same(format_number(4e-7, LANG_EN), "0.0000004");
	same(format_number(0.000012345678, LANG_EN), "0.0000123457");
	same(format_number(0.1234567891, LANG_RU), "0,123457");
	same(format_number(1e-300, LANG_EN), "1·10⁻³⁰⁰");
	same(format_number(-1.5e300, LANG_EN), "−1.5·10³⁰⁰");
	same(format_number(1.5e16, LANG_RU), "1,5·10¹⁶");
	same(format_number(1234567890123456, LANG_RU), "1" NB "234" NB "567" NB "890" NB "123" NB "456");
	same(format_number(-9007199254740992, LANG_EN), "−9,007,199,254,740,992");
	same(format_number(INFINITY, LANG_EN), "∞");
	same(format_score(33.333333, LANG_RU), "33,3");
	same(format_score(99.96, LANG_EN), "100");
	same(format_points(33.333, LANG_RU), "33,3" NB "балла");
	same(format_number(-2.50, LANG_EN), "−2.5");
	same(format_number(6200, LANG_RU), "6200");
	same(format_number(6200, LANG_EN), "6,200");
	same(format_number(1234567.25, LANG_RU), "1" NB "234" NB "567,25");
	same(format_number(100, LANG_RU), "100");
	same(format_number(0.1 + 0.2, LANG_RU), "0,3");
}

/* Units, ranges, points. */
static void units(void **state)
{
	double a = 7, b = 9.5;

	(void)state;
	same(format_unit("36,6", "°C", LANG_RU), "36,6" NB "°C");
	same(format_unit("5", "%", LANG_RU), "5" NB "%");
	same(format_unit("5", "%", LANG_EN), "5%");
	same(format_unit("5", "", LANG_EN), "5");
	same(format_range(&a, &b, "ч", LANG_RU), "7–9,5" NB "ч");
	same(format_range(NULL, &b, "", LANG_RU), "до" NB "9,5");
	same(format_range(&a, NULL, "h", LANG_EN), "at least" NB "7" NB "h");
	same(format_range(NULL, NULL, "h", LANG_EN), NULL);
	same(format_points(1, LANG_RU), "1" NB "балл");
	same(format_points(11, LANG_RU), "11" NB "баллов");
	same(format_points(63, LANG_RU), "63" NB "балла");
	same(format_points(12.5, LANG_RU), "12,5" NB "балла");
	same(format_points(100, LANG_RU), "100" NB "баллов");
	same(format_points(1, LANG_EN), "1" NB "point");
	same(format_fill("{1} of {2}: %s", "{2}", "9"), "{2} of 9: %s");
}

/* Texts lose what would break a line or turn it round. */
static void texts(void **state)
{
	(void)state;
	same(format_text("  a \t\r\n b  ", 100, 0), "a b");
	same(format_text("a\n\nb", 100, 1), "a\nb");
	same(format_text("это с врачом, 5 раз\nв день и всё", 100, 1),
		"это с" NB "врачом, 5 раз\nв" NB "день и" NB "всё");
	same(format_text("это с врачом", 100, 0), "это с врачом");
	same(format_text("a\u202eb\u200fc", 100, 0), "abc");
	same(format_text("абвгд", 3, 0), "абв…");
	same(format_text("абв", 3, 0), "абв");
	same(format_text("<b>&amp;", 100, 0), "<b>&amp;");
	same(format_text("", 3, 0), "");
}

static const char source[] =
	"{\"report_id\": \"0a-1\", \"date\": \"2026-05-05\", \"completed_utc\": \"2026-05-05T09:00:00Z\", "
	"\"completed_at\": \"x\", \"lang\": \"ru\","
	" \"type\": \"comprehensive\", \"answers\": {\"summary\": \"S\", \"b\": {\"title\": {\"ru\": \"Б\", \"en\": "
	"\"B\"}, \"score\": 40, \"order\": 2,"
	"  \"answers\": [{\"question\": \"q\", \"value\": 6, \"unit\": \"ч\", \"reference\": {\"low\": 7}}, "
	"{\"question\": \"p\", \"answer\": \"да\", \"points\": 2},"
	"  {\"question\": \"n\"}], \"recommendations\": [\"r1\", {\"title\": \"T\", \"text\": \"r2\"}]},"
	" \"a\": {\"title\": \"А\", \"score\": 81, \"order\": 1, \"answers\": [{\"question\": \"h\", \"value\": 9, "
	"\"reference\": {\"high\": 8}},"
	"  {\"question\": \"l\", \"answer\": [1.5, true], \"level\": \"poor\", \"reference\": \"ref\"}]}, \"plain\": "
	"5}}";

/* The parts of an assessment that a report takes. */
static void answers(void **state)
{
	cJSON *json = cJSON_Parse(source);
	struct report_data d;
	const struct area *a;
	const struct result *r;

	(void)state;
	assert_null(data_parse(json, &d));
	assert_string_equal(d.type, "Комплексное обследование");
	assert_string_equal(d.summary, "S");
	assert_true(d.has_score && d.score == 61); /* rounded mean of 40 and 81 */
	assert_int_equal(d.areas->len, 3);
	assert_int_equal(d.results, 5);
	a = g_ptr_array_index(d.areas, 0);
	assert_string_equal(a->title, "А");
	r = g_ptr_array_index(a->results, 0);
	assert_int_equal(r->level, LEVEL_HIGH);
	assert_string_equal(r->reference, "до" NB "8");
	r = g_ptr_array_index(a->results, 1);
	assert_string_equal(r->value, "1,5, да");
	assert_int_equal(r->level, LEVEL_POOR);
	a = g_ptr_array_index(d.areas, 1);
	assert_string_equal(a->title, "Б");
	r = g_ptr_array_index(a->results, 0);
	assert_string_equal(r->value, "6" NB "ч");
	assert_int_equal(r->level, LEVEL_LOW);
	assert_int_equal(((struct result *)g_ptr_array_index(a->results, 1))->level, LEVEL_FAIR);
	assert_int_equal(a->results->len, 2);
	assert_string_equal(a->unanswered->str, "n");
	assert_string_equal(((struct area *)g_ptr_array_index(d.areas, 2))->title, "Другие ответы");
	assert_int_equal(d.advice->len, 2);
	assert_string_equal(((struct advice *)g_ptr_array_index(d.advice, 1))->title, "T");
	data_clear(&d);
	cJSON_Delete(json);
}

/* Objects that no report can be made of. */
static void bad_sources(void **state)
{
	static const char *const rows[] = { "{}", "[]",
		"{\"report_id\": \"../x\", \"date\": \"2026-05-05\", \"completed_utc\": \"x\", \"completed_at\": "
		"\"x\"}",
		"{\"report_id\": \"a\", \"date\": \"yesterday\", \"completed_utc\": \"x\", \"completed_at\": \"x\"}" };

	(void)state;
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		cJSON *json = cJSON_Parse(rows[i]);
		struct report_data d;
		char *reason = data_parse(json, &d);

		assert_non_null(reason);
		g_free(reason);
		data_clear(&d);
		cJSON_Delete(json);
	}
}

/* A paragraph longer than a page goes on on the next one; a word longer than a line breaks. */
static void wrapping(void **state)
{
	struct fonts *f = fonts_new("PT Sans, DejaVu Sans");
	struct pages *p = pages_new(f);
	GString *s = g_string_new(NULL);
	PangoLayout *l;

	(void)state;
	for (int i = 0; i < 2000; i++)
		g_string_append(s, "слово ");
	pages_paragraph(p, s->str, 10, REGULAR, PAGE_LEFT, PAGE_INNER, 0);
	assert_in_range(pages_count(p), 2, 5);
	assert_true(p->y <= PAGE_BOTTOM);
	assert_false(pages_room(p, PAGE_BOTTOM - p->y));
	assert_true(pages_room(p, PAGE_BOTTOM - p->y + 1));
	g_string_assign(s, "");
	for (int i = 0; i < 300; i++)
		g_string_append(s, "ш");
	l = fonts_layout(f, s->str, 10, REGULAR, 100);
	assert_true(pango_layout_get_line_count(l) > 5 && fonts_width(l) <= 100.01);
	g_object_unref(l);
	l = fonts_cell(f, s->str, 10, REGULAR, 100, 2);
	assert_int_equal(pango_layout_get_line_count(l), 2);
	assert_true(pango_layout_is_ellipsized(l));
	g_object_unref(l);
	g_string_free(s, TRUE);
	pages_free(p);
	fonts_free(f);
}

/* The same data give the same bytes, with the language in the catalogue. */
static void bytes(void **state)
{
	cJSON *json = cJSON_Parse(source);
	struct fonts *f = fonts_new("PT Sans, DejaVu Sans"), *g = fonts_new("PT Sans, DejaVu Sans");
	struct report_data d;
	const char *why = NULL;
	unsigned pages;
	GByteArray *a, *b;

	(void)state;
	assert_null(data_parse(json, &d));
	a = document_make(&d, f, "Balansity", &pages, &why);
	assert_non_null(a);
	assert_int_equal(pages, 2);
	b = document_make(&d, g, "Balansity", &pages, &why);
	assert_int_equal(a->len, b->len);
	assert_memory_equal(a->data, b->data, a->len);
	assert_non_null(memmem(a->data, a->len, "/Lang (ru-RU)", 13));
	g_byte_array_unref(a);
	g_byte_array_unref(b);
	fonts_free(f);
	fonts_free(g);
	data_clear(&d);
	cJSON_Delete(json);
}

/* A character that no font has is shown as its code point, once named; joiners without a glyph vanish. */
static void code_points(void **state)
{
	struct fonts *f = fonts_new("DejaVu Sans");
	PangoLayout *l = fonts_layout(f, "a \U0010fffd \U0010fffd z", 10, REGULAR, 0);

	(void)state;
	assert_string_equal(pango_layout_get_text(l), "a [U+10FFFD] [U+10FFFD] z");
	assert_int_equal(pango_layout_get_unknown_glyphs_count(l), 0);
	g_object_unref(l);
	same(fonts_take_missing(f), "U+10FFFD");
	same(fonts_take_missing(f), NULL);
	l = fonts_layout(f, "Отчёт 5 °C", 10, REGULAR, 0);
	assert_string_equal(pango_layout_get_text(l), "Отчёт 5 °C");
	g_object_unref(l);
	same(fonts_take_missing(f), NULL);
	/* an accent that no font has is not left out */
	if (!fonts_can_show(f, "\U0001e8d0")) {
		l = fonts_layout(f, "a\U0001e8d0 z", 10, REGULAR, 0);
		assert_string_equal(pango_layout_get_text(l), "a[U+1E8D0] z");
		g_object_unref(l);
		same(fonts_take_missing(f), "U+1E8D0");
	}
	fonts_free(f);
}

/* What is written on the brand's colour, and in it, can be read. */
static void brand_colours(void **state)
{
	(void)state;
	colours_set("#ffee00");
	assert_true(COLOUR_BRAND == 0xffee00 && COLOUR_ON_BRAND == COLOUR_INK && COLOUR_BRAND_TEXT == 0x8c8200);
	assert_int_equal(COLOUR_PALE, 0xfffcdd);
	colours_set("blue");
	assert_int_equal(COLOUR_BRAND, 0xffee00);
	colours_set("#0f6e64");
	assert_true(COLOUR_BRAND == 0x0f6e64 && COLOUR_ON_BRAND == COLOUR_WHITE && COLOUR_BRAND_TEXT == 0x0f6e64);
}

/* Neither the first nor the last line of a paragraph stands alone on a page. */
static void no_orphans(void **state)
{
	GString *text = g_string_new(NULL);
	struct fonts *f = fonts_new("DejaVu Sans");

	(void)state;
	for (int i = 0; i < 40; i++)
		g_string_append_printf(text, "line%s", i < 39 ? "\n" : "");
	for (double y = PAGE_TOP; y < PAGE_BOTTOM; y += 3) {
		struct pages *p = pages_new(f);
		unsigned before;

		p->y = y;
		pages_paragraph(p, text->str, 10, REGULAR, PAGE_LEFT, PAGE_INNER, 0);
		before = pages_count(p);
		/* one line would end less than two line heights below the top of the page */
		assert_true(before == 1 || p->y > PAGE_TOP + 20);
		pages_free(p);
	}
	fonts_free(f);
	g_string_free(text, TRUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dates),
		cmocka_unit_test(code_points),
		cmocka_unit_test(brand_colours),
		cmocka_unit_test(no_orphans),
		cmocka_unit_test(numbers),
		cmocka_unit_test(units),
		cmocka_unit_test(texts),
		cmocka_unit_test(answers),
		cmocka_unit_test(bad_sources),
		cmocka_unit_test(wrapping),
		cmocka_unit_test(bytes),
	};

	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
