/* sdnotify.c: sends state lines to the datagram socket that systemd names in NOTIFY_SOCKET. */
#include "config.h"

#include "base/sdnotify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un sdnotify_addr;
static socklen_t sdnotify_addr_len; /* 0: systemd does not listen */
static int64_t sdnotify_watchdog;   /* ms */

/* Reads a whole number of the environment; 0 when it is missing or something else. */
static unsigned long long sdnotify_env_number(const char *name)
{
	const char *text = getenv(name);
	unsigned long long value;
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return *end == '\0' && errno == 0 ? value : 0;
}

/* Takes over what systemd put into the environment. */
void sdnotify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	unsigned long long usec = sdnotify_env_number("WATCHDOG_USEC"), pid = sdnotify_env_number("WATCHDOG_PID");
	size_t len;

	sdnotify_addr_len = 0;
	sdnotify_watchdog = 0;
	/* The watchdog of another process, such as a wrapper, does not concern this one. */
	if (usec / 1000 <= INT64_MAX / 1000 && (getenv("WATCHDOG_PID") == NULL || pid == (unsigned long long)getpid()))
		sdnotify_watchdog = (int64_t)(usec / 1000);
	if (path != NULL && (path[0] == '/' || path[0] == '@') && path[1] != '\0') {
		len = strlen(path);
		if (len < sizeof sdnotify_addr.sun_path) {
			memset(&sdnotify_addr, 0, sizeof sdnotify_addr);
			sdnotify_addr.sun_family = AF_UNIX;
			memcpy(sdnotify_addr.sun_path, path, len);
			if (path[0] == '@')
				sdnotify_addr.sun_path[0] =
					'\0'; /* the abstract namespace; its names end with the length */
			sdnotify_addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
		}
	}
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

/* Formats and sends one datagram. */
int sdnotify_send(const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int fd, n, saved;
	ssize_t sent;

	if (sdnotify_addr_len == 0)
		return 0;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof text) {
		errno = EMSGSIZE;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	sent = sendto(
		fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&sdnotify_addr, sdnotify_addr_len);
	saved = errno;
	close(fd);
	errno = saved;
	return sent == n ? 0 : -1;
}

/* The watchdog's interval that was found by sdnotify_init(). */
int64_t sdnotify_watchdog_ms(void)
{
	return sdnotify_watchdog;
}
