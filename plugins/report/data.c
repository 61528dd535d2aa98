/* data.c: the contents of a report, taken from an assessment and its answers.
 *
 * Answers are an object of areas, {"sleep": {"title", "score", "order", "answers": [...], "recommendations": [...]},
 * "summary": ...}, or a list of answers, or an object of plain values. An answer is {"question", "answer" or "value",
 * "unit", "reference": text or
 * {"low", "high"}, "level" or "points" of 4}. Any text may be an object by language, {"ru": ..., "en": ...}. What is
 * missing is left out.
 */
#include "config.h"

#include "data.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#define RESULTS_MAX 1000
#define ADVICE_MAX 50
#define AREAS_MAX 100
#define CELL_MAX 400 /* characters */
#define PARAGRAPH_MAX 4000

/* Frees a result. */
static void result_free(void *p)
{
	struct result *r = p;

	g_free(r->name);
	g_free(r->value);
	g_free(r->reference);
	g_free(r);
}

/* Frees an area. */
static void area_free(void *p)
{
	struct area *a = p;

	g_free(a->title);
	g_ptr_array_unref(a->results);
	g_string_free(a->unanswered, TRUE);
	g_free(a);
}

/* Frees an advice. */
static void advice_free(void *p)
{
	struct advice *a = p;

	g_free(a->title);
	g_free(a->text);
	g_free(a);
}

enum level data_level(double score)
{
	return score >= 75 ? LEVEL_GOOD : score >= 55 ? LEVEL_FAIR : LEVEL_POOR;
}

/* A member, or NULL when there is none or it is null. */
static const cJSON *member(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

/* A text, number, yes or no, or list of these, in the report's language; never NULL. */
static char *text_of(const cJSON *item, enum lang lang, size_t max, int lines)
{
	if (cJSON_IsObject(item)) {
		const cJSON *mine = member(item, lang == LANG_RU ? "ru" : "en");

		item = mine ? mine : member(item, lang == LANG_RU ? "en" : "ru");
	}
	if (item && cJSON_IsString(item))
		return format_text(item->valuestring, max, lines);
	if (item && cJSON_IsNumber(item))
		return format_number(item->valuedouble, lang);
	if (cJSON_IsBool(item))
		return g_strdup(
			cJSON_IsTrue(item) ? (lang == LANG_RU ? "да" : "yes") : (lang == LANG_RU ? "нет" : "no"));
	if (cJSON_IsArray(item)) {
		GString *s = g_string_new(NULL);
		const cJSON *part;

		cJSON_ArrayForEach(part, item)
		{
			char *text = cJSON_IsArray(part) ? g_strdup("") : text_of(part, lang, max, lines);

			if (text[0] != '\0')
				g_string_append_printf(s, "%s%s", s->len ? ", " : "", text);
			g_free(text);
		}
		return g_string_free(s, FALSE);
	}
	return g_strdup("");
}

/* A finite number between `low` and `high`; false when it is something else. */
static bool number_of(const cJSON *item, double low, double high, double *out)
{
	if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble) || item->valuedouble < low ||
		item->valuedouble > high)
		return false;
	*out = item->valuedouble;
	return true;
}

/* How good an answer is: as it says itself, else by its bounds, else by its points. */
static enum level level_of(const cJSON *item, const double *value, const double *low, const double *high)
{
	static const char *const names[] = { [LEVEL_GOOD] = "good",
		[LEVEL_FAIR] = "fair",
		[LEVEL_POOR] = "poor",
		[LEVEL_LOW] = "low",
		[LEVEL_HIGH] = "high" };
	const cJSON *level = member(item, "level");
	double points;

	for (int i = LEVEL_GOOD; cJSON_IsString(level) && i < LEVELS; i++)
		if (strcmp(level->valuestring, names[i]) == 0)
			return (enum level)i;
	if (value && low && *value < *low)
		return LEVEL_LOW;
	if (value && high && *value > *high)
		return LEVEL_HIGH;
	if (value && (low || high))
		return LEVEL_GOOD;
	if (number_of(member(item, "points"), -1e9, 1e9, &points))
		return points >= 3 ? LEVEL_GOOD : points >= 2 ? LEVEL_FAIR : LEVEL_POOR;
	return LEVEL_NONE;
}

/* Adds one answer to an area. `name`: of a plain value; NULL: the answer is an object that has its own. */
static void add_result(struct report_data *d, struct area *a, const char *name, const cJSON *item)
{
	const cJSON *value = name ? item : member(item, "value"), *reference = name ? NULL : member(item, "reference");
	double v, low, high;
	bool has_low, has_high;
	struct result *r;
	char *unit, *text;

	if (d->results == RESULTS_MAX) {
		d->left_out++;
		return;
	}
	d->results++;
	r = g_new0(struct result, 1);
	if (!value)
		value = member(item, "answer");
	unit = name ? g_strdup("") : text_of(member(item, "unit"), d->lang, 40, 0);
	text = text_of(value, d->lang, CELL_MAX, 0);
	r->name = name ? format_text(name, CELL_MAX, 0)
	               : text_of(member(item, "question") ? member(item, "question") : member(item, "title"), d->lang,
				 CELL_MAX, 0);
	if (text[0] == '\0') { /* one line for all of them, below the table */
		if (r->name[0] != '\0')
			g_string_append_printf(a->unanswered, "%s%s", a->unanswered->len ? ", " : "", r->name);
		d->results--;
		g_free(unit);
		g_free(text);
		r->value = r->reference = NULL;
		result_free(r);
		return;
	}
	r->value = format_unit(text, unit, d->lang);
	has_low = number_of(member(reference, "low"), -1e15, 1e15, &low);
	has_high = number_of(member(reference, "high"), -1e15, 1e15, &high);
	if (has_low || has_high)
		r->reference = format_range(has_low ? &low : NULL, has_high ? &high : NULL, unit, d->lang);
	else
		r->reference = text_of(reference, d->lang, CELL_MAX, 0);
	if (!name)
		r->level = level_of(item, number_of(value, -1e15, 1e15, &v) ? &v : NULL, has_low ? &low : NULL,
			has_high ? &high : NULL);
	g_ptr_array_add(a->results, r);
	g_free(unit);
	g_free(text);
}

/* A new area at the end. */
static struct area *add_area(struct report_data *d, char *title, double order)
{
	struct area *a = g_new0(struct area, 1);

	a->title = title;
	a->order = order;
	a->results = g_ptr_array_new_with_free_func(result_free);
	a->unanswered = g_string_new(NULL);
	g_ptr_array_add(d->areas, a);
	return a;
}

/* A list, or NULL when it is something else. */
static const cJSON *array_of(const cJSON *item)
{
	return cJSON_IsArray(item) ? item : NULL;
}

/* Adds a list of recommendations, each a text or {"title", "text"}. */
static void add_advice(struct report_data *d, const cJSON *list, const char *title, double order)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, array_of(list))
	{
		struct advice *a;
		const cJSON *own = cJSON_IsObject(item) ? member(item, "text") : NULL;

		if (d->advice->len == ADVICE_MAX)
			return;
		a = g_new0(struct advice, 1);
		a->title = own && member(item, "title") ? text_of(member(item, "title"), d->lang, CELL_MAX, 0)
		                                        : g_strdup(title);
		a->text = text_of(own ? own : item, d->lang, PARAGRAPH_MAX, 1);
		a->order = order;
		if (a->text[0] != '\0')
			g_ptr_array_add(d->advice, a);
		else
			advice_free(a);
	}
}

/* Adds the answers under one key. */
static void add_key(struct report_data *d, const cJSON *item, struct area **other, double order)
{
	const cJSON *answers = member(item, "answers"), *row;
	struct area *a;
	char *title;

	if (d->areas->len >= AREAS_MAX) {
		d->left_out++;
		return;
	}
	if (!cJSON_IsObject(item) || (!answers && !member(item, "score") && !member(item, "recommendations"))) {
		if (!*other)
			*other = add_area(d, g_strdup(words_of(d->lang)->other_area), 1e9);
		if (cJSON_IsObject(item) && (member(item, "value") || member(item, "answer")))
			add_result(d, *other, NULL, item);
		else
			add_result(d, *other, item->string ? item->string : "", item);
		return;
	}
	title = text_of(member(item, "title"), d->lang, 120, 0);
	if (title[0] == '\0') {
		g_free(title);
		title = format_text(item->string ? item->string : "", 120, 0);
	}
	number_of(member(item, "order"), -1e6, 1e6, &order);
	a = add_area(d, title, order);
	a->has_score = number_of(member(item, "score"), 0, 100, &a->score);
	cJSON_ArrayForEach(row, array_of(answers))
	{
		if (cJSON_IsObject(row))
			add_result(d, a, NULL, row);
	}
	/* advice for the lowest score comes first */
	add_advice(d, member(item, "recommendations"), a->title, a->has_score ? a->score : 101);
}

/* Orders areas as they ask for it. */
static gint by_area(gconstpointer x, gconstpointer y)
{
	double a = (*(struct area *const *)x)->order, b = (*(struct area *const *)y)->order;

	return (a > b) - (a < b);
}

/* Orders recommendations by need. */
static gint by_advice(gconstpointer x, gconstpointer y)
{
	double a = (*(struct advice *const *)x)->order, b = (*(struct advice *const *)y)->order;

	return (a > b) - (a < b);
}

/* A stable sort of pointers; g_ptr_array_sort() makes no promise about equal ones. */
static void sort(GPtrArray *list, GCompareFunc by)
{
	for (guint i = 1; i < list->len; i++)
		for (guint k = i; k > 0 && by(&list->pdata[k - 1], &list->pdata[k]) > 0; k--) {
			void *t = list->pdata[k];

			list->pdata[k] = list->pdata[k - 1];
			list->pdata[k - 1] = t;
		}
}

/* Reads the answers, in each of their shapes. */
static void take_answers(struct report_data *d, const cJSON *answers)
{
	struct area *other = NULL;
	const cJSON *item;
	double order = 1000;

	cJSON_ArrayForEach(item, answers)
	{
		if (item->string && strcmp(item->string, "summary") == 0 && !member(item, "answers") && !d->summary)
			d->summary = text_of(item, d->lang, PARAGRAPH_MAX, 1);
		else if (item->string && strcmp(item->string, "recommendations") == 0 && cJSON_IsArray(item))
			add_advice(d, item, "", -1);
		else if (!cJSON_IsNull(item))
			add_key(d, item, &other, order++);
	}
	sort(d->areas, by_area);
	sort(d->advice, by_advice);
	if (!d->summary)
		d->summary = g_strdup("");
}

/* The mean of the areas' scores, where the assessment has none of its own. */
static void take_score(struct report_data *d, const cJSON *score)
{
	double sum = 0;
	unsigned n = 0;

	d->has_score = number_of(score, 0, 100, &d->score);
	for (guint i = 0; !d->has_score && i < d->areas->len; i++) {
		const struct area *a = g_ptr_array_index(d->areas, i);

		sum += a->has_score ? a->score : 0;
		n += a->has_score;
	}
	if (n > 0) {
		d->score = round(sum / n);
		d->has_score = true;
	}
}

char *data_parse(const cJSON *source, struct report_data *d)
{
	const cJSON *id = member(source, "report_id"), *date = member(source, "date"),
		    *utc = member(source, "completed_utc"), *lang = member(source, "lang"),
		    *at = member(source, "completed_at"), *type = member(source, "type");

	memset(d, 0, sizeof(*d));
	d->areas = g_ptr_array_new_with_free_func(area_free);
	d->advice = g_ptr_array_new_with_free_func(advice_free);
	if (!id || !cJSON_IsString(id) || !cJSON_IsString(date) || !cJSON_IsString(utc) || !cJSON_IsString(at))
		return g_strdup("pgmqd.report_source() gave no report_id, date, completed_at or completed_utc");
	for (const char *p = id->valuestring; *p != '\0'; p++)
		if (!g_ascii_isxdigit(*p) && *p != '-')
			return g_strdup("pgmqd.report_source() gave a report_id that is no uuid");
	d->lang = words_lang(cJSON_IsString(lang) ? lang->valuestring : NULL);
	d->id = g_strdup(id->valuestring);
	d->completed_utc = g_strdup(utc->valuestring);
	d->completed_at = g_strdup(at->valuestring);
	if ((d->date = format_date(date->valuestring, d->lang)) == NULL)
		return g_strdup("pgmqd.report_source() gave a date that is none");
	d->name = text_of(member(source, "name"), d->lang, 200, 0);
	if (type && cJSON_IsString(type) && strcmp(type->valuestring, "comprehensive") == 0)
		d->type = g_strdup(words_of(d->lang)->comprehensive);
	else
		d->type = text_of(type, d->lang, 100, 0);
	take_answers(d, member(source, "answers"));
	take_score(d, member(source, "score"));
	return NULL;
}

void data_clear(struct report_data *d)
{
	g_free(d->id);
	g_free(d->name);
	g_free(d->type);
	g_free(d->date);
	g_free(d->completed_utc);
	g_free(d->completed_at);
	g_free(d->summary);
	if (d->areas)
		g_ptr_array_unref(d->areas);
	if (d->advice)
		g_ptr_array_unref(d->advice);
	memset(d, 0, sizeof(*d));
}
