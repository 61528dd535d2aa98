/* test_template.c: the set of mail templates: what it loads, finds and refuses, and every template of ours in both
 * languages. */
#include "config.h"

#include "template/template.h"
#include "base/xalloc.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *scratch; /* a directory of the test's own, removed after each test */

/* Writes DIR/NAME in the scratch directory and makes the folders on the way. */
static void put_file(const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", scratch, name);

	for (char *p = path + strlen(scratch) + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
		*p = '\0';
		mkdir(path, 0700);
	}
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	free(path);
}

/* Writes the three parts of a template; `text` serves for txt and html. */
static void put_template(const char *lang, const char *name, const char *subject, const char *text)
{
	static const char *const parts[] = { "subject", "txt", "html" };

	for (int i = 0; i < 3; i++) {
		char *path = xasprintf("%s/%s.%s.mustache", lang, name, parts[i]);
		put_file(path, i == 0 ? subject : text);
		free(path);
	}
}

/* Makes the scratch directory. */
static int setup(void **state)
{
	(void)state;
	scratch = xstrdup("/tmp/test_template.XXXXXX");
	return mkdtemp(scratch) ? 0 : -1;
}

/* Removes one entry. */
static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st, (void)type, (void)f;
	return remove(path);
}

/* Removes the scratch directory. */
static int teardown(void **state)
{
	(void)state;
	nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(scratch);
	return 0;
}

/* Loads the scratch directory, which must work. */
static struct template_set *load(const char *default_lang)
{
	char *error;
	struct template_set *t = template_load(
		&(struct template_source){ .dir = scratch, .default_lang = default_lang }, &error);

	if (!t)
		fail_msg("%s", error);
	assert_null(error);
	return t;
}

/* Loads the scratch directory, which must fail with `end` at the end of the error. */
static void load_fails(const char *end)
{
	char *error;
	size_t skip;

	assert_null(template_load(&(struct template_source){ .dir = scratch, .default_lang = "ru" }, &error));
	assert_non_null(error);
	assert_memory_equal(error, scratch, strlen(scratch));
	skip = strlen(scratch);
	if (error[skip] == '/')
		skip++;
	assert_string_equal(error + skip, end);
	free(error);
}

/* Renders; the text part, or the error, either of which the caller frees. */
static char *render(struct template_set *t, const char *name, const char *lang, const char *json)
{
	cJSON *vars = json ? cJSON_Parse(json) : NULL;
	struct template_result r;
	char *out;

	assert_true(!json || vars);
	if (template_render(t, name, lang, vars, &r) == 0) {
		assert_null(r.error);
		assert_non_null(r.lang);
		out = xasprintf(
			"%s|%s|%s|%s", r.lang, r.part[TEMPLATE_SUBJECT], r.part[TEMPLATE_TEXT], r.part[TEMPLATE_HTML]);
	} else {
		assert_non_null(r.error);
		for (int i = 0; i < TEMPLATE_NPARTS; i++)
			assert_null(r.part[i]);
		out = xstrdup(r.error);
	}
	template_result_free(&r);
	cJSON_Delete(vars);
	return out;
}

/* Checks what a rendering gives. */
static void expect(struct template_set *t, const char *name, const char *lang, const char *json, const char *result)
{
	char *got = render(t, name, lang, json);

	assert_string_equal(got, result);
	free(got);
}

/* Checks that there is no such template, and that the error says where it was looked for. */
static void expect_none(struct template_set *t, const char *name, const char *lang, const char *where)
{
	char *result = xasprintf("no template \"%s\"%s (looked in %s)", name, where, scratch);

	expect(t, name, lang, NULL, result);
	free(result);
}

/* Only the HTML part is escaped. */
static void escapes_by_part(void **state)
{
	(void)state;
	put_template("ru", "a", "{{x}}", "{{x}}");
	struct template_set *t = load("ru");
	expect(t, "a", "ru", "{\"x\":\"<'&'>\"}", "ru|<'&'>|<'&'>|&lt;&#39;&amp;&#39;&gt;");
	template_free(t);
}

/* ru-RU is ru when there is nothing closer, and what is unknown is the default. */
static void language_falls_back(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "ru");
	put_template("en", "a", "s", "en");
	put_template("pt-BR", "a", "s", "pt");
	put_template("ru", "only_ru", "s", "r");
	struct template_set *t = load("ru");
	expect(t, "a", "en", NULL, "en|s|en|en");
	expect(t, "a", "en-GB", NULL, "en|s|en|en");
	expect(t, "a", "en_GB", NULL, "en|s|en|en");
	expect(t, "a", "EN", NULL, "en|s|en|en");
	expect(t, "a", "zh-Hant-TW", NULL, "ru|s|ru|ru");
	expect(t, "a", "pt-br", NULL, "pt-BR|s|pt|pt");
	expect(t, "a", "pt", NULL, "ru|s|ru|ru");
	expect(t, "a", NULL, NULL, "ru|s|ru|ru");
	expect(t, "a", "", NULL, "ru|s|ru|ru");
	expect(t, "a", "../../etc", NULL, "ru|s|ru|ru");
	expect(t, "only_ru", "en", NULL, "ru|s|r|r");
	template_free(t);
	t = load("en-US");
	expect(t, "a", NULL, NULL, "en|s|en|en");
	expect_none(t, "only_ru", "en", " in language en");
	template_free(t);
	t = load(NULL);
	expect_none(t, "a", "de", " in language de");
	expect_none(t, "a", NULL, "");
	template_free(t);
}

/* A language of absurd length is none: trying its beginnings one by one would take for ever. */
static void language_too_long(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "ru");
	put_template("en", "a", "s", "en");
	struct template_set *t = load("ru");
	expect(t, "a", "en-12345678-12345678-12345678-12345", NULL, "en|s|en|en");
	expect(t, "a", "en-12345678-12345678-12345678-123456", NULL, "ru|s|ru|ru");
	template_free(t);
}

/* A name is looked up, never opened; one with a path in it is refused before that. */
static void names_are_checked(void **state)
{
	static const char *const bad[] = { "", "../a", "ru/a", "a.html", "A", "a b", "a-b", "/etc/passwd", "аня",
		"a\nb" };
	char *long_name = xasprintf("%065d", 0), *got;

	(void)state;
	put_template("ru", "a", "s", "x");
	put_file("a.subject.mustache", "outside");
	struct template_set *t = load("ru");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		got = render(t, bad[i], "ru", NULL);
		assert_non_null(strstr(got, "not a template's name (1 to 64 of a-z, 0-9 and _)"));
		assert_null(strchr(got, '\n'));
		free(got);
	}
	got = render(t, long_name, "ru", NULL);
	assert_non_null(strstr(got, "not a template's name"));
	free(got);
	expect_none(t, long_name + 1, "ru", " in language ru");
	expect_none(t, "b", "ru\x1b[31m", " in language ru?[31m");
	template_free(t);
	free(long_name);
}

/* Missing, null and empty are all "not given", in any part's comment, dotted names too; all of them are named. */
static void required_variables(void **state)
{
	static const char prefix[] = "template \"a\" (ru): required variables are missing or empty: ";
	static const struct {
		const char *json, *missing;
	} cases[] = { { "{\"x\":\"1\",\"y\":{\"z\":0},\"w\":false}", NULL }, { "{\"x\":\"1\",\"y\":{\"z\":0}}", "w" },
		{ "{\"x\":null,\"y\":{\"z\":0},\"w\":1}", "x" }, { "{\"x\":\"\",\"y\":{\"z\":0},\"w\":1}", "x" },
		{ "{\"x\":\"1\",\"y\":{},\"w\":1}", "y.z" }, { "{\"x\":\"1\",\"y\":\"z\",\"w\":1}", "y.z" },
		{ "{\"x\":\"1\",\"y.z\":\"1\",\"w\":1}", "y.z" }, { "{\"X\":\"1\",\"y\":{\"z\":0},\"w\":1}", "x" },
		{ "{}", "w, x, y.z" }, { NULL, "w, x, y.z" } };

	(void)state;
	put_template("ru", "a", "{{! required: w }}s", "t{{! required: x, y.z\n x}}{{! required nothing }}");
	struct template_set *t = load("ru");
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *result = cases[i].missing ? xasprintf("%s%s", prefix, cases[i].missing) : xstrdup("ru|s|t|t");
		expect(t, "a", "ru", cases[i].json, result);
		free(result);
	}
	expect(t, "a", "ru", "[1]", "template \"a\": the variables are not a JSON object");
	template_free(t);
}

/* The subject is one line whatever the variables hold. */
static void subject_is_one_line(void **state)
{
	static const char wrong[] =
		"template \"a\" (ru): the subject cannot be used: a line break or control character is in it";

	(void)state;
	put_template("ru", "a", " \n{{x}} \n\n", "t");
	struct template_set *t = load("ru");
	expect(t, "a", "ru", "{\"x\":\"Отчёт готов\"}", "ru|Отчёт готов|t|t");
	expect(t, "a", "ru", "{\"x\":\"Hi\\r\\nBcc: evil@example.test\"}", wrong);
	expect(t, "a", "ru", "{\"x\":\"a\\nb\"}", wrong);
	expect(t, "a", "ru", "{\"x\":\"a\\tb\"}", wrong);
	expect(t, "a", "ru", "{\"x\":\"a\\u007fb\"}", wrong);
	expect(t, "a", "ru", "{\"x\":\"a\\u0085b\"}", wrong);
	expect(t, "a", "ru", "{\"x\":\"a\\u2028b\"}", wrong);
	expect(t, "a", "ru", "{}", "template \"a\" (ru): the subject cannot be used: it is empty");
	template_free(t);
}

/* A link with another scheme is refused, and the error has the template, the file, the line and the variable. */
static void bad_link(void **state)
{
	char *expected;

	(void)state;
	put_template("ru", "a", "s", "\n<a href=\"{{b_url}}\">");
	struct template_set *t = load("ru");
	expected = xasprintf(
		"template \"a\" (ru): %s/ru/a.html.mustache:2: the value of b_url must start with https://, "
		"http:// or mailto:",
		scratch);
	expect(t, "a", "ru", "{\"b_url\":\"javascript:alert(1)\"}", expected);
	free(expected);
	template_free(t);
}

/* What a variable leads to is judged in every link, whatever the variable's name, as a browser reads it. */
static void links_of_any_name(void **state)
{
	static const char *const good[] = { "https://a.test/", "HTTP://a.test/", " https://a.test/",
		"mailto:a@example.test", "tel:+7495", "" };
	static const char *const bad[] = { "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)",
		"\\t\\njavascript:alert(1)", "\\u0001javascript:alert(1)", "java\\tscript:alert(1)",
		"java\\u000ascript:alert(1)", "vbscript:x", "data:text/html,x",
		"data:text/html;base64,eA==", "file:///x", "blob:https://a.test/", "about:blank", "ftp://a.test/",
		"livescript:x", "intent://x", "//a.test/", "a.test", "&#106;avascript:alert(1)" };
	static const char *const ways[] = { "<a href=\"{{x}}\">", "<a class='b' HREF = '{{x}}'>", "<a href={{x}}>",
		"<a href=\"{{{x}}}\">", "<img src=\"{{x}}\">", "<form action=\"{{x}}\">",
		"<!--[if mso]><a href=\"{{x}}\">" };
	char spaces[400] = "", *hidden;

	(void)state;
	for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
		put_template("ru", "a", "s", ways[w]);
		struct template_set *t = load("ru");
		for (size_t i = 0; i < sizeof good / sizeof good[0] + sizeof bad / sizeof bad[0]; i++) {
			bool fits = i < sizeof good / sizeof good[0];
			const char *value = fits ? good[i] : bad[i - sizeof good / sizeof good[0]];
			char *json = xasprintf("{\"x\":\"%s\"}", value), *result = render(t, "a", "ru", json);
			bool refused = strstr(result, "is in a link and must start with") != NULL;
			if (refused == fits)
				fail_msg("%s with \"%s\": %s", ways[w], value, result);
			free(result);
			free(json);
		}
		template_free(t);
	}
	put_template("ru", "a", "s", "<a href=\"{{{x}}}\">");
	struct template_set *t = load("ru");
	while (strlen(spaces) < 300)
		strcat(spaces, "&#9;");
	hidden = xasprintf("{\"x\":\"%sjavascript:alert(1)\"}", spaces);
	char *result = render(t, "a", "ru", hidden);
	assert_non_null(strstr(result, "is in a link and must start with"));
	free(result);
	free(hidden);
	template_free(t);
}

/* A language's own partial comes before the one of all; those of all may use those of each. */
static void partials(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "{{>x}}{{>y}}");
	put_template("en", "a", "s", "{{>x}}{{>y}}");
	put_file("partials/x.mustache", "all {{>word}} ");
	put_file("partials/y.mustache", "common");
	put_file("ru/partials/word.mustache", "слово");
	put_file("en/partials/word.mustache", "word");
	put_file("en/partials/y.mustache", "own");
	struct template_set *t = load("ru");
	expect(t, "a", "ru", NULL, "ru|s|all слово common|all слово common");
	expect(t, "a", "en", NULL, "en|s|all word own|all word own");
	template_free(t);
}

/* After loading, the files are not needed any more. */
static void files_are_read_once(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "{{>x}}");
	put_file("ru/partials/x.mustache", "old");
	struct template_set *t = load("ru");
	put_template("ru", "a", "new", "new");
	put_file("ru/partials/x.mustache", "new");
	expect(t, "a", "ru", NULL, "ru|s|old|old");
	template_free(t);
}

/* What is no template is left alone. */
static void other_files(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "x");
	put_file("ru/README", "{{#");
	put_file("ru/a.txt.mustache~", "{{#");
	put_file("ru/.a.txt.mustache", "{{#");
	put_file("samples/a.json", "{");
	put_file("samples/b.html.mustache", "{{#");
	struct template_set *t = load("ru");
	expect(t, "a", "ru", NULL, "ru|s|x|x");
	template_free(t);
}

/* Each way in which a directory can be broken ends the loading with the file and, where there is one, the line. */
static void broken_syntax(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "x");
	put_file("ru/a.html.mustache", "one\ntwo {{#x}}\n");
	load_fails("ru/a.html.mustache:2: the section \"x\" is never closed");
}

/* A broken partial that nobody uses is an error as well. */
static void broken_partial(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "x");
	put_file("ru/partials/p.mustache", "\n\n{{/x}}");
	load_fails("ru/partials/p.mustache:3: {{/x}} closes a section that was never opened");
}

/* A part is missing. */
static void broken_missing_part(void **state)
{
	(void)state;
	put_file("ru/a.subject.mustache", "s");
	put_file("ru/a.html.mustache", "h");
	load_fails("ru/a.txt.mustache: missing; a template needs subject, txt and html");
}

/* A partial is missing. */
static void broken_missing_partial(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "x\n{{> nowhere }}");
	load_fails("ru/a.txt.mustache:2: there is no partial \"nowhere\" (ru/partials/nowhere.mustache or "
		   "partials/nowhere.mustache)");
}

/* A file whose name is almost right is more likely a slip than something else. */
static void broken_file_name(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "x");
	put_file("ru/a.htm.mustache", "x");
	load_fails("ru/a.htm.mustache: a template is called NAME.subject.mustache, NAME.txt.mustache or "
		   "NAME.html.mustache, with a-z, 0-9 and _ in NAME");
}

/* So is a partial's. */
static void broken_partial_name(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "x");
	put_file("partials/A.mustache", "x");
	load_fails("partials/A.mustache: a partial is called NAME.mustache, with a-z, 0-9 and _ in NAME");
}

/* A required comment with nonsense in it. */
static void broken_required(void **state)
{
	(void)state;
	put_template("ru", "a", "s", "\n{{! required: a .b }}");
	load_fails("ru/a.txt.mustache:2: \".b\" is not the name of a variable");
}

/* A default with nonsense in it. */
static void broken_default(void **state)
{
	static const char *const bad[] = { "default: a", "default: = x", "default: a.b = x", "default: a =" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char *text = xasprintf("\n{{! %s }}", bad[i]);
		put_template("ru", "a", "s", text);
		load_fails("ru/a.txt.mustache:2: a default is written \"default: name = text with $variables\"");
		free(text);
	}
}

/* A variable that is not given is made of others, in their order, and only when all of those are given. */
static void default_variables(void **state)
{
	(void)state;
	put_file("ru/partials/hello.mustache", "{{! default: customer = $name }}{{customer}}");
	put_template("ru", "a", "s",
		"{{! default: link_url = $base_url/a/$id/x }}{{! default: link_url = $base_url/b/$other }}"
		"{{! default: base_url = https://$host }}{{> hello}}|{{link_url}}");
	struct template_set *t = load("ru");
	struct {
		const char *json, *result;
	} cases[] = {
		{ NULL, "|" },
		{ "{\"name\":\"Anna\"}", "Anna|" },
		{ "{\"name\":\"Anna\",\"customer\":\"Eva\",\"id\":\"7\"}", "Eva|" },
		{ "{\"base_url\":\"https://x.test/\",\"id\":\"7\"}", "|https://x.test/a/7/x" },
		{ "{\"base_url\":\"https://x.test/app\",\"id\":7}", "|https://x.test/app/a/7/x" },
		{ "{\"base_url\":\"https://x.test\",\"other\":\"a/b c?\"}", "|https://x.test/b/a%2Fb%20c%3F" },
		{ "{\"host\":\"x.test\",\"id\":\"7\"}", "|https://x.test/a/7/x" },
		{ "{\"base_url\":\"https://x.test\",\"id\":\"\",\"other\":null}", "|" },
		{ "{\"base_url\":\"https://x.test\",\"id\":{}}", "|" },
		{ "{\"base_url\":\"https://x.test\",\"id\":\"7\",\"link_url\":\"https://y.test\"}", "|https://y.test" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *result = xasprintf("ru|s|%s|%s", cases[i].result, cases[i].result);
		expect(t, "a", "ru", cases[i].json, result);
		free(result);
	}
	char *wrong = render(t, "a", "ru", "{\"base_url\":\"javascript:\",\"id\":\"7\"}");
	assert_non_null(strstr(wrong, "the value of link_url must start with https://"));
	free(wrong);
	template_free(t);
}

/* The user's directory lies over the one below, file by file: parts, partials, templates and languages of either. */
static void own_over_shipped(void **state)
{
	char *below = xasprintf("%s/shipped", scratch), *own = xasprintf("%s/own", scratch), *error;

	(void)state;
	put_template("shipped/ru", "a", "subject", "{{> p}}{{> q}}");
	put_template("shipped/ru", "b", "s", "shipped");
	put_file("shipped/partials/p.mustache", "P");
	put_file("shipped/partials/q.mustache", "Q");
	put_file("own/ru/a.html.mustache", "own {{> p}}{{> q}}");
	put_file("own/partials/p.mustache", "mine ");
	put_template("own/en", "c", "s", "{{> q}}");
	struct template_set *t = template_load(
		&(struct template_source){ .dir = own, .below = below, .default_lang = "ru" }, &error);
	assert_non_null(t);
	expect(t, "a", "ru", NULL, "ru|subject|mine Q|own mine Q");
	expect(t, "b", "ru", NULL, "ru|s|shipped|shipped");
	expect(t, "c", "en", NULL, "en|s|Q|Q");
	assert_true(template_exists(t, "c") && !template_exists(t, "d"));
	template_free(t);
	assert_null(template_load(&(struct template_source){ .dir = own, .default_lang = "ru" }, &error));
	free(error);
	t = template_load(&(struct template_source){ .dir = below, .below = below, .default_lang = "ru" }, &error);
	assert_non_null(t);
	template_free(t);
	free(own);
	free(below);
}

/* The brand is there for every template, with its shades; a message's own variables win. */
static void brand_is_a_variable(void **state)
{
	char *error;
	cJSON *brand = cJSON_Parse(
		"{\"brand_name\":\"Ярмарка\",\"brand_colour\":\"#ffee00\",\"brand_app_url\":\"https://a.test\"}");

	(void)state;
	put_template(
		"ru", "a", "s", "{{brand_initial}} {{brand_name}} {{brand_on_colour}} {{brand_colour}} {{app_url}}");
	struct template_set *t = template_load(
		&(struct template_source){ .dir = scratch, .default_lang = "ru", .brand = brand }, &error);
	assert_non_null(t);
	expect(t, "a", "ru", NULL,
		"ru|s|Я Ярмарка #14211f #ffee00 https://a.test|Я Ярмарка #14211f #ffee00 https://a.test");
	expect(t, "a", "ru", "{\"app_url\":\"https://b.test\",\"brand_name\":\"\"}",
		"ru|s|Я Ярмарка #14211f #ffee00 https://b.test|Я Ярмарка #14211f #ffee00 https://b.test");
	template_free(t);
	cJSON_Delete(brand);
}

/* Neither an empty directory nor a missing one passes for a set of templates. */
static void broken_empty(void **state)
{
	char *error, *path;

	(void)state;
	load_fails(": no templates in it (LANG/NAME.subject.mustache and so on)");
	path = xasprintf("%s/nowhere", scratch);
	assert_null(template_load(&(struct template_source){ .dir = path, .default_lang = "ru" }, &error));
	assert_non_null(strstr(error, "/nowhere: No such file or directory"));
	free(error);
	free(path);
}

/* Collects a set's contents. */
static void collect(void *arg, const char *name, const char *lang)
{
	sprintf((char *)arg + strlen(arg), "%s/%s ", name, lang);
}

/* The walk is sorted by name, then language. */
static void each_is_sorted(void **state)
{
	char all[200] = "";

	(void)state;
	put_template("ru", "b", "s", "x");
	put_template("ru", "a", "s", "x");
	put_template("en", "b", "s", "x");
	struct template_set *t = load("ru");
	template_each(t, collect, all);
	assert_string_equal(all, "a/ru b/en b/ru ");
	template_free(t);
}

#define SCRATCH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { SCRATCH(escapes_by_part), SCRATCH(language_falls_back),
		SCRATCH(language_too_long), SCRATCH(names_are_checked), SCRATCH(required_variables),
		SCRATCH(subject_is_one_line), SCRATCH(bad_link), SCRATCH(links_of_any_name), SCRATCH(partials),
		SCRATCH(files_are_read_once), SCRATCH(other_files), SCRATCH(broken_syntax), SCRATCH(broken_partial),
		SCRATCH(broken_missing_part), SCRATCH(broken_missing_partial), SCRATCH(broken_file_name),
		SCRATCH(broken_partial_name), SCRATCH(broken_required), SCRATCH(broken_default),
		SCRATCH(default_variables), SCRATCH(own_over_shipped), SCRATCH(brand_is_a_variable),
		SCRATCH(broken_empty), SCRATCH(each_is_sorted) };

	return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
