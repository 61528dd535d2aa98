/* sinkloop.c: a listening socket and its connections under one epoll, in one process. */
#include "config.h"

#include "sinkloop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Dies with errno. */
static int need(int rc, const char *what)
{
	if (rc < 0) {
		perror(what);
		exit(1);
	}
	return rc;
}

/* Has epoll tell of a descriptor. */
static void watch(int poll, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	need(epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e), "epoll");
}

/* Takes a connection in. */
static void take(const struct sink *s, int poll, int listener)
{
	int fd = need(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (fd < SINK_CONNECTIONS && s->greet(fd))
		watch(poll, fd);
	else
		close(fd);
}

void sinkloop_run(const struct sink *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = need(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"),
	    poll = need(epoll_create1(EPOLL_CLOEXEC), "epoll");
	struct epoll_event ready[64];

	need(bind(listener, (struct sockaddr *)&a, sizeof(a)), "bind");
	need(listen(listener, 256), "listen");
	need(getsockname(listener, (struct sockaddr *)&a, &len), "getsockname");
	watch(poll, listener);
	watch(poll, STDIN_FILENO);
	printf("%d\n", ntohs(a.sin_port));
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(poll, ready, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = ready[i].data.fd;

			if (fd == STDIN_FILENO)
				return;
			if (fd == listener)
				take(s, poll, listener);
			else if (!s->serve(fd))
				close(fd);
		}
	}
}
