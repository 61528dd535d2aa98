/* test_supervisor.c: the supervisor with children that crash, hang and exit to order (fake_children.c).
 *
 * Each test runs supervisor_run() in a process of its own; all that is seen of it is its log and its processes. */
#include "config.h"

#include "supervised.h"

#include "supervisor/child.h"
#include "supervisor/supervisor.h"

#include <cjson/cJSON.h>
#include <errno.h>
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define QUEUE(name, plugin) "[queue " name "]\nplugin = " plugin "\n"

/* Everyone is started, with nothing inherited by accident, and everyone leaves. */
static void test_start_and_stop(void **state)
{
	struct supervised *f = *state;
	const cJSON *ready;
	char path[64], comm[32] = "";
	FILE *file;

	supervised_start(f, "",
		QUEUE("mails", "ok") QUEUE("many", "ok") "processes = 2\n" QUEUE("small", "ok") "group = g\n" QUEUE(
			"tiny", "ok") "group = g\n");
	ready = supervised_wait_ready(f);
	assert_int_equal(supervised_number(ready, "workers"), 4);
	assert_int_equal(supervised_number(ready, "retrying"), 0);
	f->seen = 0;
	assert_int_equal(supervised_number(supervised_wait_record(f, "up", "listener"), "fds"),
		5); /* the parent's pipe and four units */
	f->seen = 0;
	assert_int_equal(supervised_number(supervised_wait_record(f, "up", "mails"), "fds"),
		2); /* the parent's pipe and its own */
	f->seen = 0;
	assert_int_equal(supervised_number(supervised_wait_record(f, "up", "control"), "fds"), 1);
	assert_true(supervised_newest(f, "many/1") > 0 && supervised_newest(f, "many/2") > 0 &&
		    supervised_newest(f, "group:g") > 0);
	snprintf(path, sizeof path, "/proc/%d/comm", (int)supervised_newest(f, "mails"));
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(comm, sizeof comm, file));
	fclose(file);
	assert_string_equal(comm, "worker mails\n");
	supervised_wait_notified(f, "READY=1\nMAINPID=");
	supervised_wait_notified(f, "WATCHDOG=1");
	supervised_stop(f);
	supervised_wait_notified(f, "STOPPING=1");
}

/* A killed worker comes back, its neighbour notices nothing, and both sides of the wake pipe survive. */
static void test_killed_worker(void **state)
{
	struct supervised *f = *state;
	const cJSON *death;
	pid_t killed, other;

	supervised_start(f, "", QUEUE("a", "ok") QUEUE("b", "ok"));
	supervised_wait_ready(f);
	killed = supervised_newest(f, "a");
	other = supervised_newest(f, "b");
	assert_int_equal(kill(killed, SIGKILL), 0);
	death = supervised_wait_record(f, "was killed by SIGKILL", NULL);
	assert_string_equal(supervised_field(death, "signal"), "SIGKILL");
	assert_string_equal(supervised_field(death, "queues"), "a");
	assert_string_equal(supervised_field(death, "level"), "error");
	assert_int_not_equal(supervised_number(supervised_wait_record(f, "up", "a"), "pid"), killed);
	assert_int_equal(supervised_newest(f, "b"), other);
	assert_int_equal(kill(supervised_newest(f, "listener"), SIGKILL), 0);
	supervised_wait_record(f, "up", "listener");
	supervised_wait_record(f, "woken", NULL);
	supervised_wait_record(f, "woken", NULL);
	assert_int_equal(supervised_count_records(f, "up", "b"), 1);
	supervised_stop(f);
}

/* A worker that always crashes is slowed down, and told of once as what it is. */
static void test_crash_loop(void **state)
{
	struct supervised *f = *state;
	pid_t other;

	supervised_start(f, "", QUEUE("good", "ok") QUEUE("bad", "crash") QUEUE("gone", "nothing"));
	assert_int_equal(supervised_number(supervised_wait_ready(f), "retrying"), 2);
	other = supervised_newest(f, "good");
	supervised_wait_record(f, "worker bad (", NULL);
	f->seen = 0;
	supervised_wait_record(f, "death number 5 within a minute", NULL);
	supervised_wait_record(f, "death number 5 within a minute", NULL);
	assert_int_equal(supervised_count_records(f, "up", "bad"), CHILD_DEATHS);
	assert_int_equal(supervised_count_records(f, "up", "gone"), CHILD_DEATHS);
	assert_int_equal(supervised_newest(f, "good"), other);
	f->seen = 0;
	assert_string_equal(supervised_field(supervised_wait_record(f, "worker bad (", NULL), "signal"), "SIGABRT");
	f->seen = 0;
	assert_int_equal(supervised_number(supervised_wait_record(f, "worker gone (", NULL), "exit"), 0);
	supervised_stop(f);
	assert_int_equal(supervised_count_records(f, "up", "bad"), CHILD_DEATHS);
}

/* A worker that cannot work as it is configured waits for better settings, which a reload brings. */
static void test_config_error_and_reload(void **state)
{
	struct supervised *f = *state;
	pid_t other;

	supervised_start(f, "", QUEUE("good", "ok") QUEUE("bad", "config"));
	supervised_wait_record(f, "worker bad cannot work as it is configured", NULL);
	f->seen = 0; /* either may come first */
	assert_int_equal(supervised_number(supervised_wait_ready(f), "retrying"), 1);
	other = supervised_newer(f, "good", -1);
	assert_int_equal(supervised_count_records(f, "up", "bad"), 1);
	/* The same settings again: another try, although nothing changed. */
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	supervised_wait_record(f, "up", "bad");
	supervised_wait_record(f, "worker bad cannot work as it is configured", NULL);
	supervised_write_conf(f, "", QUEUE("good", "ok") QUEUE("bad", "ok"));
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	supervised_wait_record(f, "up", "bad");
	assert_int_equal(supervised_number(supervised_wait_record(f, "reloaded", NULL), "retrying"), 0);
	assert_int_equal(supervised_newest(f, "good"), other);
	supervised_stop(f);
	assert_int_equal(supervised_count_records(f, "up", "bad"), 3);
}

/* A worker that gives no sign of life is replaced. */
static void test_watchdog(void **state)
{
	struct supervised *f = *state;
	pid_t hung;

	supervised_start(f, "watchdog = 1s\ndrain_timeout = 100ms\n",
		QUEUE("good", "ok") QUEUE("bad", "hang") QUEUE("wrong", "config"));
	supervised_wait_ready(f);
	hung = supervised_newest(f, "bad");
	supervised_wait_record(f, "has given no sign of life", NULL);
	supervised_wait_record(f, "was killed by SIGKILL of the supervisor", NULL);
	assert_int_not_equal(supervised_number(supervised_wait_record(f, "up", "bad"), "pid"), hung);
	assert_int_equal(supervised_count_records(f, "up", "good"), 1);
	assert_int_equal(supervised_count_records(f, "up", "listener"), 1);
	assert_int_equal(supervised_count_records(f, "up", "wrong"), 1); /* nor is it time for that one again */
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	supervised_wait_end(f);
}

/* Where our own watchdog is off, systemd's is no longer fed while a worker hangs; and again when another has come. */
static void test_hung_worker_and_systemd(void **state)
{
	struct supervised *f = *state;

	supervised_start(f, "watchdog = 0\ndrain_timeout = 100ms\n", QUEUE("bad", "hang"));
	supervised_wait_ready(f);
	supervised_wait_notified(f, "WATCHDOG=1");
	supervised_wait_silence(f, "WATCHDOG=1", 2000); /* it would come twice a second */
	assert_int_equal(kill(supervised_newest(f, "bad"), SIGKILL), 0);
	supervised_wait_notified(f, "WATCHDOG=1");
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	supervised_wait_end(f);
}

/* Who does not leave within drain_timeout is killed, and the status says that the end was not an orderly one. */
static void test_stubborn_worker(void **state)
{
	struct supervised *f = *state;
	int status;

	supervised_start(f, "drain_timeout = 100ms\n", QUEUE("good", "ok") QUEUE("bad", "stubborn"));
	supervised_wait_ready(f);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	supervised_wait_record(f, "has not left in time", NULL);
	status = supervised_wait_end(f);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

/* The second SIGTERM is passed on to workers that still drain. */
static void test_second_sigterm(void **state)
{
	struct supervised *f = *state;

	supervised_start(f, "drain_timeout = 1h\n", QUEUE("slow", "twice"));
	supervised_wait_ready(f);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	supervised_wait_record(f, "asked to leave", NULL); /* else the two would be one signal to it */
	assert_int_equal(kill(f->pid, SIGINT), 0);
	supervised_wait_record(f, "stopping at once", NULL);
	supervised_wait_orderly_end(f);
}

/* The others leave when the last worker has: until then it hears of nothing without a listener. */
static void test_order_of_the_end(void **state)
{
	struct supervised *f = *state;

	supervised_start(f, "drain_timeout = 1h\n", QUEUE("slow", "twice"));
	supervised_wait_ready(f);
	supervised_newer(f, "listener", -1);
	supervised_newer(f, "control", -1);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	supervised_wait_record(f, "asked to leave", NULL);
	assert_int_equal(kill(supervised_newest(f, "slow"), SIGTERM), 0);
	supervised_wait_record(f, "worker slow (", NULL);
	supervised_wait_record(f, "goes", NULL);
	supervised_wait_record(f, "goes", NULL);
	supervised_wait_end(f);
}

/* A worker that drains by older, longer settings when the end comes is told in time, and not killed. */
static void test_shorter_drain(void **state)
{
	struct supervised *f = *state;

	supervised_start(f, "drain_timeout = 1h\n", QUEUE("slow", "twice"));
	supervised_wait_ready(f);
	supervised_write_conf(f, "drain_timeout = 100ms\n", QUEUE("slow", "ok"));
	assert_int_equal(kill(f->pid, SIGHUP), 0);
	supervised_wait_record(f, "asked to leave", NULL);
	supervised_wait_record(f, "reloaded", NULL);
	assert_int_equal(kill(f->pid, SIGTERM), 0);
	supervised_wait_orderly_end(f);
}

/* When the supervisor is killed, nobody stays: not even a worker that hangs, in the end. */
static void test_killed_supervisor(void **state)
{
	struct supervised *f = *state;
	int status;

	supervised_start(f, "watchdog = 1s\n", QUEUE("good", "ok") QUEUE("bad", "hang"));
	supervised_wait_ready(f);
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	status = supervised_wait_end(f);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* The kernel tells the children of a killed supervisor, even those that do not look. */
static void test_killed_supervisor_of_a_lone_worker(void **state)
{
	struct supervised *f = *state;

	supervised_start(f, "watchdog = 0\n", QUEUE("lone", "lone") QUEUE("bad", "crash"));
	supervised_wait_ready(f);
	f->seen = 0;
	for (int i = 0; i < 4; i++) /* some time passes */
		supervised_wait_record(f, "worker bad (", NULL);
	assert_int_equal(kill(f->pid, SIGKILL), 0);
	supervised_wait_end(f);
	assert_int_equal(supervised_count_records(f, "has given no sign of life", NULL), 0);
}

/* A worker that is still connecting holds "ready" up for a while only, and is named. */
static void test_slow_worker(void **state)
{
	struct supervised *f = *state;

	supervised_start(f, "", QUEUE("slow", "slow"));
	assert_string_equal(
		supervised_field(supervised_wait_record(f, "worker slow is not ready yet (connecting)", NULL), "level"),
		"warn");
	assert_int_equal(supervised_number(supervised_wait_ready(f), "retrying"), 1);
	supervised_stop(f);
}

/* New settings replace what they change and leave the rest alone; bad ones change nothing. */
static void test_reload(void **state)
{
	struct supervised *f = *state;
	pid_t kept, changed, removed, listener, control;
	char path[160], text[512];
	FILE *file;

	snprintf(path, sizeof path, "%s/pgmqd-ok-plugin.so", f->dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fclose(file);
	supervised_start(f, "", QUEUE("kept", "twice") QUEUE("changed", "ok") QUEUE("removed", "ok"));
	supervised_wait_ready(f);
	supervised_wait_notified(f, "READY=1");
	/* "ready" comes after 5 s in any case, so on a busy machine some may not be up yet */
	kept = supervised_newer(f, "kept", -1);
	changed = supervised_newer(f, "changed", -1);
	removed = supervised_newer(f, "removed", -1);
	listener = supervised_newer(f, "listener", -1);
	control = supervised_newer(f, "control", -1);

	supervised_write_conf(f, "no_such_option = 1\n", QUEUE("kept", "ok"));
	kill(f->pid, SIGHUP);
	supervised_wait_notified(f, "RELOADING=1\nMONOTONIC_USEC=");
	snprintf(text, sizeof text, "%s:", f->conf);
	supervised_wait_record(f, text, NULL);
	supervised_wait_record(f, "reload refused", NULL);
	supervised_wait_notified(f, "READY=1");
	supervised_write_conf(f, "", QUEUE("kept", "broken"));
	kill(f->pid, SIGHUP);
	supervised_wait_record(f, "reload refused", NULL);
	assert_int_equal(supervised_newest(f, "kept"), kept);
	assert_int_equal(supervised_newest(f, "removed"), removed);
	assert_int_equal(supervised_newest(f, "listener"), listener);
	assert_int_equal(supervised_newest(f, "control"), control);

	supervised_write_conf(
		f, "", QUEUE("kept", "twice") QUEUE("added", "ok") QUEUE("changed", "ok") "max_in_flight = 3\n");
	kill(f->pid, SIGHUP);
	assert_int_equal(supervised_number(supervised_wait_record(f, "reloaded", NULL), "generation"), 2);
	supervised_wait_notified(f, "READY=1");
	assert_int_equal(supervised_newest(f, "kept"), kept);
	assert_int_not_equal(supervised_newer(f, "changed", changed), changed);
	assert_int_not_equal(supervised_newer(f, "listener", listener), listener);
	assert_int_not_equal(supervised_newer(f, "control", control), control);
	assert_true(supervised_newer(f, "added", -1) > 0);
	assert_int_equal(supervised_count_records(f, "up", "removed"), 1);
	while (kill(removed, 0) == 0 ||
		kill(changed, 0) == 0) /* reaped by the supervisor, at the latest when it is stopped */
		poll(NULL, 0, 10);

	/* The plugin's file is another one now: only its worker is replaced, and the file that is gone does not
	 * matter. */
	changed = supervised_newest(f, "changed");
	assert_int_equal(unlink(path), 0);
	kill(f->pid, SIGHUP);
	assert_int_equal(supervised_number(supervised_wait_record(f, "reloaded", NULL), "generation"), 3);
	assert_int_not_equal(supervised_newer(f, "changed", changed), changed);
	assert_int_equal(supervised_newest(f, "kept"), kept);

	/* A global option that workers read replaces all; HTTP alone none. */
	changed = supervised_newest(f, "changed");
	supervised_write_conf(f, "http_listen = off\ncore_dumps = yes\n",
		QUEUE("kept", "twice") QUEUE("added", "ok") QUEUE("changed", "ok") "max_in_flight = 3\n");
	kill(f->pid, SIGHUP);
	supervised_wait_record(f, "core_dumps has changed", NULL);
	supervised_wait_record(f, "reloaded", NULL);
	assert_int_equal(supervised_newest(f, "changed"), changed);
	while (kill(supervised_newest(f, "control"), 0) == 0)
		poll(NULL, 0, 10);
	supervised_write_conf(f, "channel = other\ndrain_timeout = 100ms\n",
		QUEUE("added", "ok") QUEUE("changed", "ok") "max_in_flight = 3\n");
	kill(f->pid, SIGHUP);
	supervised_wait_record(f, "reloaded", NULL);
	assert_int_not_equal(supervised_newer(f, "changed", changed), changed);
	kill(kept, SIGTERM); /* it drains, and waits for its second one */
	while (kill(kept, 0) == 0)
		poll(NULL, 0, 10);
	supervised_stop(f);
}

/* The check of new settings: one that dies refuses them, and a reload that is asked for meanwhile comes after it. */
static void test_check_of_a_reload(void **state)
{
	struct supervised *f = *state;
	char go[80];
	pid_t kept;

	supervised_start(f, "", QUEUE("kept", "ok"));
	supervised_wait_ready(f);
	kept = supervised_newer(f, "kept", -1);
	supervised_write_conf(f, "", QUEUE("kept", "deadly"));
	kill(f->pid, SIGHUP);
	supervised_wait_record(f, "ended with signal 6: a plugin of theirs is broken", NULL);
	supervised_wait_record(f, "reload refused", NULL);
	assert_int_equal(supervised_newest(f, "kept"), kept);
	supervised_write_conf(f, "", QUEUE("kept", "lasting"));
	kill(f->pid, SIGHUP);
	supervised_wait_notified(f, "RELOADING=1\nMONOTONIC_USEC=");
	supervised_wait_notified(f, "RELOADING=1\nMONOTONIC_USEC=");
	kill(f->pid, SIGHUP);
	snprintf(go, sizeof go, "%s/go", f->dir);
	fclose(fopen(go, "w"));
	while (supervised_number(supervised_wait_record(f, "reloaded", NULL), "generation") < 3)
		; /* the first of the two is told of only if its worker was up before the second began */
	assert_int_equal(unlink(go), 0);
	supervised_stop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start_and_stop, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_killed_worker, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_crash_loop, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_config_error_and_reload, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_watchdog, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_hung_worker_and_systemd, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_stubborn_worker, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_second_sigterm, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_order_of_the_end, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_shorter_drain, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_killed_supervisor, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(
			test_killed_supervisor_of_a_lone_worker, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_slow_worker, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_reload, supervised_setup, supervised_teardown),
		cmocka_unit_test_setup_teardown(test_check_of_a_reload, supervised_setup, supervised_teardown),
	};

	/* What a killed supervisor leaves behind becomes ours, so that it can be waited for. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	unsetenv("JOURNAL_STREAM");
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
