/* test_mustache.c: the Mustache engine against the public specification, our own cases and its limits. */
#include "config.h"

#include "template/render.h"
#include "base/xalloc.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct CMUnitTest *tests;
static size_t ntests;
static cJSON *files[64]; /* what the cases point into */
static size_t nfiles;

/* ------------------------------------------------------------------ cases from JSON files */

/* The partials of one case, compiled when they are asked for. */
struct partials {
	const cJSON *sources;
	struct mustache *compiled[16];
	const char *names[16];
	size_t n;
};

/* Finds a partial of a case. */
static const struct mustache *partial_lookup(void *arg, const char *name)
{
	struct partials *p = arg;
	const cJSON *source = cJSON_GetObjectItemCaseSensitive(p->sources, name);
	char *error;

	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->names[i], name) == 0)
			return p->compiled[i];
	if (!source)
		return NULL;
	assert_true(p->n < 16);
	p->names[p->n] = source->string;
	p->compiled[p->n] = mustache_parse(source->valuestring, strlen(source->valuestring), name, &error);
	assert_non_null(p->compiled[p->n]);
	return p->compiled[p->n++];
}

/* Runs one case: {template, data, partials, expected | error, escape}. */
static void run_case(void **state)
{
	const cJSON *c = *state;
	const cJSON *template = cJSON_GetObjectItemCaseSensitive(c, "template");
	const cJSON *expected = cJSON_GetObjectItemCaseSensitive(c, "expected");
	const cJSON *wrong = cJSON_GetObjectItemCaseSensitive(c, "error");
	enum render_escape escape = cJSON_GetObjectItemCaseSensitive(c, "escape") ? RENDER_PLAIN : RENDER_HTML;
	struct partials partials = { .sources = cJSON_GetObjectItemCaseSensitive(c, "partials") };
	char *error = NULL, *out = NULL;
	size_t len = 0;

	assert_true(cJSON_IsString(template));
	assert_true(cJSON_IsString(expected) != cJSON_IsString(wrong));
	/* Twice: a template must come out of a rendering as it went in. */
	struct mustache *m = mustache_parse(template->valuestring, strlen(template->valuestring), "case", &error);
	for (int i = 0; m && i < 2; i++) {
		free(out);
		free(error);
		out = render_mustache(m, cJSON_GetObjectItemCaseSensitive(c, "data"), escape, partial_lookup, &partials,
			&len, &error);
	}
	if (expected) {
		assert_null(error);
		assert_non_null(out);
		assert_string_equal(out, expected->valuestring);
		assert_int_equal(len, strlen(out));
	} else {
		assert_null(out);
		assert_non_null(error);
		if (!strstr(error, wrong->valuestring))
			fail_msg("the error is \"%s\", without \"%s\"", error, wrong->valuestring);
	}
	for (size_t i = 0; i < partials.n; i++)
		mustache_free(partials.compiled[i]);
	mustache_free(m);
	free(error);
	free(out);
}

/* Adds a test; the array grows with the cases, so that each counts on its own. */
static void add_test(char *name, CMUnitTestFunction function, void *state)
{
	tests = xrealloc(tests, ntests + 1, sizeof *tests);
	tests[ntests++] = (struct CMUnitTest){ name, function, NULL, NULL, state };
}

/* Adds each case of a file. A file that cannot be read ends the program: its cases must not get lost. */
static void add_file(const char *path, const char *label)
{
	FILE *f = fopen(path, "r");
	char *text = xcalloc(1, 1024 * 1024);
	const cJSON *c;

	if (!f || fread(text, 1, 1024 * 1024 - 1, f) == 0 || !(files[nfiles] = cJSON_Parse(text))) {
		fprintf(stderr, "%s: cannot be read\n", path);
		exit(1);
	}
	fclose(f);
	free(text);
	cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(files[nfiles], "tests"))
	{
		const char *name = cJSON_GetObjectItemCaseSensitive(c, "name")->valuestring;
		add_test(xasprintf("%s: %s", label, name), run_case, (void *)c);
	}
	nfiles++;
}

/* Takes *.json. */
static int is_json(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 5 && strcmp(e->d_name + len - 5, ".json") == 0;
}

/* Adds the files of a directory; returns how many there are. */
static int add_dir(const char *dir, const char *prefix)
{
	struct dirent **list;
	int n = scandir(dir, &list, is_json, alphasort);

	for (int i = 0; i < n; i++) {
		char *path = xasprintf("%s/%s", dir, list[i]->d_name);
		char *label = xasprintf("%s %.*s", prefix, (int)strlen(list[i]->d_name) - 5, list[i]->d_name);
		add_file(path, label);
		free(label);
		free(path);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return n;
}

/* Says that the specification's data is not at hand. */
static void spec_absent(void **state)
{
	(void)state;
	print_message("the specification's cases are skipped: set MUSTACHE_SPEC_DIR to the folder of its *.json\n");
	skip();
}

/* ------------------------------------------------------------------ limits */

/* Compiles, renders and returns the result, or the error where there is none. */
static char *attempt(const char *template, const char *json)
{
	cJSON *data = cJSON_Parse(json);
	char *error = NULL, *out = NULL;
	struct mustache *m = mustache_parse(template, strlen(template), "t", &error);

	assert_non_null(data);
	if (m)
		out = render_mustache(m, data, RENDER_HTML, NULL, NULL, NULL, &error);
	mustache_free(m);
	cJSON_Delete(data);
	assert_true(!out != !error);
	return out ? out : error;
}

/* Checks what attempt() gives. */
static void expect(const char *template, const char *json, const char *result)
{
	char *got = attempt(template, json);

	assert_string_equal(got, result);
	free(got);
}

/* A string of n times s. */
static char *repeat(const char *s, size_t n)
{
	size_t len = strlen(s);
	char *all = xmalloc(len * n + 1);

	for (size_t i = 0; i < n; i++)
		memcpy(all + i * len, s, len);
	all[len * n] = '\0';
	return all;
}

/* 64 sections inside each other work, 65 do not. */
static void limit_sections(void **state)
{
	(void)state;
	for (size_t n = MUSTACHE_MAX_SECTIONS; n <= MUSTACHE_MAX_SECTIONS + 1; n++) {
		char *open = repeat("{{#a}}", n), *close = repeat("{{/a}}", n), *t = xasprintf("\n%sx%s", open, close);
		expect(t, "{\"a\":true}",
			n <= MUSTACHE_MAX_SECTIONS ? "\nx" : "t:2: more than 64 sections inside each other");
		free(open);
		free(close);
		free(t);
	}
}

/* Always the same partial, whatever it is called. */
static const struct mustache *lookup_itself(void *arg, const char *name)
{
	(void)name;
	return arg;
}

/* A partial that includes itself for ever ends with an error; one whose data ends does not. */
static void limit_partials(void **state)
{
	static const char endless[] = "x\n{{>p}}\n", deep[] = "{{#n}}{{v}}{{>p}}{{/n}}";
	char *error, *out;
	cJSON *data;

	(void)state;
	struct mustache *m = mustache_parse(endless, strlen(endless), "p", &error);
	assert_null(render_mustache(m, NULL, RENDER_HTML, lookup_itself, m, NULL, &error));
	assert_string_equal(error, "p:2: more than 16 partials inside each other");
	free(error);
	mustache_free(m);

	m = mustache_parse(deep, strlen(deep), "p", &error);
	for (size_t n = RENDER_MAX_PARTIALS; n <= RENDER_MAX_PARTIALS + 1; n++) {
		char *open = repeat("{\"v\":1,\"n\":", n), *close = repeat("}", n), *ones = repeat("1", n);
		char *json = xasprintf("{\"n\":%sfalse%s}", open, close);
		data = cJSON_Parse(json);
		out = render_mustache(m, data, RENDER_HTML, lookup_itself, m, NULL, &error);
		if (n <= RENDER_MAX_PARTIALS)
			assert_string_equal(out, ones);
		else
			assert_string_equal(error, "p:1: more than 16 partials inside each other");
		free(out);
		free(error);
		cJSON_Delete(data);
		free(open);
		free(close);
		free(ones);
		free(json);
	}
	mustache_free(m);
}

/* 1 MiB comes out, one byte more does not, whichever kind of node brings it. */
static void limit_output(void **state)
{
	char *most = repeat("x", RENDER_MAX_OUTPUT), *more = xasprintf("{{! }}%sy", most);
	char *json = xasprintf("{\"a\":\"%s\",\"amp\":\"&\"}", most), *got;

	(void)state;
	got = attempt(most, "{}");
	assert_int_equal(strlen(got), RENDER_MAX_OUTPUT);
	free(got);
	expect(more, "{}", "t:1: the result is longer than 1048576 bytes");
	expect("\n{{a}}", json, "t:2: the result is longer than 1048576 bytes");
	expect("\n{{{a}}}", json, "t:2: the result is longer than 1048576 bytes");
	expect("{{a}}\n{{amp}}", json, "t:1: the result is longer than 1048576 bytes");
	free(most);
	free(more);
	free(json);
}

/* Lists in lists that print nothing still come to an end. */
static void limit_steps(void **state)
{
	char *open = repeat("{{#a}}", 40), *close = repeat("{{/a}}", 40), *t = xasprintf("%s%s", open, close), *got;

	(void)state;
	got = attempt(t, "{\"a\":[1,2,3,4,5,6,7,8,9,10]}");
	assert_string_equal(got, "t:1: the template takes more than 1000000 steps");
	free(got);
	free(open);
	free(close);
	free(t);
}

/* Data may nest 32 levels and not 33. */
static void limit_data(void **state)
{
	(void)state;
	for (size_t n = RENDER_MAX_JSON; n <= RENDER_MAX_JSON + 1; n++) {
		char *open = repeat("[", n - 1), *close = repeat("]", n - 1),
		     *json = xasprintf("{\"a\":%s%s}", open, close);
		expect("x", json, n <= RENDER_MAX_JSON ? "x" : "t: the data nests deeper than 32 levels");
		free(open);
		free(close);
		free(json);
	}
}

/* A NUL is no part of a text; the error has its line. */
static void nul_in_template(void **state)
{
	char *error;

	(void)state;
	assert_null(mustache_parse("a\nb\0c", 5, "t", &error));
	assert_string_equal(error, "t:2: a NUL byte in the text");
	free(error);
}

/* A number that JSON allows and a double does not hold is not printed as inf. */
static void number_out_of_range(void **state)
{
	(void)state;
	expect("{{n}}", "{\"n\":1e999}", "t:1: the value of n is out of range");
	expect("{{n}}", "{\"n\":1e20}", "1e+20");
	expect("{{n}}", "{\"n\":9007199254740993}", "9007199254740992");
}

/* No data at all, and an empty template. */
static void nothing(void **state)
{
	char *error, *out;
	size_t len = 9;

	(void)state;
	struct mustache *m = mustache_parse("", 0, "t", &error);
	out = render_mustache(m, NULL, RENDER_PLAIN, NULL, NULL, &len, &error);
	assert_string_equal(out, "");
	assert_int_equal(len, 0);
	free(out);
	mustache_free(m);
	m = mustache_parse("[{{a}}{{.}}{{#a}}x{{/a}}{{>p}}]", 31, "t", &error);
	out = render_mustache(m, NULL, RENDER_PLAIN, NULL, NULL, &len, &error);
	assert_string_equal(out, "[]");
	free(out);
	mustache_free(m);
}

/* Collects what the walks bring. */
static int collect(char *into, const char *text, size_t len, unsigned line)
{
	sprintf(into + strlen(into), "%u:%.*s;", line, (int)len, text);
	return 0;
}

/* Collects a partial. */
static int collect_partial(void *arg, const char *name, unsigned line)
{
	return collect(arg, name, strlen(name), line);
}

/* Collects a comment. */
static int collect_comment(void *arg, const char *text, size_t len, unsigned line)
{
	return collect(arg, text, len, line);
}

/* The comments and partials of a template are found with their lines. */
static void walks(void **state)
{
	static const char t[] = "{{! required: a b }}\n{{> one }}\n{{#s}}{{>two}}{{!x}}{{/s}}";
	char *error, partials[100] = "", comments[100] = "";

	(void)state;
	struct mustache *m = mustache_parse(t, strlen(t), "t", &error);
	assert_int_equal(mustache_each_partial(m, collect_partial, partials), 0);
	assert_int_equal(mustache_each_comment(m, collect_comment, comments), 0);
	assert_string_equal(partials, "2:one;3:two;");
	assert_string_equal(comments, "1:required: a b;3:x;");
	mustache_free(m);
}

/* Every beginning of a busy template, and every one with a byte changed, compiles and renders or fails, and does
 * nothing else. */
static void mangled(void **state)
{
	static const char t[] = "{{! c }}\r\n{{=<% %>=}}\n <%# a %>\n<%{ b }%><%& b %><%^ c.d %> <%> p %>\n<%/ c.d "
				"%><%/ a %><%={{ }}=%>{{.}}\n";
	static const char bytes[] = "{}<%=/#^>.& \n\x80";
	cJSON *data = cJSON_Parse("{\"a\":[{\"b\":\"<\"},{}],\"b\":1}");

	(void)state;
	for (size_t len = 0; len < sizeof t; len++) {
		for (size_t k = 0; k < sizeof bytes; k++) {
			char *copy = xstrndup(t, len), *error = NULL, *out = NULL;
			if (k > 0 && len > 0)
				copy[(len * 7 + k) % len] = bytes[k - 1];
			char *exact = memcpy(
				xmalloc(len + 1), copy, len); /* no terminator, so that reading on is seen */
			struct mustache *m = mustache_parse(
				exact, len < strlen(copy) ? len : strlen(copy), "t", &error);
			if (m)
				out = render_mustache(m, data, RENDER_HTML, lookup_itself, m, NULL, &error);
			assert_true(!out != !error);
			mustache_free(m);
			free(exact);
			free(copy);
			free(error);
			free(out);
		}
	}
	cJSON_Delete(data);
}

int main(void)
{
	const char *top = getenv("TOP_SRCDIR"), *spec = getenv("MUSTACHE_SPEC_DIR");
	char *own = xasprintf("%s/tests/mustache", top ? top : ".");

	if (!spec || add_dir(spec, "spec") <= 0)
		add_test(xstrdup("spec"), spec_absent, NULL);
	if (add_dir(own, "own") <= 0) {
		fprintf(stderr, "%s: no cases there; set TOP_SRCDIR\n", own);
		return 1;
	}
	free(own);
	add_test(xstrdup("limit: sections"), limit_sections, NULL);
	add_test(xstrdup("limit: partials"), limit_partials, NULL);
	add_test(xstrdup("limit: output"), limit_output, NULL);
	add_test(xstrdup("limit: steps"), limit_steps, NULL);
	add_test(xstrdup("limit: nesting of the data"), limit_data, NULL);
	add_test(xstrdup("a NUL in the template"), nul_in_template, NULL);
	add_test(xstrdup("a number out of range"), number_out_of_range, NULL);
	add_test(xstrdup("nothing to render"), nothing, NULL);
	add_test(xstrdup("comments and partials are found"), walks, NULL);
	add_test(xstrdup("mangled templates"), mangled, NULL);

	int failed = _cmocka_run_group_tests("mustache", tests, ntests, NULL, NULL);
	for (size_t i = 0; i < ntests; i++)
		free((char *)tests[i].name);
	for (size_t i = 0; i < nfiles; i++)
		cJSON_Delete(files[i]);
	free(tests);
	return failed;
}
