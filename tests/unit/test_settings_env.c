/* test_settings_env.c: where secrets come from (.env files, files with one value) and where they do not go (connection
 * strings that are shown, core dumps, a database elsewhere without TLS). */
#include "config.h"

#include "files.h"

#include "process/proc.h"
#include "pg/conninfo.h"
#include "settings/env.h"
#include "settings/load.h"
#include "settings/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char env_path[] = "/tmp/test-settings-env-XXXXXX";

/* Reads the file with stderr caught; whether a warning of its mode came. */
static bool warns_of_mode(void)
{
	quiet_start();
	assert_null(settings_env_file(env_path));
	return quiet_end("can be read by everybody");
}

static void test_env_file(void **state)
{
	static const char text[] = "# comment\n\nT_A=plain value  # comment\nexport T_B='single $x \\n'\nT_C=\"double "
				   "\\\"q\\\" \\n\" # c\r\n"
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

/* What other readers of such files take, and the old worker's file may have: values of several lines, back quotes, and
 * names that are none of a shell. */
static void test_env_file_of_others(void **state)
{
	static const char text[] =
		"\xEF\xBB\xBFT_KEY=\"-----BEGIN KEY-----\r\nMIIE=\r\n\r\n# no comment\r\n-----END KEY-----\"  # c\r\n"
		"T_LIST='[\n  1\n]'\nnpm_config_x.y-z=1\nT_BACK=`it's \"so\"`\n#T_OFF=\"\nT_LAST=after\n";

	(void)state;
	write_file(env_path, text, sizeof(text) - 1, 0600);
	assert_null(settings_env_file(env_path));
	assert_string_equal(getenv("T_KEY"), "-----BEGIN KEY-----\nMIIE=\n\n# no comment\n-----END KEY-----");
	assert_string_equal(getenv("T_LIST"), "[\n  1\n]");
	assert_string_equal(getenv("T_BACK"), "it's \"so\"");
	assert_null(getenv("T_OFF"));
	assert_string_equal(getenv("T_LAST"), "after");
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
	env_bad("T_X='secret\n", 12, ":1: the closing quote is missing");
	env_bad("T_X=\"secret\\\n", 13, ":1: the closing quote is missing");
	env_bad("T_W=1\nT_X='a\nT_Y='b'\n", 20, ":2: there is something behind the closing quote");
	env_bad("T_W=1\nT_X='a\nb\n\n", 15, ":2: the closing quote is missing");
	env_bad("T_X='a\nb\0'\n", 11, ":1: there is a NUL byte in the line");
	env_bad("T_X=\"a\" b\n", 10, ":1: there is something behind the closing quote");
	env_bad("T_X=a\0b\n", 8, ":1: there is a NUL byte in the line");
	error = settings_env_file("/nonexistent/.env");
	assert_string_equal(
		error, "/nonexistent/.env: the file given by --env-file cannot be read: No such file or directory");
	free(error);
	write_file(env_path, "T_Y=1\n", 6, 0640);
	assert_false(warns_of_mode());
	write_file(env_path, "T_Y=1\n", 6, 0644);
	assert_true(warns_of_mode());
}

/* The row of a variable, as a settings file would have it. */
static const struct pgmqd_option secret_row = { "secret", PGMQD_SECRET, 0, 0, NULL, NULL, "T_SECRET", NULL };

/* What the row takes, and from where; "!error" when it is refused. */
static void value_is(const char *value, const char *source)
{
	char *from, *error, *got = settings_env_value(&secret_row, &from, &error);

	if (value && *value == '!') {
		assert_null(got);
		assert_non_null(error);
		assert_non_null(strstr(error, value + 1));
	} else {
		assert_null(error);
		if (value)
			assert_string_equal(got, value);
		else
			assert_null(got);
		if (source)
			assert_int_equal(strncmp(from, source, strlen(source)), 0);
	}
	free(error);
	free(from);
	free(got);
}

static void test_value_files(void **state)
{
	char dir[] = "/tmp/test-credentials-XXXXXX", name[64];
	uint64_t before;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(name, sizeof(name), "%s/T_SECRET", dir);
	unsetenv("T_SECRET");
	value_is(NULL, NULL);
	setenv("T_SECRET", "from environment", 1);
	value_is("from environment", "environment, T_SECRET");
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	value_is("from environment", "environment, T_SECRET");
	write_file(name, "from credential\n", 16, 0400);
	value_is("from credential", "file /tmp/test-cred");
	write_file(env_path, "from file\r\n", 11, 0600);
	setenv("T_SECRET_FILE", env_path, 1);
	value_is("from file", "file /tmp/test-settings");
	before = settings_env_files();
	assert_int_equal(before, settings_env_files());
	write_file(env_path, "other", 5, 0600);
	assert_int_not_equal(before, settings_env_files());
	value_is("other", NULL);
	write_file(env_path, "", 0, 0600);
	value_is(NULL, NULL);
	write_file(env_path, "a\nb\n", 4, 0600);
	value_is("!not a file of one line", NULL);
	write_file(env_path, "a\0b", 3, 0600);
	value_is("!not a file of one line", NULL);
	setenv("T_SECRET_FILE", dir, 1);
	value_is("!it is no file", NULL);
	setenv("T_SECRET_FILE", "/nonexistent/secret", 1);
	value_is("!/nonexistent/secret, which T_SECRET_FILE names, does not exist", NULL);
	unsetenv("T_SECRET_FILE");
	unsetenv("CREDENTIALS_DIRECTORY");
	unlink(name);
	rmdir(dir);
}

/* Whether this connection string is refused for its lack of TLS. */
static bool tls_refused(const char *database, bool allow_insecure)
{
	char *problem = conninfo_check_tls(database, allow_insecure);
	bool refused = problem && strstr(problem, "sslmode=verify-full");

	assert_true(refused || !problem);
	free(problem);
	return refused;
}

static void test_tls(void **state)
{
	static const char *const local[] = { "", "dbname=a", "host=/run/postgresql", "host=@abstract", "host=localhost",
		"host=127.0.0.2,::1,/run/x", "postgresql://u:p@127.0.0.1:5432/d", "postgresql://u@[::1]/d",
		"hostaddr=127.0.0.1 host=db.example.test", "host=pg.localhost" };
	static const char *const remote[] = { "host=db.example.test", "host=192.0.2.1",
		"postgresql://u:p@db.example.test:6543/d", "postgresql://u:p@db.example.test/d?sslmode=require",
		"host=db sslmode=verify-ca", "host=/run/x,192.0.2.1", "host=notlocalhost",
		"host=localhost.example.test", "host=127.example.test", "hostaddr=192.0.2.1 host=localhost",
		"host=db sslmode=disable", "service=t" };
	static const char service[] = "[t]\nhost=db.example.test\n";
	char services[] = "/tmp/test-services-XXXXXX";
	int fd = mkstemp(services);

	(void)state;
	assert_int_equal(write(fd, service, sizeof(service) - 1), sizeof(service) - 1);
	close(fd);
	setenv("PGSERVICEFILE", services, 1);
	unsetenv("PGHOST");
	unsetenv("DATABASE_URL");
	for (size_t i = 0; i < sizeof(local) / sizeof(*local); i++)
		if (tls_refused(local[i], false))
			fail_msg("refused: %s", local[i]);
	for (size_t i = 0; i < sizeof(remote) / sizeof(*remote); i++) {
		if (!tls_refused(remote[i], false))
			fail_msg("taken: %s", remote[i]);
		assert_false(tls_refused(remote[i], true));
	}
	assert_false(tls_refused("host=db sslmode=verify-full", false));
	assert_false(tls_refused("postgresql://u:p@db/d?sslmode=verify-full", false));
	setenv("PGHOST", "db.example.test", 1);
	assert_true(tls_refused("dbname=a", false));
	setenv("PGSSLMODE", "verify-full", 1);
	assert_false(tls_refused("dbname=a", false));
	unsetenv("PGHOST");
	unsetenv("PGSSLMODE");
	unsetenv("PGSERVICEFILE");
	unlink(services);
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
		{ "postgres://h:5432,g:5433/d?target_session_attrs=read-write",
			"postgres://h:5432,g:5433/d?target_session_attrs=read-write" },
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

static void test_no_core(void **state)
{
	struct rlimit limit;
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		proc_no_core();
		_exit(prctl(PR_GET_DUMPABLE) != 0 || getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
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
		cmocka_unit_test(test_env_file_of_others),
		cmocka_unit_test(test_env_file_errors),
		cmocka_unit_test(test_value_files),
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_redact),
		cmocka_unit_test(test_no_core),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
