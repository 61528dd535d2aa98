/* pool.c: programs that stay: each gets a message, or an array of them, as one line of JSON and answers with one line,
 * then gets the next. */
#include "config.h"

#include "exec.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
#define QUOTED 80        /* bytes of an unexpected line in a reason */
#define STOP_WAIT_MS 500 /* for programs to end when the plugin stops */

struct member;

/* A message, or an array of them, that waits for a program or is with one. */
struct job {
	TAILQ_ENTRY(job) link;
	struct pool *pool;
	struct batch *batch;
	bool array;
	struct pgmqd_timer *late;
	struct member *member; /* NULL: it waits */
};

/* One program. */
struct member {
	struct pool *pool;
	struct pgmqd_child *child; /* NULL: it does not run */
	int fds[3];
	struct event *ev[3];
	struct job *job; /* that it works on */
	char *line;      /* being written to it */
	size_t len, written;
	struct text answer;
	struct tail err;
	struct err_log log;
	uint64_t answered;
	unsigned failures; /* ends in a row without an answer */
	bool said;         /* it has written something since it got its message */
	bool ending;       /* it was asked to end */
	struct pgmqd_timer *restart, *kill;
};

struct pool {
	struct exec *exec;
	TAILQ_HEAD(, job) waiting;
	size_t n;
	struct member *members;
	struct pgmqd_timer *more; /* starts another program */
};

static void pool_pump(struct pool *p);
static void pool_exited(void *arg, int status);

/* Closes the pipes of a program that has ended or is being ended. */
static void member_close(struct member *w)
{
	for (int i = 0; i < 3; i++) {
		if (w->ev[i])
			event_free(w->ev[i]);
		if (w->child && w->fds[i] >= 0)
			close(w->fds[i]);
		w->ev[i] = NULL;
		w->fds[i] = -1;
	}
	w->child = NULL;
	pgmqd_timer_cancel(w->kill);
	w->kill = NULL;
	w->ending = false;
	w->written = w->len = w->answer.len = 0;
	free(w->line);
	w->line = NULL;
}

/* It may be started again. */
static void member_restart(void *arg)
{
	struct member *w = arg;

	w->restart = NULL;
	pool_pump(w->pool);
}

/* Frees a job. */
static void job_free(struct job *j)
{
	pgmqd_timer_cancel(j->late);
	free(j->batch);
	free(j);
}

/* The message that a program works on, for the log; NULL when it has many, or none. */
static struct pgmqd_msg *member_msg(const struct member *w)
{
	return w->job && !w->job->array ? w->job->batch->msgs[0] : NULL;
}

/* Takes its job from a program. */
static struct job *member_release(struct member *w)
{
	struct job *j = w->job;

	w->job = NULL;
	return j;
}

/* A program has ended; `why` is the reason for the message that it had. */
static void member_gone(struct member *w, const char *why)
{
	struct pool *p = w->pool;
	int64_t ms = BACKOFF_MIN_MS;

	w->failures = w->answered ? 0 : w->failures + 1;
	for (unsigned i = 1; i < w->failures && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	if (w->failures)
		w->restart = pgmqd_timer(p->exec->worker, ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS, member_restart, w);
	member_close(w);
	if (w->job) {
		struct job *j = member_release(w);
		char *reason = format("%s%s%s", why, w->err.len ? ": " : "", w->err.len ? tail_text(&w->err) : "");

		batch_failed(j->batch, &(struct answer){ .kind = ANSWER_RETRY, .reason = reason });
		job_free(j);
		free(reason);
	}
	pool_pump(p);
}

/* Kills a program. A message that it has gets the reason; else the log does. */
static void member_kill(struct member *w, const char *why)
{
	if (!w->job)
		pgmqd_log(PGMQD_WARN, "%s", why);
	pgmqd_child_end(w->child);
	member_gone(w, why);
}

/* The reason for a message whose program ran out of time. */
static char *late_text(const struct member *w)
{
	return format("the program was killed after %lld ms (timeout)%s", (long long)w->pool->exec->timeout,
		w->said ? "" : "; it has written nothing: does it flush its output after each line?");
}

/* A program that was asked to end has not: it is killed. */
static void member_late(void *arg)
{
	struct member *w = arg;
	char *why = late_text(w);

	w->kill = NULL;
	member_kill(w, why);
	free(why);
}

/* Asks a program to end: by the end of its input, and by SIGTERM if that will not do. */
static void member_retire(struct member *w, bool now);

/* The end of its input was not enough. */
static void member_terminate(void *arg)
{
	struct member *w = arg;

	w->kill = NULL;
	member_retire(w, true);
}

static void member_retire(struct member *w, bool now)
{
	w->ending = true;
	if (w->ev[0]) {
		event_free(w->ev[0]);
		w->ev[0] = NULL;
		close(w->fds[0]);
		w->fds[0] = -1;
	}
	pgmqd_timer_cancel(w->kill);
	if (now)
		pgmqd_child_signal(w->child, SIGTERM);
	w->kill = pgmqd_timer(
		w->pool->exec->worker, w->pool->exec->kill_after, now ? member_late : member_terminate, w);
}

/* Settles a job as the line says. False: it is no answer to it. */
static bool job_settle(struct job *j, const char *line)
{
	struct answer a;
	bool good;

	if (j->array)
		return batch_answer(j->batch, line, ANSWER_ANY);
	good = answer_parse(line, &a) && a.id == (double)pgmqd_msg_id(j->batch->msgs[0]);
	if (good)
		batch_settle(j->batch, &a);
	answer_free(&a);
	return good;
}

/* Settles what a line answers. False: the line is no answer. */
static bool member_answer(struct member *w, const char *line)
{
	if (!w->job)
		return false;
	err_log_end(&w->log, member_msg(w));
	if (!job_settle(w->job, line))
		return false;
	w->answered++;
	w->err.len = 0;
	job_free(member_release(w));
	return true;
}

/* Whether the program is to be renewed; it may end by itself, at the end of its input. */
static bool member_is_worn(const struct member *w)
{
	return w->pool->exec->messages_per_process && w->answered >= w->pool->exec->messages_per_process;
}

/* Takes the lines that are complete. False: one is no answer, and the program was ended. */
static bool member_lines(struct member *w)
{
	char *start = w->answer.buf, *newline;

	while ((newline = memchr(start, '\n', w->answer.len - (size_t)(start - w->answer.buf))) != NULL) {
		*newline = 0;
		if (!member_answer(w, start)) {
			char *why = format(
				"unexpected line from the program: \"%.*s\"; answers are one JSON %s a line, "
				"flushed",
				QUOTED, start, w->job && w->job->array ? "array" : "object");

			member_kill(w, why);
			free(why);
			return false;
		}
		start = newline + 1;
	}
	w->answer.len -= (size_t)(start - w->answer.buf);
	memmove(w->answer.buf, start, w->answer.len);
	return true;
}

/* Reads the answers that are there. False: the program has ended, or was ended. */
static bool member_read(struct member *w)
{
	char buf[16384];

	for (;;) {
		ssize_t n = read(w->fds[1], buf, sizeof(buf));
		bool array = w->job && w->job->array;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			event_free(w->ev[1]);
			w->ev[1] = NULL;
			if (!w->job && !w->ending)
				member_retire(w, false);
			return false; /* its end, which follows, says why; if it lives on, its time will be up */
		}
		w->said = true;
		text_add(&w->answer, buf, (size_t)n);
		if (!member_lines(w))
			return false;
		if (w->answer.len >= (array ? ANSWERS_MAX : ANSWER_MAX - 1)) {
			member_kill(w, array ? "the program's answer to the batch is longer than 16 MB"
					     : "the program's answer is longer than 64 kB");
			return false;
		}
	}
}

/* There is an answer. */
static void on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct member *w = arg;

	(void)fd, (void)what;
	if (!member_read(w))
		return;
	if (!w->job && !w->ending && member_is_worn(w))
		member_retire(w, false);
	pool_pump(w->pool);
}

/* The program has written to its stderr: it is logged, and its end is kept for a reason. */
static void on_error_output(evutil_socket_t fd, short what, void *arg)
{
	struct member *w = arg;
	ssize_t n = read_tail(fd, &w->err, &w->log, member_msg(w));

	(void)what;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		event_free(w->ev[2]);
		w->ev[2] = NULL;
	}
}

/* The program takes more of the line. */
static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct member *w = arg;
	ssize_t n;

	(void)what;
	while (w->written < w->len) {
		n = write(fd, w->line + w->written, w->len - w->written);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_add(w->ev[0], NULL);
			return;
		}
		if (n < 0)
			return; /* it is at its end; its exit status will say more */
		w->written += (size_t)n;
	}
	free(w->line);
	w->line = NULL;
}

/* Starts a program. False: it cannot be. */
static bool member_start(struct member *w)
{
	static const char *const env[] = { "PGMQD_MODE=pool", NULL };
	struct exec *e = w->pool->exec;
	struct pgmqd_child *child = command_start(e, env, w->fds, pool_exited, w);

	if (!child)
		return false;
	w->child = child;
	w->answered = 0;
	w->err.len = 0;
	w->ev[0] = need(event_new(e->base, w->fds[0], EV_WRITE, on_writable, w));
	w->ev[1] = need(event_new(e->base, w->fds[1], EV_READ | EV_PERSIST, on_answer, w));
	w->ev[2] = need(event_new(e->base, w->fds[2], EV_READ | EV_PERSIST, on_error_output, w));
	event_add(w->ev[1], NULL);
	event_add(w->ev[2], NULL);
	return true;
}

/* The program has ended by itself. */
static void pool_exited(void *arg, int status)
{
	struct member *w = arg;
	char buf[64], *why;

	while (w->ev[2] && read_tail(w->fds[2], &w->err, &w->log, member_msg(w)) > 0)
		;
	err_log_end(&w->log, member_msg(w));
	why = w->ending && w->job ? late_text(w) : format("the program %s", status_text(status, buf));
	pgmqd_log(PGMQD_DEBUG, "%s", why);
	member_gone(w, why);
	free(why);
}

/* A job has been with its program for too long: the program is asked to end, and may still answer. */
static void job_late(void *arg)
{
	struct job *j = arg;

	j->late = NULL;
	j->member->answered++; /* it works, it is only slow */
	member_retire(j->member, true);
}

/* Gives a job to a program. */
static void member_give(struct member *w, struct job *j)
{
	struct text line = { 0 };
	char *text = j->array ? batch_array(j->batch) : batch_message(j->batch->msgs[0]);

	text_add(&line, text, strlen(text));
	text_add(&line, "\n", 1);
	free(text);
	j->member = w;
	w->job = j;
	w->said = false;
	w->line = line.buf;
	w->len = line.len;
	w->written = 0;
	j->late = pgmqd_timer(w->pool->exec->worker, w->pool->exec->timeout, job_late, j);
	on_writable(w->fds[0], 0, w);
}

/* Starts another program, if there is still something to do for it. */
static void pool_more(void *arg)
{
	struct pool *p = arg;

	p->more = NULL;
	pool_pump(p);
}

/* A program that may take a message: one that runs, else a place for another one. NULL: none is free. */
static struct member *pool_free_member(struct pool *p)
{
	struct member *place = NULL;

	for (size_t i = 0; i < p->n; i++) {
		struct member *w = &p->members[i];

		if (w->job || w->restart || w->ending)
			continue;
		if (w->child)
			return w;
		if (!place)
			place = w;
	}
	return place;
}

/* Gives waiting messages to idle programs, and starts one if there are too few: others follow, so that the loop goes
 * on meanwhile. */
static void pool_pump(struct pool *p)
{
	bool started = p->more != NULL;
	struct member *w;

	while (!TAILQ_EMPTY(&p->waiting) && (w = pool_free_member(p)) != NULL) {
		struct job *j = TAILQ_FIRST(&p->waiting);

		if (!w->child && started) {
			if (!p->more)
				p->more = pgmqd_timer(p->exec->worker, 1, pool_more, p);
			return;
		}
		started = started || !w->child;
		TAILQ_REMOVE(&p->waiting, j, link);
		if (!w->child && !member_start(w)) {
			command_refused(p->exec, j->batch, errno);
			job_free(j);
			continue;
		}
		member_give(w, j);
	}
}

void pool_deliver(struct pool *p, struct pgmqd_msg *const *msgs, size_t n, bool array)
{
	struct job *j = need(calloc(1, sizeof(*j)));

	j->pool = p;
	j->array = array;
	j->batch = batch_new(msgs, n, j);
	TAILQ_INSERT_TAIL(&p->waiting, j, link);
	pool_pump(p);
}

void pool_cancel(struct pgmqd_msg *m)
{
	struct job *j = pgmqd_msg_data(m);
	struct member *w = j->member;

	if (!w) {
		if (batch_drop(j->batch, m))
			return;
		TAILQ_REMOVE(&j->pool->waiting, j, link);
		job_free(j);
		return;
	}
	if (batch_drop(j->batch, m))
		return;
	job_free(member_release(w));
	w->answered++;
	member_retire(w, true);
}

struct pool *pool_new(struct exec *e)
{
	struct pool *p = need(calloc(1, sizeof(*p)));

	p->exec = e;
	p->n = e->programs;
	TAILQ_INIT(&p->waiting);
	p->members = need(calloc(p->n, sizeof(*p->members)));
	for (size_t i = 0; i < p->n; i++)
		p->members[i] = (struct member){ .pool = p, .fds = { -1, -1, -1 } };
	return p;
}

/* Waits until every program has closed its output, STOP_WAIT_MS at most. */
static void pool_wait(struct pool *p)
{
	for (int left = STOP_WAIT_MS / 10; left > 0; left--) {
		bool lives = false;

		for (size_t i = 0; i < p->n; i++) {
			struct member *w = &p->members[i];
			char buf[512];

			if (w->child && w->ev[1] && (read(w->fds[1], buf, sizeof(buf)) != 0))
				lives = true;
		}
		if (!lives)
			return;
		(void)poll(NULL, 0, 10);
	}
}

void pool_free(struct pool *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->members[i].child)
			member_retire(&p->members[i], false);
	pool_wait(p);
	for (size_t i = 0; i < p->n; i++)
		if (p->members[i].child)
			pgmqd_child_signal(p->members[i].child, SIGTERM);
	pool_wait(p);
	for (size_t i = 0; i < p->n; i++) {
		if (p->members[i].child)
			pgmqd_child_end(p->members[i].child);
		pgmqd_timer_cancel(p->members[i].restart);
		member_close(&p->members[i]);
		free(p->members[i].answer.buf);
	}
	pgmqd_timer_cancel(p->more);
	free(p->members);
	free(p);
}
