/* test_settings_env.c: .env files, good and bad, and connection strings that are shown without their passwords. */
#include "config.h"

#include "settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char env_path[] = "/tmp/test-settings-env-XXXXXX";

/* Writes a file. */
static void write_file(const char *name, const char *text, size_t len, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(name, mode), 0);
}

/* Reads the file with stderr caught; whether a warning of its mode came. */
static bool warns_of_mode(void)
{
	int saved = dup(STDERR_FILENO);
	FILE *f = tmpfile();
	char got[2000];
	size_t n;

	assert_non_null(f);
	dup2(fileno(f), STDERR_FILENO);
	assert_null(settings_env_file(env_path));
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(f);
	n = fread(got, 1, sizeof(got) - 1, f);
	got[n] = '\0';
	fclose(f);
	return strstr(got, "can be read by everybody") != NULL;
}

static void test_env_file(void **state)
{
	static const char text[] = "# comment\n\nT_A=plain value  # comment\nexport T_B='single $x \\n'\nT_C=\"double \\\"q\\\" \\n\" # c\r\n"
				   "T_D=\nT_E = spaced\nT_F=a#b\nT_SET=new\nT_EMPTY=new\n  T_G=\"\"\nT_H=#nothing";

	(void)state;
	setenv("T_SET", "old", 1);
	setenv("T_EMPTY", "", 1);
	write_file(env_path, text, sizeof(text) - 1, 0600);
	assert_null(settings_env_file(env_path));
	assert_string_equal(getenv("T_A"), "plain value");
	assert_string_equal(getenv("T_B"), "single $x \\n");
	assert_string_equal(getenv("T_C"), "double \"q\" \n");
	assert_string_equal(getenv("T_D"), "");
	assert_string_equal(getenv("T_E"), "spaced");
	assert_string_equal(getenv("T_F"), "a#b");
	assert_string_equal(getenv("T_SET"), "old");
	assert_string_equal(getenv("T_EMPTY"), "new"); /* empty counts as not set */
	assert_string_equal(getenv("T_G"), "");
	assert_string_equal(getenv("T_H"), "");
}

/* A .env file that has to be refused with the given line and reason. */
static void env_bad(const char *text, size_t len, const char *expected)
{
	char *error;

	write_file(env_path, text, len, 0600);
	error = settings_env_file(env_path);
	assert_non_null(error);
	assert_string_equal(error + strlen(env_path), expected);
	free(error);
}

static void test_env_file_errors(void **state)
{
	char *error;

	(void)state;
	env_bad("T_X=1\nno value\n", 15, ":2: not a line like NAME=value");
	env_bad("1A=x\n", 5, ":1: not a line like NAME=value");
	env_bad("T_X='secret\n", 12, ":1: the closing quote is missing (a value is one line)");
	env_bad("T_X=\"secret\\\n", 13, ":1: the closing quote is missing (a value is one line)");
	env_bad("T_X=\"a\" b\n", 10, ":1: there is something behind the closing quote");
	env_bad("T_X=a\0b\n", 8, ":1: there is a NUL byte in the line");
	error = settings_env_file("/nonexistent/.env");
	assert_string_equal(error, "/nonexistent/.env: the file given by --env-file cannot be read: No such file or directory");
	free(error);
	write_file(env_path, "T_Y=1\n", 6, 0640);
	assert_false(warns_of_mode());
	write_file(env_path, "T_Y=1\n", 6, 0644);
	assert_true(warns_of_mode());
}

static void test_redact(void **state)
{
	static const char *const cases[][2] = {
		{ "", "" },
		{ "host=h dbname=d", "host=h dbname=d" },
		{ "host=h password=secret dbname=d", "host=h password=*** dbname=d" },
		{ "password = 'a \\' b' user=u", "password = *** user=u" },
		{ "password=a\\ b user=u", "password=*** user=u" },
		{ "sslpassword=x", "sslpassword=***" },
		{ "password='never closed", "password=***" },
		{ "dbname=password", "dbname=password" },
		{ "postgres://u:secret@h:5432/d", "postgres://u:***@h:5432/d" },
		{ "postgresql://u:p@ss/w?x@h/d?a=b", "postgresql://u:***@h/d?a=b" },
		{ "postgres://u@h:5432/d", "postgres://u@h:5432/d" },
		{ "postgres://h:5432,g:5433/d?target_session_attrs=read-write", "postgres://h:5432,g:5433/d?target_session_attrs=read-write" },
		{ "postgres:///d?user=u&password=secret&x=1", "postgres:///d?user=u&password=***&x=1" },
		{ "https://u:p@example.test/x", "https://u:***@example.test/x" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *shown = settings_redact_conninfo(cases[i][0]);

		assert_string_equal(shown, cases[i][1]);
		free(shown);
	}
}

/* Makes the file. */
static int setup(void **state)
{
	int fd = mkstemp(env_path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

/* Takes it away. */
static int teardown(void **state)
{
	(void)state;
	return unlink(env_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_env_file_errors),
		cmocka_unit_test(test_redact),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
