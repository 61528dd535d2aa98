/* smtpsink.c: an SMTP server that takes every mail at once and notes when: "RECIPIENT REALTIME" (nanoseconds) as it
 * writes the 250 that ends a mail.
 *
 * It prints its port first, and ends when its standard input does. PIPELINING, no TLS.
 */
#include "config.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 1024
#define ROOM 262144

/* A conversation: what has come and is not answered yet, and the last recipient. */
struct talk {
	size_t len;
	bool data;
	char recipient[128], in[ROOM];
};
static struct talk *talks[CONNECTIONS];

/* Dies with errno. */
static int need(int rc, const char *what)
{
	if (rc < 0) {
		perror(what);
		exit(1);
	}
	return rc;
}

/* Nanoseconds of the wall clock. */
static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The answer to one line. */
static const char *answer(struct talk *t, const char *line)
{
	if (strncasecmp(line, "EHLO", 4) == 0)
		return "250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
	if (strncasecmp(line, "RCPT TO:<", 9) == 0)
		sscanf(line + 9, "%127[^>]", t->recipient);
	if (strncasecmp(line, "DATA", 4) == 0) {
		t->data = true;
		return "354 go on\r\n";
	}
	return strncasecmp(line, "QUIT", 4) == 0 ? "221 bye\r\n" : "250 ok\r\n";
}

/* Takes the first line, or the whole mail, off what has come; the answer, or NULL when it is not all there. */
static const char *take(struct talk *t)
{
	const char *mark = t->data ? "\r\n.\r\n" : "\r\n", *said = "250 taken\r\n";
	char *end = memmem(t->in, t->len, mark, strlen(mark));

	if (!end)
		return NULL;
	*end = '\0';
	if (t->data) {
		printf("%s %lld\n", t->recipient, now_ns());
		t->data = false;
	} else {
		said = answer(t, t->in);
	}
	end += strlen(mark);
	t->len -= (size_t)(end - t->in);
	memmove(t->in, end, t->len);
	return said;
}

/* Answers what is there on a connection, in one piece; closes it at its end. */
static void serve(int fd)
{
	struct talk *t = talks[fd];
	char out[4096];
	size_t len = 0;
	ssize_t n = read(fd, t->in + t->len, sizeof(t->in) - t->len);
	const char *said;

	if (n <= 0) {
		close(fd);
		return;
	}
	t->len += (size_t)n;
	while ((said = take(t)) && len + strlen(said) < sizeof(out)) {
		memcpy(out + len, said, strlen(said));
		len += strlen(said);
	}
	if (len && write(fd, out, len) < 0)
		close(fd);
}

/* Greets a new connection. */
static int greet(int listener)
{
	static const char greeting[] = "220 sink.example.test\r\n";
	int fd = need(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept"), on = 1;

	if (fd >= CONNECTIONS || (!talks[fd] && !(talks[fd] = malloc(sizeof(**talks)))) ||
		write(fd, greeting, sizeof(greeting) - 1) < 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	talks[fd]->len = 0;
	talks[fd]->data = false;
	return fd;
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

			if (fd == 0)
				return 0; /* which writes out what was noted */
			if (fd != listener) {
				serve(fd);
				continue;
			}
			e.data.fd = greet(listener);
			if (e.data.fd >= 0)
				need(epoll_ctl(poll, EPOLL_CTL_ADD, e.data.fd, &e), "epoll");
		}
	}
}
