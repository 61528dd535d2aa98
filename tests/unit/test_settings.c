/* test_settings.c: the settings file, the environment, plugins' options, and every error with its file and line. */
#include "config.h"

#include "files.h"

#include "base/log.h"
#include "settings/load.h"
#include "settings/settings.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test-settings-XXXXXX";
static char path[100];

/* A plugin's handle and table, as the email plugin's might be. */
struct handle {
	const char *host, *pass, *url;
	uint64_t port;
	int64_t pause;
	int tls;
};
static const struct pgmqd_option table[] = {
	{ "smtp_host", PGMQD_STRING, 1, offsetof(struct handle, host), NULL, "Host.", "T_SMTP_HOST", NULL },
	{ "smtp_pass", PGMQD_SECRET, 0, offsetof(struct handle, pass), NULL, "Password.", "T_SMTP_PASS", NULL },
	{ "api_url", PGMQD_URL, 0, offsetof(struct handle, url), NULL, "API.", NULL, NULL },
	{ "smtp_port", PGMQD_UINT, 0, offsetof(struct handle, port), "587", "Port.", "T_SMTP_PORT", NULL },
	{ "pause", PGMQD_DURATION, 0, offsetof(struct handle, pause), "1s", "Pause.", "T_PAUSE_MS", NULL },
	{ "tls", PGMQD_BOOL, 0, offsetof(struct handle, tls), "yes", "TLS.", NULL, NULL },
	{ 0 },
};
static const struct pgmqd_option strict_table[] = {
	{ "count", PGMQD_UINT, 1, offsetof(struct handle, port), NULL, "Count.", NULL, NULL },
	{ "api_url", PGMQD_URL, 1, offsetof(struct handle, url), NULL, "API.", NULL, NULL },
	{ 0 },
};

/* Loads a text that has to be good. */
static struct settings *load(const char *text)
{
	struct settings *s;
	char *errors;

	write_file(path, text, strlen(text), 0600);
	s = settings_load(path, &errors);
	if (!s)
		fail_msg("%s", errors);
	return s;
}

/* Loads a text that has to be bad; the errors must be exactly those given, "LINE: ..." each, on a line of its own. */
static void load_bad(const char *text, const char *expected)
{
	char *errors, *told = calloc(1, 20000);
	struct settings *s;

	write_file(path, text, strlen(text), 0600);
	s = settings_load(path, &errors);
	if (s)
		fail_msg("accepted:\n%s", text);
	for (char *rest = errors, *line; (line = strsep(&rest, "\n")) != NULL;) {
		if (strncmp(line, path, strlen(path)) == 0 && line[strlen(path)] == ':')
			line += strlen(path) + 1;
		strcat(strcat(told, line), "\n");
	}
	assert_string_equal(told, expected);
	free(told);
	free(errors);
}

static void test_defaults(void **state)
{
	struct settings *s = load("[pgmqd]\n[queue email_queue]\nplugin = email\n");
	const struct queue_settings *q = &s->queues[0];

	(void)state;
	assert_string_equal(s->path, path);
	assert_string_equal(s->database, "");
	assert_string_equal(s->channel, "pgmqd");
	assert_int_equal(s->log_level, LOG_LEVEL_INFO);
	assert_string_equal(s->default_lang, "ru");
	assert_string_equal(s->http_listen, "127.0.0.1:8089");
	assert_int_equal(s->fallback_poll, 30000);
	assert_int_equal(s->poll_when_deaf, 1000);
	assert_int_equal(s->nqueues, 1);
	assert_string_equal(q->name, "email_queue");
	assert_int_equal(q->line, 2);
	assert_string_equal(q->plugin, "email");
	assert_null(q->group);
	assert_int_equal(q->processes, 1);
	assert_int_equal(q->visibility_timeout, 30000);
	assert_int_equal(q->max_in_flight, 10);
	assert_int_equal(q->max_attempts, 5);
	assert_int_equal(q->backoff_min, 30000);
	assert_int_equal(q->backoff_max, 3600000);
	assert_int_equal(q->on_done, ON_DONE_ARCHIVE);
	assert_int_equal(q->fallback_poll, 0);
	assert_int_equal(q->npairs, 0);
	settings_free(s);
}

static void test_syntax(void **state)
{
	struct settings *s = load(
		"\xEF\xBB\xBF# comment\r\n"
		"; comment\r\n"
		"  [pgmqd]  ; behind a section\r\n"
		"  log_level = DEBUG\r\n"
		"    channel=other ; behind a value\r\n" /* indented: not the rest of the value above */
		"database = host=/run/pg dbname=app\r\n"
		"\r\n"
		"[ queue   email_queue ]\r\n"
		"plugin=/opt/x/pgmqd-email-plugin.so\r\n"
		"smtp_pass = a;b#c\r\n"
		"on_done: delete");

	(void)state;
	assert_int_equal(s->log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(s->channel, "other");
	assert_string_equal(s->database, "host=/run/pg dbname=app");
	assert_string_equal(s->queues[0].name, "email_queue");
	assert_int_equal(s->queues[0].on_done, ON_DONE_DELETE);
	assert_int_equal(s->queues[0].npairs, 1);
	assert_string_equal(s->queues[0].pairs[0].value, "a;b#c");
	assert_int_equal(s->queues[0].pairs[0].line, 10);
	settings_free(s);
}

static void test_long_names(void **state)
{
	static const char name[] = "q123456789_123456789_123456789_123456789_123456"; /* 47 characters; with "queue "
	                                                                                 more than libinih keeps */
	char text[300];
	struct settings *s;

	(void)state;
	snprintf(text, sizeof(text), "[queue %s]\nplugin=null\n[queue %.46s]\nplugin=null\n", name, name);
	s = load(text);
	assert_string_equal(s->queues[0].name, name);
	assert_int_equal(s->nqueues, 2);
	settings_free(s);
	snprintf(text, sizeof(text), "[queue %s7]\nplugin=null\n", name);
	load_bad(text, "1: [queue q123456789_123456789_123456789_123456789_1234567]: not the name of a queue (at most "
		       "47 bytes, without ', $, ;, -- and control characters)\n");
}

static void test_long_lines(void **state)
{
	char text[12000] = "[pgmqd]\n#", value[10001];
	struct settings *s;
	char *errors;

	(void)state;
	memset(value, 'c', 10000);
	value[10000] = '\0';
	snprintf(text, sizeof(text), "[pgmqd]\n#%s\nchannel = x\n", value); /* a comment may be of any length */
	s = load(text);
	assert_string_equal(s->channel, "x");
	settings_free(s);
	snprintf(text, sizeof(text), "[pgmqd]\nchannel = x\ndatabase = %s\nwatchdog = 1min\n", value);
	write_file(path, text, strlen(text), 0600);
	assert_null(settings_load(path, &errors)); /* never cut */
	assert_non_null(strstr(errors, ":3: \"database\": the line is too long, 10011 characters"));
	free(errors);
	snprintf(text, sizeof(text), "[pgmqd]\ndatabase = %.180s\n", value); /* what every build of libinih takes */
	s = load(text);
	assert_int_equal(strlen(s->database), 180);
	settings_free(s);
}

static void test_unknown(void **state)
{
	(void)state;
	load_bad("[pgmqd]\nlog_levl = info\n", "2: log_levl: unknown option of [pgmqd] (did you mean log_level?)\n");
	load_bad("[pgmqd]\nLog_Level = info\n", "2: Log_Level: unknown option of [pgmqd] (did you mean log_level?)\n");
	load_bad("[pgmqd]\nfrobnicate = 1\n", "2: frobnicate: unknown option of [pgmqd]\n");
	load_bad("[pgmqd]\nmax_attempts = 1\n", "2: max_attempts: this option belongs into a section [queue NAME]\n");
	load_bad("[pgmq]\nx = 1\ny = 2\n", "1: [pgmq]: unknown section (did you mean [pgmqd]?)\n");
	load_bad("[qeue a]\nplugin = x\n", "1: [qeue a]: unknown section (did you mean [queue a]?)\n");
	load_bad("[email_queue]\n",
		"1: [email_queue]: unknown section (there are [pgmqd], [queue NAME] and [job TYPE])\n");
	load_bad("[job queues]\nqueue = a\n", "1: [job queues]: /api/queues is something else; choose another name\n");
	load_bad("[job Big]\n",
		"1: [job Big]: not the name of a job type (a-z, digits, - and _, at most 63 characters)\n");
	load_bad("[job a]\nqueue = b\n[job a]\n", "3: [job a]: the job type has a section already, in line 1\n");
	load_bad("[job a]\n", "1: [job a]: queue has to be the name of a queue\n");
	load_bad("[job a]\nqueue = b\ncolour = red\n", "3: colour: unknown option of a job type\n");
	load_bad("[queue b]\nplugin = null\non_done = delete\n[job a]\nqueue = B\n",
		"4: [job a]: the queue B has on_done = delete; jobs are known to be done by the archive\n");
	load_bad("[jib a]\n", "1: [jib a]: unknown section (did you mean [job a]?)\n");
	load_bad("[pgmqd x]\n", "1: [pgmqd x]: unknown section (there are [pgmqd], [queue NAME] and [job TYPE])\n");
}

static void test_broken_lines(void **state)
{
	char *errors;

	(void)state;
	load_bad("x = 1\ny = 2\n[pgmqd]\n", "1: x: there is no section yet (write [pgmqd] or [queue NAME] above)\n");
	load_bad("[pgmqd]\nwatchdog 30s\n[queue a]\nplugin=null\njust a line",
		"2: \"watchdog\": not a line like key = value\n"
		"5: \"just\": not a line like key = value\n");
	load_bad("[pgmqd]\n= 1\n", "2: \"\": not a line like key = value\n");
	load_bad("[queue a\nplugin = null\n", "1: \"[queue a\": the ] of the section is missing\n");
	load_bad(
		"[queue a] b\nplugin = null\n", "1: \"[queue a] b\": there is something behind the ] of the section\n");
	write_file(path, "[pgmqd]\nchannel = a\0b\n", 22, 0600);
	assert_null(settings_load(path, &errors));
	assert_non_null(strstr(errors, ":2: there is a NUL byte in the line"));
	free(errors);
}

static void test_duplicates(void **state)
{
	(void)state;
	load_bad("[pgmqd]\nchannel = a\nchannel = a\n", "3: channel: this option was given already, in line 2\n");
	load_bad("[queue a]\nplugin = x\nplugin = y\nsmtp_host = 1\nsmtp_host = 2\n",
		"3: plugin: this option was given already, in line 2\n"
		"5: smtp_host: this option was given already, in line 4\n");
	load_bad("[pgmqd]\n[queue a]\nplugin=x\n[pgmqd]\nchannel = x\n",
		"4: [pgmqd]: there is this section already, in line 1\n");
	load_bad("[queue a]\nplugin=x\n[queue a]\nplugin=y\n",
		"3: [queue a]: the queue has a section already, in line 1\n");
	load_bad("[queue a]\nplugin=x\n[queue A]\nplugin=y\n", "3: [queue A]: the queue has a section already, in line "
							       "1 (pgmq does not tell upper from lower case)\n");
}

static void test_bad_values(void **state)
{
	(void)state;
	load_bad("[pgmqd]\nwatchdog = 30x\nlog_level = loud\n",
		"2: watchdog: \"30x\" is not a duration (write 250ms, 30s, 5min, 3h or 7d)\n"
		"3: log_level: \"loud\" is none of the choices (write error, warn, info or debug)\n");
	load_bad("[pgmqd]\nhttp_listen = 8089\nchannel =\ndefault_lang = ../ru\nfallback_poll = 0\nwatchdog = 5ms\n"
		 "payment_networks = ::1, here\n",
		"1: [pgmqd]: channel has to be a name of 1 to 63 bytes\n"
		"1: [pgmqd]: http_listen: \"8089\" is not HOST:PORT, unix:/PATH or off\n"
		"1: [pgmqd]: payment_networks: \"here\" is no address and no network such as 203.0.113.0/24\n"
		"1: [pgmqd]: default_lang: \"../ru\" is not a language like ru or en\n"
		"1: [pgmqd]: fallback_poll has to be 10ms or more\n"
		"1: [pgmqd]: watchdog has to be 1s or more, or 0 to switch it off\n");
	load_bad("[queue a;b]\nplugin = x\nmax_attempts = nonsense\n",
		"1: [queue a;b]: not the name of a queue (at most 47 bytes, without ', $, ;, -- and "
		"control characters)\n");
	load_bad("[queue]\n", "1: [queue ]: not the name of a queue (at most 47 bytes, without ', $, ;, -- and "
			      "control characters)\n");
	load_bad("[queue a]\n[queue b]\nplugin =\n[queue c]\nplugin = ../x\n",
		"1: [queue a]: the queue has no plugin (write plugin = email, for instance)\n"
		"2: [queue b]: the queue has no plugin (write plugin = email, for instance)\n"
		"4: [queue c]: plugin: \"../x\" is neither a plugin's name nor the absolute path of its file\n");
	load_bad("[queue a]\nplugin=x\ngroup = g\nprocesses = 2\n",
		"1: [queue a]: a queue of a group shares one process: take out either group or processes\n");
	load_bad("[queue a]\nplugin=x\nprocesses = 65\nmax_in_flight = 0\nmax_attempts = 0\nvisibility_timeout = "
		 "1ms\nbackoff_min = 2h\nfallback_poll = 1ms\n"
		 "config_retry = 0\n",
		"1: [queue a]: processes = 65 is out of bounds (from 1 to 64)\n"
		"1: [queue a]: max_in_flight = 0 is out of bounds (from 1 to 10000)\n"
		"1: [queue a]: max_attempts = 0 is out of bounds (from 1 to 1000000)\n"
		"1: [queue a]: visibility_timeout has to be 1s or more\n"
		"1: [queue a]: backoff_min is greater than backoff_max\n"
		"1: [queue a]: config_retry has to be 10ms or more\n"
		"1: [queue a]: fallback_poll has to be 10ms or more, or 0 for the one of [pgmqd]\n");
}

static void test_listen(void **state)
{
	static const char *const good[] = { "off", "unix:/run/pgmqd/http", "127.0.0.1:8089", "localhost:0",
		"[::1]:80" },
				 *const bad[] = { "", "unix:x", ":80", "a:", "a:65536", "a:8x", "::1:80", "[::1:80" };
	char text[100], *errors;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(text, sizeof(text), "[pgmqd]\nhttp_listen = %s\n", good[i]);
		settings_free(load(text));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "[pgmqd]\nhttp_listen = %s\n", bad[i]);
		write_file(path, text, strlen(text), 0600);
		assert_null(settings_load(path, &errors));
		free(errors);
	}
}

static void test_missing_file(void **state)
{
	char *errors;

	(void)state;
	assert_null(settings_load("/nonexistent/pgmqd.conf", &errors));
	assert_string_equal(errors,
		"/nonexistent/pgmqd.conf: there is no such settings file (`pgmqd init` writes one for a database; "
		"-c FILE or PGMQD_CONF names another; without a file, DATABASE_URL must name the database)");
	free(errors);
	assert_null(settings_load(dir, &errors));
	assert_non_null(strstr(errors, "Is a directory"));
	free(errors);
	setenv("PGMQD_CONF", path, 1);
	write_file(path, "[pgmqd]\nchannel = by_env\n", 26 - 1, 0600);
	settings_free(settings_load(NULL, &errors));
	assert_null(errors);
	unsetenv("PGMQD_CONF");
}

static void test_environment(void **state)
{
	static const char bare[] = "[queue a]\nplugin=x\n",
			  both[] = "[pgmqd]\nlog_level = warn\n[queue a]\nplugin=x\nmax_in_flight = 3\n";
	struct settings *s;

	(void)state;
	setenv("DATABASE_URL", "postgres:///db", 1);
	setenv("LOG_LEVEL", "DEBUG", 1);
	setenv("WORKER_INTERVAL_MS", "5000", 1);
	setenv("MAX_TASKS_PER_CYCLE", "20", 1);
	s = load(bare);
	assert_string_equal(s->database, "postgres:///db");
	assert_int_equal(s->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(s->fallback_poll, 5000); /* milliseconds, not seconds */
	assert_int_equal(s->queues[0].fallback_poll, 0);
	assert_int_equal(s->queues[0].max_in_flight, 20);
	settings_free(s);
	s = load(both); /* the file wins */
	assert_int_equal(s->log_level, LOG_LEVEL_WARN);
	assert_int_equal(s->queues[0].max_in_flight, 3);
	assert_int_equal(s->fallback_poll, 5000);
	settings_free(s);
	setenv("LOG_LEVEL", "loud", 1);
	setenv("MAX_TASKS_PER_CYCLE", "many", 1);
	setenv("WORKER_INTERVAL_MS", "1", 1);
	load_bad("[queue a]\nplugin=x\n[queue b]\nplugin=x\n",
		"environment variable MAX_TASKS_PER_CYCLE: max_in_flight: \"many\" is not a whole number from 0 up\n"
		"environment variable LOG_LEVEL: log_level: \"loud\" is none of the choices (write error, warn, info "
		"or debug)\n"
		"1: [pgmqd]: fallback_poll (or WORKER_INTERVAL_MS in the environment) has to be 10ms or more\n");
	unsetenv("WORKER_INTERVAL_MS");
	setenv("LOG_LEVEL", "", 1); /* empty is not set */
	setenv("MAX_TASKS_PER_CYCLE", "0", 1);
	load_bad("[queue a]\nplugin=x\n",
		"1: [queue a]: max_in_flight (or MAX_TASKS_PER_CYCLE in the environment) = 0 is out of bounds (from 1 "
		"to 10000)\n");
	setenv("MAX_TASKS_PER_CYCLE", "", 1);
	s = load(bare);
	assert_int_equal(s->log_level, LOG_LEVEL_INFO);
	assert_int_equal(s->queues[0].max_in_flight, 10);
	settings_free(s);
	unsetenv("DATABASE_URL");
	unsetenv("LOG_LEVEL");
	unsetenv("MAX_TASKS_PER_CYCLE");
}

static void test_plugin_options(void **state)
{
	struct settings *s = load(
		"[queue a]\nplugin=email\nsmtp_host = mail.example.test\nsmtp_pass = p w\ntls = no\n");
	struct handle h = { 0 };

	(void)state;
	setenv("T_SMTP_PORT", "2525", 1);
	setenv("T_SMTP_HOST", "other.example.test", 1);
	setenv("T_PAUSE_MS", "70", 1);
	assert_null(settings_plugin_options(s, &s->queues[0], table, &h));
	assert_string_equal(h.host, "mail.example.test");
	assert_string_equal(h.pass, "p w");
	assert_null(h.url);
	assert_int_equal(h.port, 2525);
	assert_int_equal(h.pause, 70);
	assert_int_equal(h.tls, 0);
	option_free(table, &h);
	unsetenv("T_SMTP_PORT");
	unsetenv("T_SMTP_HOST");
	unsetenv("T_PAUSE_MS");
	settings_free(s);
}

/* Asks for errors of plugin options; "FILE:" in front of each line is taken off the first only, so one error at a time.
 */
static void plugin_bad(const char *text, const struct pgmqd_option *t, const char *expected)
{
	struct settings *s = load(text);
	struct handle h = { 0 };
	char *errors = settings_plugin_options(s, &s->queues[0], t, &h);

	assert_non_null(errors);
	assert_memory_equal(errors, path, strlen(path));
	assert_string_equal(errors + strlen(path) + 1, expected);
	free(errors);
	option_free(t, &h);
	settings_free(s);
}

static void test_plugin_errors(void **state)
{
	(void)state;
	plugin_bad("[queue a]\nplugin=email\n", table,
		"1: [queue a]: smtp_host is missing (write smtp_host = ... here, or set T_SMTP_HOST in the "
		"environment)");
	plugin_bad("[queue a]\nplugin=email\nsmtp_host =\n", table,
		"1: [queue a]: smtp_host is missing (write smtp_host = ... here, or set T_SMTP_HOST in the "
		"environment)");
	plugin_bad("[queue a]\nplugin=email\nsmtp_host = h\nsmtp_port = x\n", table,
		"4: smtp_port: \"x\" is not a whole number from 0 up");
	plugin_bad("[queue a]\nplugin=email\nsmtp_host = h\nsmtp_prot = 1\n", table,
		"4: smtp_prot: unknown option of a queue with the plugin email (did you mean smtp_port?)");
	plugin_bad("[queue a]\nplugin=email\nsmtp_host = h\nvisibilty_timeout = 1\n", table,
		"4: visibilty_timeout: unknown option of a queue with the plugin email (did you mean "
		"visibility_timeout?)");
	plugin_bad("[queue a]\nplugin=email\nsmtp_host = h\nlog_level = info\n", table,
		"4: log_level: this option belongs into the section [pgmqd]");
	plugin_bad("[queue a]\nplugin=email\nsmtp_host = h\nfrobnicate = 1\n", table,
		"4: frobnicate: unknown option of a queue with the plugin email");
	plugin_bad("[queue a]\nplugin=email\nx = h\n", NULL, "3: x: unknown option of a queue with the plugin email");
	plugin_bad("[queue a]\nplugin=y\napi_url = http://a\n", strict_table,
		"1: [queue a]: count is missing (write count = ... here)");
	plugin_bad("[queue a]\nplugin=y\ncount = 0\napi_url = nowhere\n", strict_table,
		"4: api_url: \"nowhere\" is not a URL (write http://HOST... or https://HOST...)");
	setenv("T_SMTP_PORT", "y", 1);
	{
		struct settings *s = load("[queue a]\nplugin=email\nsmtp_host = h\n");
		struct handle h = { 0 };
		char *errors = settings_plugin_options(s, &s->queues[0], table, &h);

		assert_string_equal(
			errors, "environment variable T_SMTP_PORT: smtp_port: \"y\" is not a whole number from 0 up");
		free(errors);
		option_free(table, &h);
		settings_free(s);
	}
	unsetenv("T_SMTP_PORT");
}

static void test_permissions(void **state)
{
	static const char text[] =
		"[pgmqd]\ndatabase = password=x\n[queue a]\nplugin=email\nsmtp_host=h\nsmtp_pass=x\n";
	static const mode_t modes[] = { 0644, 0640 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct handle h = { 0 };
		struct settings *s;
		char *errors;

		write_file(path, text, sizeof(text) - 1, modes[i]);
		quiet_start();
		s = settings_load(path, &errors);
		assert_true(quiet_end("holds the password of the database and can be read by everybody: chmod o= it") ==
			    (i == 0));
		assert_non_null(s);
		quiet_start();
		assert_null(settings_plugin_options(s, &s->queues[0], table, &h));
		assert_true(quiet_end("holds smtp_pass of [queue a] and can be read by everybody: chmod o= it") ==
			    (i == 0));
		option_free(table, &h);
		settings_free(s);
	}
}

/* Whether the first queue of one text equals that of another. */
static bool equal(const char *a, const char *b)
{
	struct settings *sa = load(a), *sb = load(b);
	bool same = settings_queue_equal(&sa->queues[0], &sb->queues[0]);

	settings_free(sa);
	settings_free(sb);
	return same;
}

static void test_equal(void **state)
{
	static const char base[] = "[queue a]\nplugin=email\nx=1\ny=2\nprefetch=3\n";

	(void)state;
	assert_true(equal(base, base));
	assert_true(equal(base, "# moved\n\n[queue a]\ny=2\nx=1\nprefetch=3\nplugin=email\nmax_attempts=5\n"));
	assert_false(equal(base, "[queue b]\nplugin=email\nx=1\ny=2\nprefetch=3\n"));
	assert_false(equal(base, "[queue a]\nplugin=null\nx=1\ny=2\nprefetch=3\n"));
	assert_false(equal(base, "[queue a]\nplugin=email\nx=1\ny=2\n"));
	assert_false(equal(base, "[queue a]\nplugin=email\nx=1\ny=3\nprefetch=3\n"));
	assert_false(equal(base, "[queue a]\nplugin=email\nx=1\nz=2\nprefetch=3\n"));
	assert_false(equal(base, "[queue a]\nplugin=email\nx=1\nprefetch=3\n"));
	assert_false(equal(base, "[queue a]\nplugin=email\nx=1\ny=2\nprefetch=3\ngroup=g\n"));
}

static void test_sample(void **state)
{
	char name[120], text[20000], out[20000] = "";
	struct settings *a, *b;
	int saved, fd;
	size_t n;
	FILE *f;

	(void)state;
	snprintf(name, sizeof(name), "%s/sample", dir);
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0600);
	dup2(fd, STDOUT_FILENO);
	settings_print_sample();
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	f = fopen(name, "r");
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	a = load(text);
	for (char *rest = text, *line;
		(line = strsep(&rest, "\n")) != NULL;) /* "#key = default" without the # means the same */
		strcat(strcat(out, *line == '#' && line[1] != ' ' ? line + 1 : line), "\n");
	b = load(out);
	for (const struct pgmqd_option *row = settings_global_options; row->name; row++)
		assert_true(option_equal(row, a, b));
	for (const struct pgmqd_option *row = settings_queue_options; row->name; row++) {
		if (strcmp(row->name, "group") != 0) /* has no default; empty and absent mean the same */
			assert_true(option_equal(row, &a->queues[0], &b->queues[0]));
		assert_int_not_equal(b->queues[0].lines[row - settings_queue_options], 0);
	}
	settings_free(a);
	settings_free(b);
}

/* Makes the directory, and an environment in which nothing of ours is set. */
static int setup(void **state)
{
	(void)state;
	unsetenv("DATABASE_URL");
	unsetenv("LOG_LEVEL");
	unsetenv("WORKER_INTERVAL_MS");
	unsetenv("MAX_TASKS_PER_CYCLE");
	unsetenv("PGMQD_CONF");
	unsetenv("PGMQD_PLUGIN_DIR");
	unsetenv("PGMQD_TEMPLATE_DIR");
	unsetenv("PGMQD_SQL_DIR");
	unsetenv("JOURNAL_STREAM");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/pgmqd.conf", dir);
	return 0;
}

/* Takes it away. */
static int teardown(void **state)
{
	static const char *const names[] = { "pgmqd.conf", "sample" };
	char name[120];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), "%s/%s", dir, names[i]);
		unlink(name);
	}
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_broken_lines),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_plugin_options),
		cmocka_unit_test(test_plugin_errors),
		cmocka_unit_test(test_permissions),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_sample),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
