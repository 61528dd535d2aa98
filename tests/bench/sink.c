/* sink.c: an HTTP server that answers every request with 204 at once, as fast as one process can: the other side for
 * webhooks.
 *
 * It prints its port, and how many requests it has answered when its standard input ends.
 */
#include "config.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS 1024
#define ROOM 65536

static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
static unsigned long answered;

/* What has come of a request so far. */
static struct {
	char data[ROOM];
	size_t len;
} * inbox[CONNECTIONS];

/* Dies with errno. */
static int need(int rc, const char *what)
{
	if (rc < 0) {
		perror(what);
		exit(1);
	}
	return rc;
}

/* How long the first request in the buffer is; 0 when it is not all there. */
static size_t request_length(const char *data, size_t len)
{
	const char *end = memmem(data, len, "\r\n\r\n", 4), *length;
	size_t total;

	if (!end)
		return 0;
	length = strcasestr(data, "\r\nContent-Length:");
	total = (size_t)(end - data) + 4 + (length && length < end ? strtoul(length + 17, NULL, 10) : 0);
	return total <= len ? total : 0;
}

/* Answers what is there on a connection; closes it at its end. */
static void serve(int fd)
{
	ssize_t n = read(fd, inbox[fd]->data + inbox[fd]->len, ROOM - 1 - inbox[fd]->len);
	size_t one;

	if (n <= 0) {
		close(fd);
		return;
	}
	inbox[fd]->len += (size_t)n;
	inbox[fd]->data[inbox[fd]->len] = 0;
	while ((one = request_length(inbox[fd]->data, inbox[fd]->len)) != 0) {
		inbox[fd]->len -= one;
		memmove(inbox[fd]->data, inbox[fd]->data + one, inbox[fd]->len + 1);
		if (write(fd, answer, sizeof(answer) - 1) < 0)
			break;
		answered++;
	}
}

int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = need(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"),
	    poll = need(epoll_create1(EPOLL_CLOEXEC), "epoll");
	struct epoll_event e = { .events = EPOLLIN, .data.fd = listener }, ready[64];

	need(bind(listener, (struct sockaddr *)&a, sizeof(a)), "bind");
	need(listen(listener, 256), "listen");
	need(getsockname(listener, (struct sockaddr *)&a, &len), "getsockname");
	need(epoll_ctl(poll, EPOLL_CTL_ADD, listener, &e), "epoll");
	e.data.fd = 0;
	need(epoll_ctl(poll, EPOLL_CTL_ADD, 0, &e), "epoll");
	printf("%d\n", ntohs(a.sin_port));
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(poll, ready, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = ready[i].data.fd;

			if (fd == 0) {
				printf("%lu\n", answered);
				return 0;
			}
			if (fd != listener) {
				serve(fd);
				continue;
			}
			fd = need(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
			if (fd >= CONNECTIONS) {
				close(fd);
				continue;
			}
			if (!inbox[fd] && !(inbox[fd] = calloc(1, sizeof(*inbox[fd]))))
				return 1;
			inbox[fd]->len = 0;
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
			e.data.fd = fd;
			need(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e), "epoll");
		}
	}
}
