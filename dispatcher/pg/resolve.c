/* resolve.c: looks up a host's addresses without holding up the event loop.
 *
 * getaddrinfo() blocks for as long as the resolver likes, and only it knows all that /etc/nsswitch.conf may name. So a
 * short-lived process calls it and writes the addresses into a pipe. Cancelling kills the process.
 */
#include "config.h"

#include "pg/resolve.h"

#include "base/loop.h"
#include "base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESOLVE_MAX 4096 /* bytes of an answer: some eighty addresses */

struct resolve {
	pid_t pid;
	int fd;
	struct event *readable;
	resolve_cb cb;
	void *arg;
	size_t len;
	char text[RESOLVE_MAX];
};

/* Writes all of a text; the reader may be gone, then there is nothing left to do. */
static void resolve_write(int fd, const char *text)
{
	size_t len = strlen(text);

	for (ssize_t n; len > 0 && (n = write(fd, text, len)) > 0; len -= (size_t)n)
		text += n;
}

/* The process: the addresses, or "!" and what is wrong. */
static void resolve_child(const char *host, int fd)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL;
	int error;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = fd == 3 ? fd : dup2(fd, 3);
#ifdef HAVE_CLOSE_RANGE
	(void)close_range(4, ~0U, 0);
#endif
	error = getaddrinfo(host, NULL, &hints, &list);
	if (error) {
		resolve_write(fd, "!");
		resolve_write(fd, error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
	}
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		char text[NI_MAXHOST];

		if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0) {
			resolve_write(fd, text);
			resolve_write(fd, "\n");
		}
	}
	_exit(0);
}

/* Ends the process, if it has not ended, and frees all. */
static void resolve_free(struct resolve *r)
{
	kill(r->pid, SIGKILL);
	while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
		;
	event_free(r->readable);
	close(r->fd);
	free(r);
}

/* The process has written, or has ended. */
static void resolve_read(evutil_socket_t fd, short what, void *arg)
{
	struct resolve *r = arg;
	ssize_t n = read(fd, r->text + r->len, sizeof(r->text) - 1 - r->len);
	resolve_cb cb = r->cb;
	void *cb_arg = r->arg;
	char *text;

	(void)what;
	if (n > 0) {
		r->len += (size_t)n;
		if (r->len < sizeof(r->text) - 1)
			return;
	} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	r->text[r->len] = '\0';
	text = xstrdup(r->text);
	resolve_free(r);
	if (*text == '!' || !*text)
		cb(cb_arg, NULL, *text ? text + 1 : "the process that looks it up has died");
	else
		cb(cb_arg, text, NULL);
	free(text);
}

struct resolve *resolve_start(struct event_base *base, const char *host, resolve_cb cb, void *arg)
{
	struct resolve *r;
	sigset_t all, old;
	int fds[2], error;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return NULL;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old); /* no handler of ours may run in the new process */
	pid = fork();
	if (pid == 0) {
		for (int i = 1; i < NSIG; i++)
			signal(i, SIG_DFL);
		sigprocmask(SIG_SETMASK, &old, NULL);
		resolve_child(host, fds[1]);
	}
	error = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		errno = error;
		return NULL;
	}
	r = xcalloc(1, sizeof(*r));
	r->pid = pid;
	r->fd = fds[0];
	r->cb = cb;
	r->arg = arg;
	fcntl(r->fd, F_SETFL, O_NONBLOCK);
	r->readable = loop_event(base, r->fd, EV_READ | EV_PERSIST, resolve_read, r);
	loop_add(r->readable, NULL);
	return r;
}

void resolve_cancel(struct resolve *r)
{
	if (r)
		resolve_free(r);
}
