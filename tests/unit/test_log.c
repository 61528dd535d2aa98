/* test_log.c: both formats of a log line: escaping, cutting, fields, context, the journal's prefix; and redacted
 * addresses. */
#include "config.h"

#include "base/log.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static FILE *capture; /* stands in for stderr while a line is written */
static int saved_stderr;
static char got[20000];

/* Points stderr at an empty file. */
static void capture_start(void)
{
	fflush(stderr);
	capture = tmpfile();
	assert_non_null(capture);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fileno(capture), STDERR_FILENO);
}

/* Puts stderr back and returns what was written. */
static const char *capture_end(void)
{
	size_t n;

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	rewind(capture);
	n = fread(got, 1, sizeof(got) - 1, capture);
	got[n] = '\0';
	fclose(capture);
	return got;
}

/* The line without its time, whose form is checked here. */
static const char *after_time(const char *line)
{
	static const char form[] = "0000-00-00T00:00:00.000000Z ";

	for (size_t i = 0; form[i]; i++)
		if (form[i] == '0' ? line[i] < '0' || line[i] > '9' : line[i] != form[i])
			fail_msg("\"%s\" does not begin with a time", line);
	return line + sizeof(form) - 1;
}

/* The member of an object as text; fails when it is no string. */
static const char *member(const cJSON *o, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);

	assert_true(cJSON_IsString(item));
	return item->valuestring;
}

static const struct log_context full = { .process = "worker", .queue = "email_queue", .plugin = "email", .msg_id = 42 };

static void test_text(void **state)
{
	struct log_field fields[] = { LOG_STR("outcome", "done"), LOG_MS("wait_ms", 0.81249), LOG_INT("attempt", -2),
		LOG_STR("none", NULL), LOG_STR("reason", "a \"b\" c"), LOG_STR("empty", ""), LOG_END };
	struct log_context former;

	(void)state;
	log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	former = log_context_set(full);
	assert_null(former.process);
	capture_start();
	log_write(LOG_LEVEL_INFO, fields, "settled %d", 1);
	capture_end();
	assert_string_equal(after_time(got), "info  worker email_queue/email #42 settled 1 outcome=done wait_ms=0.812 "
					     "attempt=-2 reason=\"a \\\"b\\\" c\" empty=\"\"\n");
	former = log_context_set((struct log_context){ .process = "supervisor" });
	assert_string_equal(former.queue, "email_queue");
	capture_start();
	log_error("no %s", "go");
	capture_end();
	assert_string_equal(after_time(got), "error supervisor no go\n");
	log_context_set((struct log_context){ 0 });
}

static void test_text_escapes(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	capture_start();
	log_warn("%s", "a\nb\r\x1b[31m\x7f\t \xD0\x96 \xF0\x9F\x90\x98 \xC2\x9B \xFF\xC0\xAF \xE2\x82");
	capture_end();
	assert_string_equal(after_time(got), "warn  a\\x0Ab\\x0D\\x1B[31m\\x7F\\x09 \xD0\x96 \xF0\x9F\x90\x98 \\u009B "
					     "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD \xEF\xBF\xBD\xEF\xBF\xBD\n");
}

static void test_surrogates_are_invalid(void **state)
{
	(void)state;
	log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
	capture_start();
	log_warn("%s", "\xED\xA0\x80|\xF4\x90\x80\x80|\xE0\x80\x80|\xF0\x80\x80\x80");
	capture_end();
	assert_null(strstr(got, "\xED"));
	assert_null(strstr(got, "\xF4"));
	assert_null(strstr(got, "\xE0"));
	assert_null(strstr(got, "\xF0"));
}

static void test_json(void **state)
{
	struct log_field fields[] = { LOG_STR("reason", "\"\\\n\x01\xFF\xC2\x9B\xD0\x96"), LOG_MS("run_ms", 12.3456),
		LOG_MS("bad_ms", 0.0 / 0.0), LOG_INT("n", INT64_MIN), LOG_STR("none", NULL), LOG_END };
	static const char *const order[] = { "ts", "level", "process", "queue", "plugin", "msg_id", "text", "reason",
		"run_ms", "bad_ms", "n" };
	const cJSON *item;
	size_t i = 0;
	cJSON *o;

	(void)state;
	log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	log_context_set(full);
	capture_start();
	log_write(LOG_LEVEL_WARN, fields, "line\nbreak");
	capture_end();
	assert_int_equal(strcspn(got, "\n"), strlen(got) - 1); /* one line */
	o = cJSON_Parse(got);
	assert_non_null(o);
	cJSON_ArrayForEach(item, o)
	{
		assert_true(i < sizeof(order) / sizeof(order[0]));
		assert_string_equal(item->string, order[i++]);
	}
	assert_int_equal(i, sizeof(order) / sizeof(order[0]));
	assert_string_equal(member(o, "level"), "warn");
	assert_string_equal(member(o, "queue"), "email_queue");
	assert_string_equal(member(o, "text"), "line\nbreak");
	assert_string_equal(member(o, "reason"), "\"\\\n\x01\xEF\xBF\xBD\xC2\x9B\xD0\x96");
	assert_non_null(strstr(got, "\\u000A"));
	assert_non_null(strstr(got, "\"run_ms\":12.346,\"bad_ms\":null,\"n\":-9223372036854775808}"));
	assert_non_null(strstr(got, "\"msg_id\":42,"));
	cJSON_Delete(o);
	log_context_set((struct log_context){ 0 });
}

/* Writes a line that is far too long in a format; it must be cut to 8 KiB, between characters, with the fields still
 * there. */
static void check_cut(enum log_format format, const char *unit)
{
	char *big = malloc(40001);
	struct log_field fields[] = { LOG_STR("reason", big), LOG_INT("attempt", 3), LOG_END };
	size_t len = strlen(unit), n;

	assert_non_null(big);
	for (n = 0; n + len <= 40000; n += len)
		memcpy(big + n, unit, len);
	big[n] = '\0';
	log_setup(LOG_LEVEL_INFO, format);
	log_context_set(full);
	capture_start();
	log_write(LOG_LEVEL_INFO, fields, "x%s", big);
	capture_end();
	log_context_set((struct log_context){ 0 });
	n = strlen(got);
	assert_in_range(n, 4000, 8192);
	assert_int_equal(strcspn(got, "\n"), n - 1);
	assert_non_null(strstr(got, "\xE2\x80\xA6"));
	assert_null(strstr(got, "\xEF\xBF\xBD"));
	assert_non_null(strstr(got, format == LOG_FORMAT_JSON ? "\"attempt\":3" : "attempt=3"));
	if (format == LOG_FORMAT_JSON) {
		cJSON *o = cJSON_Parse(got);

		assert_non_null(o);
		cJSON_Delete(o);
	}
	free(big);
}

static void test_cut(void **state)
{
	(void)state;
	check_cut(LOG_FORMAT_TEXT, "z");
	check_cut(LOG_FORMAT_JSON, "z");
	check_cut(LOG_FORMAT_TEXT, "\xD0\x96");
	check_cut(LOG_FORMAT_JSON, "\xF0\x9F\x90\x98");
	check_cut(LOG_FORMAT_JSON, "\n\"");
}

static void test_many_fields(void **state)
{
	struct log_field fields[41];
	char value[900];
	cJSON *o;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (size_t i = 0; i < 40; i++)
		fields[i] = LOG_STR("key", value);
	fields[40] = LOG_END;
	for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
		log_setup(LOG_LEVEL_INFO, (enum log_format)format);
		capture_start();
		log_write(LOG_LEVEL_INFO, fields, "much");
		capture_end();
		assert_in_range(strlen(got), 7000, 8192);
		assert_int_equal(got[strlen(got) - 1], '\n');
	}
	o = cJSON_Parse(got);
	assert_non_null(o);
	cJSON_Delete(o);
}

static void test_threshold_and_errno(void **state)
{
	int saved;

	(void)state;
	log_setup(LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
	capture_start();
	log_info("no");
	log_debug("no");
	log_write(LOG_LEVEL_DEBUG, NULL, "no");
	errno = ENOENT;
	log_warn("%m");
	assert_int_equal(errno, ENOENT);
	capture_end();
	assert_non_null(strstr(got, strerror(ENOENT)));
	assert_null(strstr(got, "no\n"));
	saved = dup(STDERR_FILENO);
	close(STDERR_FILENO); /* a line that cannot be written is nobody's error */
	errno = ENOENT;
	log_warn("gone");
	assert_int_equal(errno, ENOENT);
	dup2(saved, STDERR_FILENO);
	close(saved);
	log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
	capture_start();
	log_debug("yes");
	capture_end();
	assert_string_equal(after_time(got), "debug yes\n");
}

static void test_journal_prefix(void **state)
{
	char stream[100];
	struct stat st;

	(void)state;
	capture_start();
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
	log_error("e");
	log_debug("d");
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
	log_error("e");
	unsetenv("JOURNAL_STREAM");
	log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
	capture_end();
	assert_memory_equal(got, "<3>2", 4);
	assert_non_null(strstr(got, "\n<7>2"));
	assert_null(strstr(strstr(got, "\n<7>") + 4, "<"));
}

static void test_levels(void **state)
{
	(void)state;
	assert_int_equal(log_level_parse("error"), LOG_LEVEL_ERROR);
	assert_int_equal(log_level_parse("DEBUG"), LOG_LEVEL_DEBUG);
	assert_int_equal(log_level_parse("loud"), -1);
	assert_int_equal(log_level_parse(NULL), -1);
}

static void test_redact(void **state)
{
	static const char *const cases[][2] = {
		{ "ivan@example.test", "i***@e***.test" },
		{ "ivan@mail.example.test", "i***@m***.test" },
		{ "\xD0\xB8\xD0\xB2\xD0\xB0\xD0\xBD@\xD0\xBF\xD0\xBE\xD1\x87\xD1\x82\xD0\xB0.test",
			"\xD0\xB8***@\xD0\xBF***.test" },
		{ "ivan", "i***" },
		{ "", "***" },
		{ "@", "***@***" },
		{ "\"a@b\"@example.test", "\"***@e***.test" },
		{ "ivan@localhost", "i***@l***" },
	};
	char buf[64], tiny[5];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(log_redact_address(cases[i][0], buf, sizeof(buf)), cases[i][1]);
	assert_string_equal(log_redact_address(NULL, buf, sizeof(buf)), "***");
	assert_string_equal(log_redact_address("ivan@example.test", tiny, sizeof(tiny)), "i***");
}

static void test_escape(void **state)
{
	static const char *const cases[][2] = {
		{ "plain, \xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82, \\ and \"",
			"plain, \xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82, \\ and \"" },
		{ "\x1B[2J\r\n", "\\x1B[2J\\x0D\\x0A" },
		{ "a\xC2\x9Bm", "a\\u009Bm" },
		{ "a\xE2\x80\xAE"
		  "b\xE2\x81\xA6"
		  "c",
			"a\\u202Eb\\u2066c" },
		{ "\xE2\x80\x8F\xD8\x9C\xE2\x80\xA8", "\\u200F\\u061C\\u2028" },
		{ "a\xC2\xAD"
		  "b\xE1\xA0\x8E\xEF\xBF\xB9\xF3\xA0\x81\x81\x7F",
			"a\\u00ADb\\u180E\\uFFF9\\U000E0041\\x7F" },
		{ "\xF0\x9F\x98\x80 \xC2\xA0\xE2\x80\xA6", "\xF0\x9F\x98\x80 \xC2\xA0\xE2\x80\xA6" },
		{ "\xFF\xC3", "\xEF\xBF\xBD\xEF\xBF\xBD" },
		{ "", "" },
	};
	char *big = malloc(30001), *out;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		out = log_escape(cases[i][0]);
		assert_string_equal(out, cases[i][1]);
		free(out);
	}
	out = log_escape_json("{\n\t\"a\": \"\\u001b\xC2\x9B\xE2\x80\xAE\xF3\xA0\x81\x81\x7F\"}");
	assert_string_equal(out, "{\n\t\"a\": \"\\u001b\\u009B\\u202E\\uDB40\\uDC41\\u007F\"}");
	free(out);
	memset(big, 1, 30000);
	big[30000] = '\0';
	out = log_escape(big);
	assert_int_equal(strlen(out), 120000);
	free(out);
	free(big);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_escapes),
		cmocka_unit_test(test_surrogates_are_invalid),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_many_fields),
		cmocka_unit_test(test_threshold_and_errno),
		cmocka_unit_test(test_journal_prefix),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_redact),
		cmocka_unit_test(test_escape),
	};

	unsetenv("JOURNAL_STREAM");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
