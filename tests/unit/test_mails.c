/* test_mails.c: our own mail templates: every one in both languages, with its sample data. */
#include "config.h"

#include "template/template.h"
#include "base/xalloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const names[] = { "appointment_confirmation", "appointment_reminder", "checkup_completed",
	"payment_completed", "payment_failed", "report_ready" };
#define NNAMES (sizeof names / sizeof names[0])

static const char *top; /* the source tree */

/* Loads the templates of the tree. */
static struct template_set *load_own(void)
{
	char *dir = xasprintf("%s/templates", top), *error;
	cJSON *brand = cJSON_Parse(
		"{\"brand_name\":\"Balansity\",\"brand_team\":\"Little Otter\",\"brand_colour\":\"#0f6e64\"}");
	struct template_set *t = template_load(
		&(struct template_source){ .dir = dir, .default_lang = "ru", .brand = brand }, &error);

	if (!t)
		fail_msg("%s", error);
	cJSON_Delete(brand);
	free(dir);
	return t;
}

/* Reads the sample data of a template. */
static cJSON *sample(const char *name, const char *lang)
{
	char *path = xasprintf("%s/templates/samples/%s%s.json", top, name, strcmp(lang, "ru") == 0 ? "" : ".en");
	char text[8192] = "";
	FILE *f = fopen(path, "r");

	if (!f || fread(text, 1, sizeof text - 1, f) == 0)
		fail_msg("%s: cannot be read", path);
	fclose(f);
	free(path);
	cJSON *vars = cJSON_Parse(text);
	assert_true(cJSON_IsObject(vars));
	return vars;
}

/* How many characters a UTF-8 string has. */
static size_t characters(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* Collects a set's contents. */
static void collect(void *arg, const char *name, const char *lang)
{
	sprintf((char *)arg + strlen(arg), "%s/%s ", name, lang);
}

/* What is true of each mail: no tag left, the link in both parts, a subject that fits, HTML that Gmail does not clip.
 */
static void check_mail(const struct template_result *r, const cJSON *vars, const char *lang)
{
	const cJSON *v;

	assert_string_equal(r->lang, lang);
	assert_in_range(characters(r->part[TEMPLATE_SUBJECT]), 10, 78);
	assert_true(strlen(r->part[TEMPLATE_HTML]) < 100 * 1000);
	for (int i = 0; i < TEMPLATE_NPARTS; i++) {
		assert_null(strstr(r->part[i], "{{"));
		assert_null(strstr(r->part[i], "г.."));
	}
	char *html_lang = xasprintf("<html lang=\"%s\">", lang);
	assert_non_null(strstr(r->part[TEMPLATE_HTML], html_lang));
	free(html_lang);
	assert_null(strchr(r->part[TEMPLATE_TEXT], '<'));
	assert_null(strstr(r->part[TEMPLATE_TEXT], "&nbsp;"));
	assert_null(strstr(r->part[TEMPLATE_TEXT], "\n\n\n"));
	cJSON_ArrayForEach(v, vars)
	{
		size_t len = strlen(v->string);
		if (len < 4 || strcmp(v->string + len - 4, "_url") != 0)
			continue;
		assert_non_null(strstr(r->part[TEMPLATE_TEXT], v->valuestring));
		char *href = xasprintf("href=\"%s\"", v->valuestring);
		assert_non_null(strstr(r->part[TEMPLATE_HTML], href));
		free(href);
	}
}

/* Every template renders in both languages with its sample. */
static void own_templates(void **state)
{
	static const char *const langs[] = { "ru", "en" };
	struct template_set *t = load_own();

	(void)state;
	for (size_t i = 0; i < NNAMES; i++) {
		for (size_t k = 0; k < 2; k++) {
			cJSON *vars = sample(names[i], langs[k]);
			struct template_result r;
			if (template_render(t, names[i], langs[k], vars, &r) != 0)
				fail_msg("%s", r.error);
			check_mail(&r, vars, langs[k]);
			assert_non_null(strstr(r.part[TEMPLATE_TEXT], k ? "Hello Anna,\n" : "Здравствуйте, Анна!\n"));
			template_result_free(&r);

			cJSON_DeleteItemFromObjectCaseSensitive(vars, "customer_name");
			if (template_render(t, names[i], langs[k], vars, &r) != 0)
				fail_msg("%s", r.error);
			assert_non_null(strstr(r.part[TEMPLATE_TEXT], k ? "Hello,\n" : "Здравствуйте!\n"));
			assert_non_null(strstr(r.part[TEMPLATE_HTML], k ? ">Hello,<" : ">Здравствуйте!<"));
			template_result_free(&r);
			cJSON_Delete(vars);
		}
	}
	template_free(t);
}

/* The set is complete, and nothing in it is without a test. */
static void own_set(void **state)
{
	char all[1000] = "", expected[1000] = "";
	struct template_set *t = load_own();

	(void)state;
	for (size_t i = 0; i < NNAMES; i++)
		sprintf(expected + strlen(expected), "%s/en %s/ru ", names[i], names[i]);
	template_each(t, collect, all);
	assert_string_equal(all, expected);
	template_free(t);
}

/* What a mail is made of when a message brings little: the link follows from app_url and the id, else it is left out.
 */
static void own_links_are_made(void **state)
{
	static const struct {
		const char *link, *id, *path;
	} links[NNAMES] = { { "appointment_url", "appointment_id", "appointments/7" },
		{ "appointment_url", "appointment_id", "appointments/7" },
		{ "results_url", "assessment_id", "assessments/7" },
		{ "receipt_url", "payment_id", "payments/7/receipt" },
		{ "retry_url", "payment_id", "payments/7/retry" }, { "report_url", "assessment_id", "assessments/7" } };
	struct template_set *t = load_own();

	(void)state;
	for (size_t i = 0; i < 2 * NNAMES; i++) {
		const char *lang = i % 2 ? "en" : "ru", *name = names[i / 2];
		char *url = xasprintf("https://x.test/%s", links[i / 2].path), *href = xasprintf("href=\"%s\"", url);
		cJSON *vars = cJSON_CreateObject();
		struct template_result r;

		cJSON_AddStringToObject(vars, "name", "Ирина");
		cJSON_AddStringToObject(vars, "appointment_date", "6.05.2026");
		cJSON_AddStringToObject(vars, "appointment_time", "14:30");
		cJSON_AddStringToObject(vars, links[i / 2].id, "7");
		if (template_render(t, name, lang, vars, &r) != 0)
			fail_msg("%s", r.error);
		check_mail(&r, vars, lang);
		assert_non_null(strstr(r.part[TEMPLATE_TEXT], "Ирина"));
		assert_null(strstr(r.part[TEMPLATE_HTML], "href="));
		assert_null(strstr(r.part[TEMPLATE_TEXT], ":\n\n"));
		assert_null(strstr(r.part[TEMPLATE_TEXT], "://"));
		template_result_free(&r);
		cJSON_AddStringToObject(vars, "app_url", "https://x.test/");
		if (template_render(t, name, lang, vars, &r) != 0)
			fail_msg("%s", r.error);
		assert_non_null(strstr(r.part[TEMPLATE_TEXT], url));
		assert_non_null(strstr(r.part[TEMPLATE_HTML], href));
		template_result_free(&r);
		cJSON_Delete(vars);
		free(href);
		free(url);
	}
	template_free(t);
}

/* Without a brand no name of another one is in a mail, and its sentences end well. */
static void own_mails_without_a_brand(void **state)
{
	char *dir = xasprintf("%s/templates", top), *error;
	struct template_set *t = template_load(&(struct template_source){ .dir = dir, .default_lang = "ru" }, &error);

	(void)state;
	free(dir);
	for (size_t i = 0; i < 2 * NNAMES; i++) {
		cJSON *vars = sample(names[i / 2], i % 2 ? "en" : "ru");
		struct template_result r;
		if (template_render(t, names[i / 2], i % 2 ? "en" : "ru", vars, &r) != 0)
			fail_msg("%s", r.error);
		for (int part = 0; part < TEMPLATE_NPARTS; part++) {
			assert_null(strstr(r.part[part], "Balansity"));
			assert_null(strstr(r.part[part], "Otter"));
			if (part != TEMPLATE_HTML)
				assert_null(strstr(r.part[part], " ."));
		}
		template_result_free(&r);
		cJSON_Delete(vars);
	}
	template_free(t);
}

/* The reminder says tomorrow, in an hour, or neither. */
static void own_reminder(void **state)
{
	static const struct {
		bool day, hour;
		const char *ru, *en;
	} cases[] = { { true, false, "Завтра в 14:30 ваша консультация", "Tomorrow at 14:30: your appointment" },
		{ false, true, "Через час, в 14:30, ваша консультация", "In an hour: your appointment at 14:30" },
		{ false, false, "Напоминаем о консультации: 6 мая 2026 г., 14:30",
			"Reminder of your appointment: 6 May 2026, 14:30" } };
	struct template_set *t = load_own();

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		const char *lang = i % 2 ? "en" : "ru";
		cJSON *vars = sample("appointment_reminder", lang);
		struct template_result r;
		cJSON_ReplaceItemInObjectCaseSensitive(vars, "is_day_before", cJSON_CreateBool(cases[i / 2].day));
		cJSON_ReplaceItemInObjectCaseSensitive(vars, "is_hour_before", cJSON_CreateBool(cases[i / 2].hour));
		assert_int_equal(template_render(t, "appointment_reminder", lang, vars, &r), 0);
		assert_string_equal(r.part[TEMPLATE_SUBJECT], i % 2 ? cases[i / 2].en : cases[i / 2].ru);
		check_mail(&r, vars, lang);
		template_result_free(&r);
		cJSON_Delete(vars);
	}
	template_free(t);
}

/* What a customer has typed stays text in the HTML. */
static void own_html_is_safe(void **state)
{
	struct template_set *t = load_own();
	cJSON *vars = sample("payment_completed", "ru");
	struct template_result r;

	(void)state;
	cJSON_ReplaceItemInObjectCaseSensitive(vars, "customer_name", cJSON_CreateString("<script>\"'&"));
	assert_int_equal(template_render(t, "payment_completed", "ru", vars, &r), 0);
	assert_null(strstr(r.part[TEMPLATE_HTML], "<script"));
	assert_non_null(strstr(r.part[TEMPLATE_HTML], "Здравствуйте, &lt;script&gt;&quot;&#39;&amp;!"));
	assert_non_null(strstr(r.part[TEMPLATE_TEXT], "Здравствуйте, <script>\"'&!"));
	template_result_free(&r);
	cJSON_Delete(vars);
	template_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(own_set), cmocka_unit_test(own_templates),
		cmocka_unit_test(own_links_are_made), cmocka_unit_test(own_mails_without_a_brand),
		cmocka_unit_test(own_reminder), cmocka_unit_test(own_html_is_safe) };

	top = getenv("TOP_SRCDIR");
	if (!top)
		top = ".";
	return cmocka_run_group_tests_name("mails", tests, NULL, NULL);
}
