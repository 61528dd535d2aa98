/* listen.c: opens the socket on which the control process serves HTTP: on loopback, in the file system, or, with a
 * token, elsewhere. */
#include "config.h"

#include "base/xalloc.h"
#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HTTP_LISTEN_BACKLOG 64

/* Whether only this machine reaches an address. */
static bool http_listen_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >> 24) == 127;
	return sa->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

/* Cuts HOST:PORT or [V6]:PORT apart. False when it is neither. */
static bool http_listen_split(const char *text, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(text, ':'), *from = text, *to = colon, *p;

	if (colon == NULL || colon[1] == '\0')
		return false;
	for (p = colon + 1; *p != '\0'; p++)
		if (*p < '0' || *p > '9')
			return false;
	if (strtoul(colon + 1, NULL, 10) > 65535 || p - colon > 6)
		return false;
	if (*text == '[') {
		if (colon[-1] != ']')
			return false;
		from++;
		to--;
	} else if (memchr(text, ':', (size_t)(colon - text)) != NULL)
		return false; /* ::1:8089 could mean two things */
	if ((size_t)(to - from) >= size)
		return false;
	memcpy(host, from, (size_t)(to - from));
	host[to - from] = '\0';
	*port = colon + 1;
	return true;
}

/* Binds and listens. */
static int http_listen_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	return bind(fd, sa, len) == -1 || listen(fd, HTTP_LISTEN_BACKLOG) == -1 ? -1 : 0;
}

/* Opens unix:/path. A socket file without a server is left over from a crash and is replaced. */
static char *http_listen_unix(struct http_listen *l, const char *text, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t mask;
	char *error;
	int r;

	if (path[0] != '/' || strlen(path) >= sizeof sun.sun_path)
		return xasprintf("http_listen %s: write unix:/absolute/path, of at most %zu bytes", text,
			sizeof sun.sun_path - 1);
	memcpy(sun.sun_path, path, strlen(path) + 1);
	if ((l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return xasprintf("http_listen %s: %s", text, strerror(errno));
	/* Connecting to a plain file is refused too, hence lstat(). */
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
		connect(l->fd, (struct sockaddr *)&sun, sizeof sun) == -1 && errno == ECONNREFUSED)
		(void)unlink(path);
	close(l->fd);
	if ((l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) == -1)
		return xasprintf("http_listen %s: %s", text, strerror(errno));
	mask = umask(0117);
	r = http_listen_bind(l->fd, (struct sockaddr *)&sun, sizeof sun);
	umask(mask);
	if (r == 0) {
		memcpy(l->path, path, strlen(path) + 1);
		return NULL;
	}
	error = errno == EADDRINUSE
	                ? xasprintf(
				  "http_listen %s: in use: another pgmqd serves there, or the path is no socket", text)
	                : xasprintf("http_listen %s: %s", text, strerror(errno));
	close(l->fd);
	l->fd = -1;
	return error;
}

/* Opens the socket, see listen.h. */
char *http_listen_open(struct http_listen *l, const char *text, bool token)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list, *a;
	const char *port;
	char *error = NULL;
	int r, on = 1;

	memset(l, 0, sizeof *l);
	l->fd = -1;
	l->local = true;
	if (strncmp(text, "unix:", 5) == 0)
		return http_listen_unix(l, text, text + 5);
	if (!http_listen_split(text, l->host, sizeof l->host, &port))
		return xasprintf("http_listen %s: write HOST:PORT, [ADDRESS]:PORT, unix:/path or off", text);
	if (l->host[0] == '\0')
		return xasprintf(
			"http_listen %s: without a host it would be open to everyone: write 127.0.0.1%s", text, text);
	if ((r = getaddrinfo(l->host, port, &hints, &list)) != 0)
		return xasprintf("http_listen %s: %s", text, gai_strerror(r));
	for (a = list; a != NULL && error == NULL; a = a->ai_next)
		if (!http_listen_loopback(a->ai_addr) && token)
			l->local = false;
		else if (!http_listen_loopback(a->ai_addr))
			error = xasprintf(
				"http_listen %s: not a loopback address: others could read and change the queues; "
				"set http_token, or write 127.0.0.1:%s and put a proxy in front that asks for a "
				"password",
				text, port);
	if (error == NULL) {
		a = list; /* of localhost's addresses the first one will do */
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): getaddrinfo() gives at least one */
		l->fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (l->fd == -1)
			error = xasprintf("http_listen %s: %s", text, strerror(errno));
		else if (setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == -1 ||
			 http_listen_bind(l->fd, a->ai_addr, a->ai_addrlen) == -1)
			error = xasprintf("http_listen %s: %s", text,
				errno == EADDRINUSE
					? "the port is in use: stop the other program (ss -ltnp) or choose another"
					: strerror(errno));
	}
	freeaddrinfo(list);
	if (error != NULL && l->fd != -1) {
		close(l->fd);
		l->fd = -1;
	}
	return error;
}

/* Removes the socket file. */
void http_listen_unlink(const struct http_listen *l)
{
	if (l->path[0] != '\0')
		(void)unlink(l->path);
}
