/* once.c: a program for each message: the body on its standard input, the outcome by its exit status. A batch is an
 * array of messages on its standard input; its standard output is the array of their outcomes. */
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
	struct batch *batch; /* one message, or those that are an `array` */
	bool array;
	char *made; /* the array */
	struct text answer;
	struct pgmqd_timer *timer;
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

/* The one message, for the log; NULL when there are many. */
static struct pgmqd_msg *run_msg(const struct run *r)
{
	return r->array ? NULL : r->batch->msgs[0];
}

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
	pgmqd_timer_cancel(r->timer);
	free(r->batch);
	free(r->made);
	free(r->answer.buf);
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

/* Reads what is there of its output. False: it is at its end, or there is nothing more now. */
static bool run_take(struct run *r, int i)
{
	char buf[16384];
	ssize_t n;

	if (i == 2 || !r->array) {
		n = read_tail(r->fds[i], i == 1 ? &r->out : &r->err, i == 2 ? &r->log : NULL, run_msg(r));
	} else {
		n = read(r->fds[1], buf, sizeof(buf));
		if (n > 0 && r->answer.len <= ANSWERS_MAX)
			text_add(&r->answer, buf, (size_t)n);
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		run_close(r, i);
	return n > 0;
}

/* There is output. */
static void run_read(evutil_socket_t fd, short what, void *arg)
{
	struct run *r = arg;

	(void)what;
	(void)run_take(r, fd == r->fds[1] ? 1 : 2);
}

/* Settles what is left by one outcome. */
static void run_settle(struct run *r, enum answer_kind kind, const char *reason)
{
	batch_settle(r->batch, &(struct answer){ .kind = kind, .reason = reason });
}

/* The program has failed, by its status or its answer. */
static void run_failed(struct run *r, enum answer_kind kind, const char *reason)
{
	batch_failed(r->batch, &(struct answer){ .kind = kind, .reason = reason });
}

/* Settles messages whose program was ended by us. */
static void run_out_of_time(struct run *r)
{
	char *why = format("the program was killed after %lld ms (timeout)%s%s", (long long)r->exec->timeout,
		r->err.len ? ": " : "", r->err.len ? tail_text(&r->err) : "");

	run_failed(r, ANSWER_RETRY, why);
	free(why);
}

/* A program that is content has written the outcomes of its batch, or nothing: then all is done. */
static void run_answered(struct run *r)
{
	if (!r->array || r->answer.len == 0)
		run_settle(r, ANSWER_DONE, NULL);
	else if (r->answer.len > ANSWERS_MAX)
		run_failed(r, ANSWER_RETRY, "the program's answer to the batch is too long");
	else if (strlen(r->answer.buf) < r->answer.len || !batch_answer(r->batch, r->answer.buf, ANSWER_ANY))
		run_failed(r, ANSWER_RETRY, "the program's answer to the batch is no array of outcomes");
}

/* What the program has to say of its end. */
static const char *run_reason(struct run *r, int status, char buf[64])
{
	const char *reason;

	if (r->array && r->answer.len)
		tail_add(&r->out, r->answer.buf, r->answer.len);
	reason = r->err.len ? tail_text(&r->err) : tail_text(&r->out);
	return *reason ? reason : status_text(status, buf);
}

/* The program has ended: its status is the outcome. */
static void run_exited(void *arg, int status)
{
	struct run *r = arg;
	const char *reason;
	char buf[64];

	for (int i = 1; i < 3; i++)
		while (r->fds[i] >= 0 && run_take(r, i))
			;
	err_log_end(&r->log, run_msg(r));
	reason = run_reason(r, status, buf);
	if (r->late && WIFSIGNALED(status)) {
		run_out_of_time(r);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		run_answered(r);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_FAIL) {
		run_failed(r, ANSWER_FAIL, reason);
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_RETRY) { /* it says so of all of them */
		run_settle(r, ANSWER_RETRY, reason);
	} else if (WIFEXITED(status) && strcmp(r->exec->on_error, "fail") == 0) {
		char *why = format("%s: %s", status_text(status, buf), reason == buf ? "no output" : reason);

		run_failed(r, ANSWER_FAIL, why);
		free(why);
	} else {
		run_failed(r, ANSWER_RETRY, reason);
	}
	run_free(r);
}

/* The program does not end, though it was asked to. */
static void run_kill(void *arg)
{
	struct run *r = arg;

	r->timer = NULL;
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
	r->timer = pgmqd_timer(r->exec->worker, r->exec->kill_after, run_kill, r);
}

/* Starts the program with what it is to know of its messages. */
static struct pgmqd_child *run_start(struct run *r)
{
	struct pgmqd_msg *m = r->batch->msgs[0];
	const char *headers = pgmqd_msg_headers(m);
	char *env[5] = { format("PGMQD_QUEUE=%s", pgmqd_msg_queue(m)), NULL };
	struct pgmqd_child *child;
	int error;

	if (r->array) {
		env[1] = format("PGMQD_BATCH=%zu", r->batch->n);
	} else {
		env[1] = format("PGMQD_MSG_ID=%" PRId64, pgmqd_msg_id(m));
		env[2] = format("PGMQD_ATTEMPT=%u", pgmqd_msg_attempt(m));
		if (headers && strlen(headers) < HEADERS_MAX)
			env[3] = format("PGMQD_HEADERS=%s", headers);
	}
	child = command_start(r->exec, (const char *const *)(const void *)env, r->fds, run_exited, r);
	error = errno;
	for (int i = 0; env[i]; i++)
		free(env[i]);
	errno = error;
	return child;
}

void once_deliver(struct exec *e, struct pgmqd_msg *const *msgs, size_t n, bool array)
{
	struct run *r = need(calloc(1, sizeof(*r)));

	r->exec = e;
	r->array = array;
	r->fds[0] = r->fds[1] = r->fds[2] = -1;
	r->batch = batch_new(msgs, n, r);
	r->child = run_start(r);
	if (!r->child) {
		command_refused(e, r->batch, errno);
		run_free(r);
		return;
	}
	r->made = array ? batch_array(r->batch) : NULL;
	r->body = array ? r->made : pgmqd_msg_text(msgs[0], &r->left);
	r->left = array ? strlen(r->made) : r->left;
	r->ev[0] = need(event_new(e->base, r->fds[0], EV_WRITE | EV_PERSIST, run_write, r));
	r->ev[1] = need(event_new(e->base, r->fds[1], EV_READ | EV_PERSIST, run_read, r));
	r->ev[2] = need(event_new(e->base, r->fds[2], EV_READ | EV_PERSIST, run_read, r));
	for (int i = 0; i < 3; i++)
		event_add(r->ev[i], NULL);
	r->timer = pgmqd_timer(e->worker, e->timeout, run_late, r);
}

void once_cancel(struct pgmqd_msg *m)
{
	struct run *r = pgmqd_msg_data(m);

	if (batch_drop(r->batch, m))
		return;
	pgmqd_child_end(r->child);
	run_free(r);
}
