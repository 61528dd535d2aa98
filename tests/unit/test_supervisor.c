/* test_supervisor.c: the supervisor with children that crash, hang and exit to order (fake_children.c).
 *
 * Each test runs supervisor_run() in a process of its own; all that is seen of it is its log and its processes. */
#include "config.h"

#include "base/clock.h"
#include "settings/load.h"
#include "supervisor/child.h"
#include "base/log.h"
#include "process/proc.h"
#include "supervisor/supervisor.h"
#include "base/xalloc.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PATIENCE_MS 30000 /* for things that happen at once; only a failure ever waits so long */

/* ---- the fixture ---- */

extern const struct proc_roles fake_roles; /* fake_children.c */

struct fixture {
	char dir[64], conf[80], notify[80];
	pid_t pid;
	int log;      /* read end */
	int notified; /* what systemd would read */
	char buf[65536];
	size_t len;
	cJSON *records; /* every line so far */
	int seen;       /* those before this index were passed over by wait_record() */
};

/* Writes the settings file: `queues` are its sections. */
static void write_conf(struct fixture *f, const char *global, const char *queues)
{
	FILE *file = fopen(f->conf, "w");

	assert_non_null(file);
	fprintf(file, "[pgmqd]\nlog_format = json\nlog_level = debug\ntemplate_dir = %s\nplugin_dir = %s\n%s%s\n%s",
		f->dir, f->dir, strstr(global, "http_listen") == NULL ? "http_listen = 127.0.0.1:1\n" : "", global,
		queues);
	fclose(file);
	chmod(f->conf, 0600);
}

/* Starts a supervisor on the settings file. */
static void start(struct fixture *f, const char *global, const char *queues)
{
	struct settings *s;
	char *errors = NULL;
	int p[2];

	write_conf(f, global, queues);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	f->pid = fork();
	assert_int_not_equal(f->pid, -1);
	if (f->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(p[1], STDERR_FILENO);
		(void)!open("/dev/null", O_RDONLY); /* one that children must not get */
		setenv("NOTIFY_SOCKET", f->notify, 1);
		setenv("WATCHDOG_USEC", "1000000", 1);
		log_setup(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON);
		if ((s = settings_load(f->conf, &errors)) == NULL) {
			log_error("%s", errors);
			_exit(99);
		}
		exit(supervisor_run(s, &fake_roles));
	}
	close(p[1]);
	f->log = p[0];
}

/* Whether this runs under valgrind, where a worker may need longer than the second that it is given to leave at once.
 */
static bool under_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

/* Milliseconds of CLOCK_MONOTONIC. */
static int64_t now_ms(void)
{
	return clock_monotonic_ms();
}

/* Reads what the log has to offer within `timeout`; false at its end or when nothing came. */
static bool read_log(struct fixture *f, int64_t timeout)
{
	struct pollfd p = { .fd = f->log, .events = POLLIN };
	char *end;
	ssize_t n;

	if (poll(&p, 1, (int)timeout) != 1)
		return false;
	n = read(f->log, f->buf + f->len, sizeof f->buf - 1 - f->len);
	if (n <= 0)
		return false;
	f->len += (size_t)n;
	f->buf[f->len] = '\0';
	while ((end = strchr(f->buf, '\n')) != NULL) {
		*end = '\0';
		if (getenv("SHOW_LOG") != NULL)
			printf("    %s\n", f->buf);
		cJSON *record = cJSON_Parse(f->buf);

		if (record != NULL)
			cJSON_AddItemToArray(f->records, record);
		else
			printf("    not JSON: %s\n", f->buf); /* a sanitizer's report, say */
		f->len -= (size_t)(end + 1 - f->buf);
		memmove(f->buf, end + 1, f->len + 1);
	}
	return true;
}

/* A record's text or one of its fields; "" when it has none. */
static const char *field(const cJSON *record, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, name));

	return text != NULL ? text : "";
}

/* A record's number. */
static int number(const cJSON *record, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(record, name);

	return cJSON_IsNumber(item) ? item->valueint : -1;
}

/* The next record, behind those that were waited for before, with `text` in its text and (if not NULL) "up" = `who`. */
static const cJSON *wait_record(struct fixture *f, const char *text, const char *who)
{
	int64_t until = now_ms() + PATIENCE_MS;
	const cJSON *r;
	int i = f->seen;

	for (;;) {
		for (; i < cJSON_GetArraySize(f->records); i++) {
			r = cJSON_GetArrayItem(f->records, i);
			if (strstr(field(r, "text"), text) != NULL &&
				(who == NULL || strcmp(field(r, "up"), who) == 0)) {
				f->seen = i + 1;
				return r;
			}
		}
		if (!read_log(f, until - now_ms() > 0 ? until - now_ms() : 0)) {
			for (i = cJSON_GetArraySize(f->records) - 30; i < cJSON_GetArraySize(f->records); i++)
				if (i >= 0)
					printf("    %s: %s\n", field(cJSON_GetArrayItem(f->records, i), "process"),
						field(cJSON_GetArrayItem(f->records, i), "text"));
			fail_msg("no \"%s\" of %s in the log, which ends as above", text, who != NULL ? who : "anyone");
		}
	}
}

/* How often a text came so far, of `who` if not NULL. */
static int count_records(const struct fixture *f, const char *text, const char *who)
{
	const cJSON *r;
	int n = 0;

	cJSON_ArrayForEach(r, f->records) if (strstr(field(r, "text"), text) != NULL &&
					      (who == NULL || strcmp(field(r, "up"), who) == 0)) n++;
	return n;
}

/* The process id of the newest process of `who`. */
static pid_t newest(const struct fixture *f, const char *who)
{
	const cJSON *r;
	pid_t pid = -1;

	cJSON_ArrayForEach(r, f->records) if (strcmp(field(r, "up"), who) == 0) pid = number(r, "pid");
	return pid;
}

/* The same, once it is another one than `than`: what a process says can come after what the supervisor says of it. */
static pid_t newer(struct fixture *f, const char *who, pid_t than)
{
	int64_t until = now_ms() + PATIENCE_MS;

	while (newest(f, who) == than && read_log(f, until - now_ms() > 0 ? until - now_ms() : 0))
		;
	return newest(f, who);
}

/* Waits for the end of the supervisor, and of all processes that it left behind (they become ours); returns its
 * status. */
static int wait_end(struct fixture *f)
{
	int64_t until = now_ms() + PATIENCE_MS;
	int status, result = -1;
	pid_t pid;

	while (read_log(f, PATIENCE_MS)) /* its end: no process has the write end any more */
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0 && now_ms() < until)
		if (pid == 0)
			poll(NULL, 0, 5); /* its stderr is closed, so it is about to end */
		else if (pid == f->pid)
			result = status;
	if (pid != -1)
		fail_msg("a process is left");
	f->pid = 0;
	return result;
}

/* SIGTERM, and the orderly end. */
static void stop(struct fixture *f)
{
	int status;

	assert_int_equal(kill(f->pid, SIGTERM), 0);
	status = wait_end(f);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Waits for a notification that begins with `text`, past any others. */
static void wait_notified(struct fixture *f, const char *text)
{
	struct pollfd p = { .fd = f->notified, .events = POLLIN };
	int64_t until = now_ms() + PATIENCE_MS;
	char buf[1024];
	ssize_t n;

	do {
		if (until <= now_ms() || poll(&p, 1, (int)(until - now_ms())) != 1)
			fail_msg("systemd was never told %s", text);
		n = recv(f->notified, buf, sizeof buf - 1, 0);
		assert_true(n >= 0);
		buf[n] = '\0';
	} while (strncmp(buf, text, strlen(text)) != 0);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof *f);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	strcpy(f->dir, "/tmp/pgmqd-supervisor-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->conf, sizeof f->conf, "%s/pgmqd.conf", f->dir);
	snprintf(f->notify, sizeof f->notify, "%s/notify", f->dir);
	strcpy(sun.sun_path, f->notify);
	f->notified = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (f->notified == -1 || bind(f->notified, (struct sockaddr *)&sun, sizeof sun) == -1)
		return -1;
	f->records = cJSON_CreateArray();
	f->log = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char file[160];
	FILE *children;
	int pid;

	/* After a failure something may still live; the supervisor first, since then its children become ours. */
	if (f->pid > 0) {
		(void)kill(f->pid, SIGKILL);
		(void)waitpid(f->pid, NULL, 0);
	}
	snprintf(file, sizeof file, "/proc/self/task/%d/children", (int)getpid());
	if ((children = fopen(file, "r")) != NULL) {
		while (fscanf(children, "%d", &pid) == 1)
			(void)kill((pid_t)pid, SIGKILL);
		fclose(children);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (f->log != -1)
		close(f->log);
	close(f->notified);
	snprintf(file, sizeof file, "%s/pgmqd-ok-plugin.so", f->dir);
	unlink(file);
	unlink(f->conf);
	unlink(f->notify);
	rmdir(f->dir);
	cJSON_Delete(f->records);
	free(f);
	return 0;
}

#define QUEUE(name, plugin) "[queue " name "]\nplugin = " plugin "\n"

/* ---- the tests ---- */

/* Everyone is started, with nothing inherited by accident, and everyone leaves. */
static void test_start_and_stop(void **state)
{
	struct fixture *f = *state;
	const cJSON *ready;
	char path[64], comm[32] = "";
	FILE *file;

	start(f, "",
		QUEUE("mails", "ok") QUEUE("many", "ok") "processes = 2\n" QUEUE("small", "ok") "group = g\n" QUEUE(
			"tiny", "ok") "group = g\n");
	ready = wait_record(f, "ready", NULL);
	assert_int_equal(number(ready, "workers"), 4);
	assert_int_equal(number(ready, "retrying"), 0);
	f->seen = 0;
	assert_int_equal(number(wait_record(f, "up", "listener"), "fds"), 5); /* the parent's pipe and four units */
	f->seen = 0;
	assert_int_equal(number(wait_record(f, "up", "mails"), "fds"), 2); /* the parent's pipe and its own */
	f->seen = 0;
	assert_int_equal(number(wait_record(f, "up", "control"), "fds"), 1);
	assert_true(newest(f, "many/1") > 0 && newest(f, "many/2") > 0 && newest(f, "group:g") > 0);
	snprintf(path, sizeof path, "/proc/%d/comm", (int)newest(f, "mails"));
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(comm, sizeof comm, file));
	fclose(file);
	assert_string_equal(comm, "worker mails\n");
	wait_notified(f, "READY=1\nMAINPID=");
	wait_notified(f, "WATCHDOG=1");
	stop(f);
	wait_notified(f, "STOPPING=1");
}

/* A killed worker comes back, its neighbour notices nothing, and both sides of the wake pipe survive. */
static void test_killed_worker(void **state)
{
	struct fixture *f = *state;
	const cJSON *death;
	pid_t killed, other;

	start(f, "", QUEUE("a", "ok") QUEUE("b", "ok"));
	wait_record(f, "ready", NULL);
	killed = newest(f, "a");
	other = newest(f, "b");
	assert_int_equal(kill(killed, SIGKILL), 0);
	death = wait_record(f, "was killed by SIGKILL", NULL);
	assert_string_equal(field(death, "signal"), "SIGKILL");
	assert_string_equal(field(death, "queues"), "a");
	assert_string_equal(field(death, "level"), "error");
	assert_int_not_equal(number(wait_record(f, "up", "a"), "pid"), killed);
	assert_int_equal(newest(f, "b"), other);
	assert_int_equal(kill(newest(f, "listener"), SIGKILL), 0);
	wait_record(f, "up", "listener");
	wait_record(f, "woken", NULL);
	wait_record(f, "woken", NULL);
	assert_int_equal(count_records(f, "up", "b"), 1);
	stop(f);
}

/* A worker that always crashes is slowed down, and told of once as what it is. */
static void test_crash_loop(void **state)
{
	struct fixture *f = *state;
	pid_t other;

	start(f, "", QUEUE("good", "ok") QUEUE("bad", "crash") QUEUE("gone", "nothing"));
	assert_int_equal(number(wait_record(f, "ready", NULL), "retrying"), 2);
	other = newest(f, "good");
	wait_record(f, "worker bad (", NULL);
	f->seen = 0;
	wait_record(f, "death number 5 within a minute", NULL);
	wait_record(f, "death number 5 within a minute", NULL);
	assert_int_equal(count_records(f, "up", "bad"), CHILD_DEATHS);
	assert_int_equal(count_records(f, "up", "gone"), CHILD_DEATHS);
	assert_int_equal(newest(f, "good"), other);
	f->seen = 0;
	assert_string_equal(field(wait_record(f, "worker bad (", NULL), "signal"), "SIGABRT");
	f->seen = 0;
	assert_int_equal(number(wait_record(f, "worker gone (", NULL), "exit"), 0);
	stop(f);
	assert_int_equal(count_records(f, "up", "bad"), CHILD_DEATHS);
}

/* A worker that cannot work as it is configured waits for better settings, which a reload brings. */
static void test_config_error_and_reload(void **state)
{
	struct fixture *f = *state;
	pid_t other;

	start(f, "", QUEUE("good", "ok") QUEUE("bad", "config"));
	assert_int_equal(number(wait_record(f, "ready", NULL), "retrying"), 1);
	other = newest(f, "good");
	assert_int_equal(count_records(f, "worker bad cannot work as it is configured", NULL), 1);
	assert_int_equal(count_records(f, "up", "bad"), 1);
	/* The same settings again: another try, although nothing changed. */
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	wait_record(f, "up", "bad");
	wait_record(f, "worker bad cannot work as it is configured", NULL);
	write_conf(f, "", QUEUE("good", "ok") QUEUE("bad", "ok"));
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	wait_record(f, "up", "bad");
	assert_int_equal(number(wait_record(f, "reloaded", NULL), "retrying"), 0);
	assert_int_equal(newest(f, "good"), other);
	stop(f);
}

/* A worker that gives no sign of life is replaced. */
static void test_watchdog(void **state)
{
	struct fixture *f = *state;
	pid_t hung;

	start(f, "watchdog = 1s\ndrain_timeout = 100ms\n", QUEUE("good", "ok") QUEUE("bad", "hang"));
	wait_record(f, "ready", NULL);
	hung = newest(f, "bad");
	wait_record(f, "has given no sign of life", NULL);
	wait_record(f, "was killed by SIGKILL of the supervisor", NULL);
	assert_int_not_equal(number(wait_record(f, "up", "bad"), "pid"), hung);
	assert_int_equal(count_records(f, "up", "good"), 1);
	assert_int_equal(count_records(f, "up", "listener"), 1);
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	wait_end(f);
}

/* Who does not leave within drain_timeout is killed, and the status says that the end was not an orderly one. */
static void test_stubborn_worker(void **state)
{
	struct fixture *f = *state;
	int status;

	start(f, "drain_timeout = 100ms\n", QUEUE("good", "ok") QUEUE("bad", "stubborn"));
	wait_record(f, "ready", NULL);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	wait_record(f, "has not left in time", NULL);
	status = wait_end(f);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

/* The second SIGTERM is passed on to workers that still drain. */
static void test_second_sigterm(void **state)
{
	struct fixture *f = *state;
	int status;

	start(f, "drain_timeout = 1h\n", QUEUE("slow", "twice"));
	wait_record(f, "ready", NULL);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	wait_record(f, "asked to leave", NULL); /* else the two would be one signal to it */
	assert_int_equal(kill(f->pid, SIGINT), 0);
	wait_record(f, "stopping at once", NULL);
	status = wait_end(f);
	assert_true(
		WIFEXITED(status) &&
		(WEXITSTATUS(status) == 0 || (under_valgrind() && count_records(f, "has not left in time", NULL) > 0)));
}

/* A worker that drains by older, longer settings when the end comes is told in time, and not killed. */
static void test_shorter_drain(void **state)
{
	struct fixture *f = *state;
	int status;

	start(f, "drain_timeout = 1h\n", QUEUE("slow", "twice"));
	wait_record(f, "ready", NULL);
	write_conf(f, "drain_timeout = 100ms\n", QUEUE("slow", "ok"));
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	wait_record(f, "asked to leave", NULL);
	wait_record(f, "reloaded", NULL);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	status = wait_end(f);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* When the supervisor is killed, nobody stays: not even a worker that hangs, in the end. */
static void test_killed_supervisor(void **state)
{
	struct fixture *f = *state;
	int status;

	start(f, "watchdog = 1s\n", QUEUE("good", "ok") QUEUE("bad", "hang"));
	wait_record(f, "ready", NULL);
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	status = wait_end(f);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The kernel tells the children of a killed supervisor, even those that do not look. */
static void test_killed_supervisor_of_a_lone_worker(void **state)
{
	struct fixture *f = *state;

	start(f, "watchdog = 0\n", QUEUE("lone", "lone"));
	wait_record(f, "ready", NULL);
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	wait_end(f);
}

/* A worker that is still connecting holds "ready" up for a while only, and is named. */
static void test_slow_worker(void **state)
{
	struct fixture *f = *state;

	start(f, "", QUEUE("slow", "slow"));
	assert_string_equal(field(wait_record(f, "worker slow is not ready yet (connecting)", NULL), "level"), "warn");
	assert_int_equal(number(wait_record(f, "ready", NULL), "retrying"), 1);
	stop(f);
}

/* New settings replace what they change and leave the rest alone; bad ones change nothing. */
static void test_reload(void **state)
{
	struct fixture *f = *state;
	pid_t kept, changed, removed, listener, control;
	char path[160], text[512];
	FILE *file;

	snprintf(path, sizeof path, "%s/pgmqd-ok-plugin.so", f->dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
	start(f, "", QUEUE("kept", "twice") QUEUE("changed", "ok") QUEUE("removed", "ok"));
	wait_record(f, "ready", NULL);
	wait_notified(f, "READY=1");
	/* "ready" comes after 5 s in any case, so on a busy machine some may not be up yet */
	kept = newer(f, "kept", -1);
	changed = newer(f, "changed", -1);
	removed = newer(f, "removed", -1);
	listener = newer(f, "listener", -1);
	control = newer(f, "control", -1);

	write_conf(f, "no_such_option = 1\n", QUEUE("kept", "ok"));
	kill(f->pid, SIGHUP);
	wait_notified(f, "RELOADING=1\nMONOTONIC_USEC=");
	snprintf(text, sizeof text, "%s:", f->conf);
	wait_record(f, text, NULL);
	wait_record(f, "reload refused", NULL);
	wait_notified(f, "READY=1");
	write_conf(f, "", QUEUE("kept", "broken"));
	kill(f->pid, SIGHUP);
	wait_record(f, "reload refused", NULL);
	assert_int_equal(newest(f, "kept"), kept);
	assert_int_equal(newest(f, "removed"), removed);
	assert_int_equal(newest(f, "listener"), listener);
	assert_int_equal(newest(f, "control"), control);

	write_conf(f, "", QUEUE("kept", "twice") QUEUE("added", "ok") QUEUE("changed", "ok") "max_in_flight = 3\n");
	kill(f->pid, SIGHUP);
	assert_int_equal(number(wait_record(f, "reloaded", NULL), "generation"), 2);
	wait_notified(f, "READY=1");
	assert_int_equal(newest(f, "kept"), kept);
	assert_int_not_equal(newer(f, "changed", changed), changed);
	assert_int_not_equal(newer(f, "listener", listener), listener);
	assert_int_not_equal(newer(f, "control", control), control);
	assert_true(newer(f, "added", -1) > 0);
	assert_int_equal(count_records(f, "up", "removed"), 1);
	while (kill(removed, 0) == 0 ||
		kill(changed, 0) == 0) /* reaped by the supervisor, at the latest when it is stopped */
		poll(NULL, 0, 10);

	/* The plugin's file is another one now: only its worker is replaced, and the file that is gone does not
	 * matter. */
	changed = newest(f, "changed");
	assert_int_equal(unlink(path), 0);
	kill(f->pid, SIGHUP);
	assert_int_equal(number(wait_record(f, "reloaded", NULL), "generation"), 3);
	assert_int_not_equal(newer(f, "changed", changed), changed);
	assert_int_equal(newest(f, "kept"), kept);

	/* A global option that workers read replaces all; HTTP alone none. */
	changed = newest(f, "changed");
	write_conf(f, "http_listen = off\ncore_dumps = yes\n",
		QUEUE("kept", "twice") QUEUE("added", "ok") QUEUE("changed", "ok") "max_in_flight = 3\n");
	kill(f->pid, SIGHUP);
	wait_record(f, "core_dumps has changed", NULL);
	wait_record(f, "reloaded", NULL);
	assert_int_equal(newest(f, "changed"), changed);
	write_conf(f, "channel = other\ndrain_timeout = 100ms\n",
		QUEUE("added", "ok") QUEUE("changed", "ok") "max_in_flight = 3\n");
	kill(f->pid, SIGHUP);
	wait_record(f, "reloaded", NULL);
	assert_int_not_equal(newer(f, "changed", changed), changed);
	kill(kept, SIGTERM); /* it drains, and waits for its second one */
	while (kill(kept, 0) == 0)
		poll(NULL, 0, 10);
	stop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start_and_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_config_error_and_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watchdog, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stubborn_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_second_sigterm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shorter_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_supervisor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_supervisor_of_a_lone_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
	};

	/* What a killed supervisor leaves behind becomes ours, so that it can be waited for. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	unsetenv("JOURNAL_STREAM");
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
