/* exec.h: what the files of the exec plugin share. */
#ifndef EXEC_H
#define EXEC_H

#include "batch/batch.h"
#include "batch/text.h"
#include "pgmqd-plugin.h"

#include <stdbool.h>
#include <sys/types.h>

#define TAIL 400                               /* bytes of output that become a reason */
#define ANSWER_MAX 65536                       /* bytes of an answer to one message */
#define ANSWERS_MAX ((size_t)16 * 1024 * 1024) /* the same to a batch */

struct pool;

struct exec {
	/* options */
	const char *command, *mode, *on_error, *pass_env, *dir;
	uint64_t programs, messages_per_process;
	int64_t timeout, kill_after;
	uint64_t cpu_seconds, memory, open_files, file_size;
	/* while running */
	struct pgmqd_worker *worker;
	struct event_base *base;
	char **argv;
	struct pool *pool;
};

/* The end of a program's output. */
struct tail {
	char text[TAIL + 1];
	size_t len;
};
void tail_add(struct tail *t, const char *data, size_t n);
const char *tail_text(struct tail *t); /* trimmed, whole characters at its begin, no NUL */

/* command.c: the command line as words (quotes as in a shell, nothing else). NULL, or what is wrong; freed by
 * words_free(). */
const char *words_split(const char *line, char ***words);
void words_free(char **words);
struct pgmqd_child *command_start(struct exec *e, const char *const *more_env, int fds[3], pgmqd_exit_cb cb, void *arg);
/* Settles messages whose program cannot be started: a machine without room passes, all else is the configuration. */
void command_refused(const struct exec *e, struct batch *b, int error);
/* Reads what is there now, as read(2); lines of it are logged for `m` if `log` is given. */
struct err_log {
	char line[1024];
	size_t len;
	unsigned lines;
};
ssize_t read_tail(int fd, struct tail *t, struct err_log *log, const struct pgmqd_msg *m);
void err_log_end(struct err_log *log, const struct pgmqd_msg *m); /* logs a last line without its end */
const char *status_text(int status, char buf[64]);

/* once.c: a program for each piece of work. pool.c: programs that stay, a line for each. `array`: the messages go and
 * are answered as an array; else it is one message. */
void once_deliver(struct exec *e, struct pgmqd_msg *const *msgs, size_t n, bool array);
void once_cancel(struct pgmqd_msg *m);
struct pool *pool_new(struct exec *e);
void pool_free(struct pool *p);
void pool_deliver(struct pool *p, struct pgmqd_msg *const *msgs, size_t n, bool array);
void pool_cancel(struct pgmqd_msg *m);

#endif
