/* pool.c: programs that stay: each gets a message as one line of JSON and answers with one line, then gets the next. */
#include "config.h"

#include "answer.h"
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

#define ANSWER_MAX 65536
#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 30000
#define QUOTED 80        /* bytes of an unexpected line in a reason */
#define STOP_WAIT_MS 500 /* for programs to end when the plugin stops */

struct member;

/* A message that waits for a program, or is with one. */
struct job {
	TAILQ_ENTRY(job) link;
	struct pool *pool;
	struct pgmqd_msg *msg;
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
	char answer[ANSWER_MAX];
	size_t answer_len;
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
	w->written = w->len = w->answer_len = 0;
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

/* Takes its message from a program; frees the job. */
static struct pgmqd_msg *member_release(struct member *w)
{
	struct pgmqd_msg *m = w->job->msg;

	free(w->job);
	w->job = NULL;
	return m;
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
		struct pgmqd_msg *m = member_release(w);

		pgmqd_retry(m, 0, "%s%s%s", why, w->err.len ? ": " : "", w->err.len ? tail_text(&w->err) : "");
	}
	pool_pump(p);
}

/* Kills a program. */
static void member_kill(struct member *w, const char *why)
{
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

/* Settles the message that a line answers. False: the line is no answer to it. */
static bool member_answer(struct member *w, const char *line)
{
	struct answer a = { .kind = ANSWER_DONE };
	bool good = w->job && answer_parse(line, pgmqd_msg_id(w->job->msg), &a);

	if (good) {
		struct pgmqd_msg *m;

		err_log_end(&w->log, w->job->msg);
		m = member_release(w);
		w->answered++;
		w->err.len = 0;
		answer_settle(&a, m);
	}
	answer_free(&a);
	return good;
}

/* Whether the program is to be renewed; it may end by itself, at the end of its input. */
static bool member_is_worn(const struct member *w)
{
	return w->pool->exec->messages_per_process && w->answered >= w->pool->exec->messages_per_process;
}

/* Reads the answers that are there. False: the program has ended, or was ended. */
static bool member_read(struct member *w)
{
	for (;;) {
		ssize_t n = read(w->fds[1], w->answer + w->answer_len, ANSWER_MAX - 1 - w->answer_len);
		char *start = w->answer, *newline;

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
		w->answer_len += (size_t)n;
		w->answer[w->answer_len] = 0;
		while ((newline = memchr(start, '\n', w->answer_len - (size_t)(start - w->answer))) != NULL) {
			*newline = 0;
			if (!member_answer(w, start)) {
				char *why = format("unexpected line from the program: \"%.*s\"; answers are one JSON "
						   "object a line, flushed",
					QUOTED, start);

				member_kill(w, why);
				free(why);
				return false;
			}
			start = newline + 1;
		}
		w->answer_len -= (size_t)(start - w->answer);
		memmove(w->answer, start, w->answer_len);
		if (w->answer_len == ANSWER_MAX - 1) {
			member_kill(w, "the program's answer is longer than 64 kB");
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
	ssize_t n = read_tail(fd, &w->err, &w->log, w->job ? w->job->msg : NULL);

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

	while (w->ev[2] && read_tail(w->fds[2], &w->err, &w->log, w->job ? w->job->msg : NULL) > 0)
		;
	err_log_end(&w->log, w->job ? w->job->msg : NULL);
	why = w->ending && w->job ? late_text(w) : format("the program %s", status_text(status, buf));
	pgmqd_log(PGMQD_DEBUG, "%s", why);
	member_gone(w, why);
	free(why);
}

/* A message has been with its program for too long: the program is asked to end, and may still answer. */
static void job_late(void *arg)
{
	struct job *j = arg;

	j->member->answered++; /* it works, it is only slow */
	member_retire(j->member, true);
}

/* Gives a message to a program. */
static void member_give(struct member *w, struct job *j)
{
	struct pgmqd_msg *m = j->msg;
	const char *headers = pgmqd_msg_headers(m);

	j->member = w;
	w->job = j;
	w->said = false;
	w->line = format("{\"id\":%" PRId64 ",\"attempt\":%u,\"queue\":\"%s\",\"enqueued_us\":%" PRId64
			 ",\"headers\":%s,\"message\":%s}",
		pgmqd_msg_id(m), pgmqd_msg_attempt(m), pgmqd_msg_queue(m), pgmqd_msg_enqueued_us(m),
		headers ? headers : "null", pgmqd_msg_text(m, NULL));
	w->len = strlen(w->line);
	for (size_t i = 0; i < w->len; i++)
		if (w->line[i] == '\n' ||
			w->line[i] == '\r') /* in JSON they are blanks, here they would end the line */
			w->line[i] = ' ';
	w->line[w->len++] = '\n'; /* in place of the NUL */
	w->written = 0;
	pgmqd_msg_timer(m, w->pool->exec->timeout, job_late, j);
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
			struct pgmqd_msg *m = j->msg;
			int error = errno;

			free(j);
			pgmqd_config_error(m, "cannot start %s: %s", p->exec->argv[0], strerror(error));
			continue;
		}
		member_give(w, j);
	}
}

void pool_deliver(struct pool *p, struct pgmqd_msg *m)
{
	struct job *j = need(calloc(1, sizeof(*j)));

	j->pool = p;
	j->msg = m;
	pgmqd_msg_data_set(m, j);
	TAILQ_INSERT_TAIL(&p->waiting, j, link);
	pool_pump(p);
}

void pool_cancel(struct pgmqd_msg *m)
{
	struct job *j = pgmqd_msg_data(m);
	struct member *w = j->member;

	if (!w) {
		TAILQ_REMOVE(&j->pool->waiting, j, link);
		free(j);
		return;
	}
	(void)member_release(w);
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
	}
	pgmqd_timer_cancel(p->more);
	free(p->members);
	free(p);
}
