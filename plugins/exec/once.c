/* once.c: a program for each message: the body on its standard input, the outcome by its exit status. */
#include "config.h"

#include "exec.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_FAIL 65     /* EX_DATAERR */
#define STATUS_RETRY 75    /* EX_TEMPFAIL */
#define HEADERS_MAX 100000 /* Linux takes 128 KiB in one variable */

struct run {
	struct exec *exec;
	struct pgmqd_msg *msg;
	struct pgmqd_child *child;
	int fds[3];
	struct event *ev[3];
	const char *body; /* not written yet; a newline follows it */
	size_t left;
	bool newline;
	struct tail out, err;
	struct err_log log;
	bool late; /* it was asked to end */
};

/* Closes one of the three pipes. */
static void run_close(struct run *r, int i)
{
	if (r->ev[i])
		event_free(r->ev[i]);
	r->ev[i] = NULL;
	if (r->fds[i] >= 0)
		close(r->fds[i]);
	r->fds[i] = -1;
}

/* Frees everything; the program has ended or is being ended. */
static void run_free(struct run *r)
{
	for (int i = 0; i < 3; i++)
		run_close(r, i);
	free(r);
}

/* The program takes more of the body. A program that does not want it all is free to do so. */
static void run_write(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;
	ssize_t n;

	(void)what;
	while (r->left) {
		n = write(fd, r->body, r->left);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			run_close(r, 0);
			return;
		}
		r->body += n;
		r->left -= (size_t)n;
		if (!r->left && !r->newline) {
			r->newline = true;
			r->body = "\n";
			r->left = 1;
		}
	}
	run_close(r, 0);
}

/* There is output; its end is kept. */
static void run_read(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;
	int i = fd == r->fds[1] ? 1 : 2;
	ssize_t n = read_tail(fd, i == 1 ? &r->out : &r->err, i == 2 ? &r->log : NULL, r->msg);

	(void)what;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		run_close(r, i);
}

/* Settles a message whose program was ended by us. */
static void run_out_of_time(struct run *r)
{
	pgmqd_retry(r->msg, 0, "the program was killed after %lld ms (timeout)%s%s", (long long)r->exec->timeout,
		r->err.len ? ": " : "", r->err.len ? tail_text(&r->err) : "");
}

/* The program has ended: its status is the outcome. */
static void run_exited(void *arg, int status)
{
	struct run *r = arg;
	struct pgmqd_msg *m = r->msg;
	const char *reason;
	char buf[64];

	for (int i = 1; i < 3; i++)
		while (r->fds[i] >= 0 &&
			read_tail(r->fds[i], i == 1 ? &r->out : &r->err, i == 2 ? &r->log : NULL, m) > 0)
			;
	err_log_end(&r->log, m);
	reason = r->err.len ? tail_text(&r->err) : tail_text(&r->out);
	if (!*reason)
		reason = status_text(status, buf);
	if (r->late && WIFSIGNALED(status))
		run_out_of_time(r);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		pgmqd_done(m);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_FAIL)
		pgmqd_fail(m, "%s", reason);
	else if (WIFEXITED(status) && WEXITSTATUS(status) != STATUS_RETRY && strcmp(r->exec->on_error, "fail") == 0)
		pgmqd_fail(m, "%s: %s", status_text(status, buf), reason == buf ? "no output" : reason);
	else
		pgmqd_retry(m, 0, "%s", reason);
	run_free(r);
}

/* The program does not end, though it was asked to. */
static void run_kill(void *arg)
{
	struct run *r = arg;

	pgmqd_child_end(r->child);
	run_out_of_time(r);
	run_free(r);
}

/* The program has had its time: it is asked to end, and its exit status still decides. */
static void run_late(void *arg)
{
	struct run *r = arg;

	r->late = true;
	pgmqd_child_signal(r->child, SIGTERM);
	pgmqd_msg_timer(r->msg, r->exec->kill_after, run_kill, r);
}

void once_deliver(struct exec *e, struct pgmqd_msg *m)
{
	struct run *r = need(calloc(1, sizeof(*r)));
	const char *headers = pgmqd_msg_headers(m);
	char *env[5] = { format("PGMQD_MSG_ID=%" PRId64, pgmqd_msg_id(m)),
		format("PGMQD_ATTEMPT=%u", pgmqd_msg_attempt(m)), format("PGMQD_QUEUE=%s", pgmqd_msg_queue(m)), NULL,
		NULL };
	int error;

	if (headers && strlen(headers) < HEADERS_MAX)
		env[3] = format("PGMQD_HEADERS=%s", headers);
	r->exec = e;
	r->msg = m;
	r->child = command_start(e, (const char *const *)(const void *)env, r->fds, run_exited, r);
	error = errno;
	for (int i = 0; env[i]; i++)
		free(env[i]);
	if (!r->child) {
		free(r);
		if (error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE)
			pgmqd_retry(m, 0, "cannot start %s: %s", e->argv[0], strerror(error));
		else
			pgmqd_config_error(m, "cannot start %s: %s", e->argv[0], strerror(error));
		return;
	}
	r->body = pgmqd_msg_text(m, &r->left);
	r->ev[0] = need(event_new(e->base, r->fds[0], EV_WRITE | EV_PERSIST, run_write, r));
	r->ev[1] = need(event_new(e->base, r->fds[1], EV_READ | EV_PERSIST, run_read, r));
	r->ev[2] = need(event_new(e->base, r->fds[2], EV_READ | EV_PERSIST, run_read, r));
	for (int i = 0; i < 3; i++)
		event_add(r->ev[i], NULL);
	pgmqd_msg_data_set(m, r);
	pgmqd_msg_timer(m, e->timeout, run_late, r);
}

void once_cancel(struct pgmqd_msg *m)
{
	struct run *r = pgmqd_msg_data(m);

	pgmqd_child_end(r->child);
	run_free(r);
}
