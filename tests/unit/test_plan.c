/* test_plan.c: the processes that the settings ask for, and which changes of the global settings give workers a new
 * start.
 */
#include "config.h"

#include "base/xalloc.h"
#include "files.h"
#include "supervisor/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A value of the row that is not its default. */
static char *another_value(const struct pgmqd_option *row, const struct settings *s)
{
	char *value = option_print(row, s), *other;

	switch (option_type(row)) {
	case PGMQD_BOOL:
		other = xstrdup(strcmp(value, "yes") == 0 ? "no" : "yes");
		break;
	case OPTION_CHOICE:
		other = xstrdup(strrchr(row->choices, '|') + 1);
		break;
	case PGMQD_DURATION:
		other = xstrdup("77s");
		break;
	case PGMQD_UINT:
		other = xstrdup("7");
		break;
	default:
		other = xasprintf("%s.other", value);
	}
	free(value);
	return other;
}

/* Each option counts, but for those that no worker reads. */
static void test_globals(void **state)
{
	static const char *const not_workers[] = { "sql_dir", "http_listen", "http_token", "http_people", "http_guests",
		"http_hosts", "payment_networks", "schedules", "core_dumps", NULL };
	struct settings a, b;

	(void)state;
	for (const struct pgmqd_option *row = settings_global_options; row->name; row++) {
		bool read = true;
		char *value;

		memset(&a, 0, sizeof(a));
		memset(&b, 0, sizeof(b));
		option_defaults(settings_global_options, &a);
		option_defaults(settings_global_options, &b);
		assert_true(plan_globals_equal(&a, &b));
		value = another_value(row, &a);
		assert_null(option_set(row, &b, value));
		for (size_t i = 0; not_workers[i]; i++)
			read = read && strcmp(row->name, not_workers[i]) != 0;
		if (plan_globals_equal(&a, &b) == read)
			fail_msg("%s = %s: workers are %s", row->name, value, read ? "not replaced" : "replaced");
		free(value);
		option_free(settings_global_options, &a);
		option_free(settings_global_options, &b);
	}
}

/* A queue has as many processes as it wants, and those of a group share one. */
static void test_units(void **state)
{
	static char name[] = "q", a[] = "a", b[] = "b", group[] = "g";
	struct queue_settings queues[] = { { .name = name, .plugin = "/none/p.so", .processes = 3 },
		{ .name = a, .plugin = "/none/p.so", .group = group, .processes = 1 },
		{ .name = b, .plugin = "/none/p.so", .group = group, .processes = 1 } };
	struct settings s;
	struct plan p;

	(void)state;
	memset(&s, 0, sizeof(s));
	option_defaults(settings_global_options, &s);
	s.queues = queues;
	s.nqueues = 3;
	plan_make(&p, &s);
	assert_int_equal(p.nunits, 4);
	assert_string_equal(p.units[0].name, "q/1");
	assert_string_equal(p.units[2].name, "q/3");
	assert_string_equal(p.units[3].name, "group:g");
	assert_int_equal(p.units[3].nqueues, 2);
	assert_false(plan_unit_equal(&p.units[0], &p.units[1]));
	assert_true(plan_unit_equal(&p.units[3], &p.units[3]));
	plan_free(&p);
	option_free(settings_global_options, &s);
}

/* The mark of the files behind the first unit. */
static uint64_t files_of(const struct settings *s)
{
	struct plan p;
	uint64_t files;

	plan_make(&p, s);
	files = p.units[0].files;
	plan_free(&p);
	return files;
}

/* A new version of a plugin, or of a template, is another unit; other files in the directory are not looked at. */
static void test_files(void **state)
{
	static char name[] = "q", dir[] = "/tmp/test_plan.XXXXXX", plugin[64], template[64], note[64];
	struct queue_settings queue = { .name = name, .plugin = plugin, .processes = 1 };
	struct settings s;
	struct plan before, after;
	uint64_t files;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(plugin, sizeof plugin, "%s/p.so", dir);
	snprintf(template, sizeof template, "%s/t.mustache", dir);
	snprintf(note, sizeof note, "%s/t.txt", dir);
	write_file(plugin, "one", 3, 0600);
	memset(&s, 0, sizeof(s));
	option_defaults(settings_global_options, &s);
	free((char *)(uintptr_t)s.template_dir);
	s.template_dir = xstrdup(dir);
	s.queues = &queue;
	s.nqueues = 1;
	files = files_of(&s);
	write_file(note, "a note", 6, 0600);
	assert_true(files_of(&s) == files);
	write_file(template, "hello", 5, 0600);
	assert_false(files_of(&s) == files);
	files = files_of(&s);
	write_file(template, "hello you", 9, 0600);
	assert_false(files_of(&s) == files);
	plan_make(&before, &s);
	write_file(plugin, "another", 7, 0600);
	plan_make(&after, &s);
	assert_false(plan_unit_equal(&before.units[0], &after.units[0]));
	plan_free(&before);
	plan_free(&after);
	unlink(plugin);
	unlink(template);
	unlink(note);
	rmdir(dir);
	option_free(settings_global_options, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_globals), cmocka_unit_test(test_units),
		cmocka_unit_test(test_files) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
