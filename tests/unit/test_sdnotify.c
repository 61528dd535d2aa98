/* test_sdnotify.c: what systemd would receive, by a path and by an abstract name. */
#include "config.h"

#include "base/sdnotify.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

/* Opens the receiving end: "@name" is abstract. */
static int receiver(const char *name)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(sun.sun_path, name, strlen(name));
	if (name[0] == '@')
		sun.sun_path[0] = '\0';
	assert_int_not_equal(fd, -1);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, len), 0);
	return fd;
}

/* Sends one message to `name` and compares what arrives. */
static void round_trip(const char *name)
{
	int fd = receiver(name);
	char buf[256];
	ssize_t n;

	setenv("NOTIFY_SOCKET", name, 1);
	sdnotify_init();
	assert_int_equal(sdnotify_send("READY=1\nSTATUS=%d of %d", 2, 3), 0);
	n = recv(fd, buf, sizeof buf - 1, MSG_DONTWAIT);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf, "READY=1\nSTATUS=2 of 3");
	close(fd);
}

static void test_path(void **state)
{
	char dir[] = "/tmp/pgmqd-notify-XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/notify", dir);
	round_trip(path);
	/* The socket is still in its place, but nobody listens. */
	assert_int_equal(sdnotify_send("WATCHDOG=1"), -1);
	assert_int_equal(errno, ECONNREFUSED);
	unlink(path);
	rmdir(dir);
}

static void test_abstract_name(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof name, "@pgmqd-notify-%d", (int)getpid());
	round_trip(name);
}

static void test_environment_is_taken(void **state)
{
	char pid[32];

	(void)state;
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	setenv("NOTIFY_SOCKET", "/nowhere", 1);
	setenv("WATCHDOG_USEC", "30000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	sdnotify_init();
	assert_int_equal(sdnotify_watchdog_ms(), 30000);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
}

static void test_without_systemd(void **state)
{
	static const char *const useless[] = { "", "/", "@", "relative", "vsock:2:1234" };
	char longer[300];
	size_t i;

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	sdnotify_init();
	assert_int_equal(sdnotify_send("READY=1"), 0);
	assert_int_equal(sdnotify_watchdog_ms(), 0);
	for (i = 0; i < sizeof useless / sizeof useless[0]; i++) {
		setenv("NOTIFY_SOCKET", useless[i], 1);
		sdnotify_init();
		assert_int_equal(sdnotify_send("READY=1"), 0);
	}
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	longer[0] = '/';
	setenv("NOTIFY_SOCKET", longer, 1);
	sdnotify_init();
	assert_int_equal(sdnotify_send("READY=1"), 0);
}

static void test_watchdog_of_someone_else(void **state)
{
	static const char *const numbers[] = { "", "x", "-1", "12x", "99999999999999999999999" };
	size_t i;

	(void)state;
	setenv("WATCHDOG_USEC", "30000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	sdnotify_init();
	assert_int_equal(sdnotify_watchdog_ms(), 0);
	for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		setenv("WATCHDOG_USEC", numbers[i], 1);
		sdnotify_init();
		assert_int_equal(sdnotify_watchdog_ms(), 0);
	}
	setenv("WATCHDOG_USEC", "2000000", 1);
	sdnotify_init();
	assert_int_equal(sdnotify_watchdog_ms(), 2000);
}

static void test_too_long(void **state)
{
	char name[64], text[2000];
	int fd;

	(void)state;
	snprintf(name, sizeof name, "@pgmqd-notify-long-%d", (int)getpid());
	fd = receiver(name);
	setenv("NOTIFY_SOCKET", name, 1);
	sdnotify_init();
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(sdnotify_send("STATUS=%s", text), -1);
	assert_int_equal(errno, EMSGSIZE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_abstract_name),
		cmocka_unit_test(test_environment_is_taken),
		cmocka_unit_test(test_without_systemd),
		cmocka_unit_test(test_watchdog_of_someone_else),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
