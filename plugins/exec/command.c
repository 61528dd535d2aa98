/* command.c: the command of the exec plugin: its words, its start, and its output. */
#include "config.h"

#include "exec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- words ---- */

const char *words_split(const char *line, char ***words)
{
	char *copy = need(malloc(strlen(line) + 1)), *out = copy, **w = need(calloc(strlen(line) / 2 + 2, sizeof(*w)));
	const char *wrong = NULL;
	size_t n = 0;

	while (*(line += strspn(line, " \t"))) {
		w[n++] = out;
		for (char quote = 0; *line && (quote || !strchr(" \t", *line)); line++) {
			if (quote ? *line == quote : (*line == '"' || *line == '\'')) {
				quote = quote ? 0 : *line;
				if (!line[1] && quote)
					wrong = "a quote is not closed";
			} else {
				if (*line == '\\' && quote != '\'' && line[1])
					line++;
				*out++ = *line;
				if (!line[1] && quote)
					wrong = "a quote is not closed";
			}
		}
		*out++ = 0;
	}
	if (n == 0) {
		wrong = "there is no program in it";
		free(copy);
	}
	*words = w;
	return wrong;
}

void words_free(char **words)
{
	if (words)
		free(words[0]);
	free(words);
}

/* ---- start ---- */

/* "NAME=value" for each name in pass_env that is set, behind `more`. The array and the texts after `*kept` are the
 * caller's. */
static char **environment(const struct exec *e, const char *const *more, size_t *kept)
{
	size_t n = 0;
	char **names = NULL, **env;

	if (e->pass_env && *e->pass_env)
		(void)words_split(e->pass_env, &names);
	while (more && more[n])
		n++;
	env = need(calloc(n + 2 + (e->pass_env ? strlen(e->pass_env) : 0), sizeof(*env)));
	for (size_t i = 0; i < n; i++)
		env[i] = (char *)(uintptr_t)more[i];
	*kept = n;
	for (size_t i = 0; names && names[i]; i++)
		if (getenv(names[i]))
			env[n++] = format("%s=%s", names[i], getenv(names[i]));
	words_free(names);
	return env;
}

struct pgmqd_child *command_start(struct exec *e, const char *const *more_env, int fds[3], pgmqd_exit_cb cb, void *arg)
{
	size_t kept;
	char **env = environment(e, more_env, &kept);
	struct pgmqd_command c = {
		.size = sizeof(c),
		.argv = (const char *const *)(const void *)e->argv,
		.env = (const char *const *)(const void *)env,
		.dir = e->dir && *e->dir ? e->dir : NULL,
		.cpu_seconds = e->cpu_seconds,
		.memory_bytes = e->memory,
		.open_files = e->open_files,
		.file_bytes = e->file_size,
	};
	struct pgmqd_child *child = pgmqd_spawn(e->worker, &c, fds, cb, arg);
	int error = errno;

	for (size_t i = kept; env[i]; i++)
		free(env[i]);
	free(env);
	errno = error;
	return child;
}

void command_refused(const struct exec *e, struct batch *b, int error)
{
	bool passes = error == EAGAIN || error == ENOMEM || error == EMFILE || error == ENFILE;
	char *why = format("cannot start %s: %s", e->argv[0], strerror(error));

	batch_settle(b, &(struct answer){ .kind = passes ? ANSWER_RETRY : ANSWER_CONFIG, .reason = why });
	free(why);
}

/* ---- output ---- */

#define ERR_LINES_MAX 100 /* of one message's program in the log */

void tail_add(struct tail *t, const char *data, size_t n)
{
	if (n > TAIL) {
		data += n - TAIL;
		n = TAIL;
	}
	if (t->len + n > TAIL) {
		size_t drop = t->len + n - TAIL;

		memmove(t->text, t->text + drop, t->len - drop);
		t->len -= drop;
	}
	memcpy(t->text + t->len, data, n);
	t->len += n;
	t->text[t->len] = 0;
}

const char *tail_text(struct tail *t)
{
	size_t start = 0;

	while (t->len && strchr(" \t\r\n", t->text[t->len - 1]))
		t->len--;
	t->text[t->len] = 0;
	while (t->len == TAIL && start < 4 && ((unsigned char)t->text[start] & 0xc0) == 0x80)
		start++; /* it begins inside a character */
	for (size_t i = start; i < t->len; i++)
		if (t->text[i] == '\0')
			t->text[i] = ' ';
	return t->text + start;
}

/* Logs the line that is complete. */
static void err_log_line(struct err_log *log, const struct pgmqd_msg *m)
{
	struct tail t = { .len = 0 };

	tail_add(&t, log->line, log->len);
	log->len = 0;
	if (log->lines++ == ERR_LINES_MAX)
		pgmqd_log(PGMQD_INFO, "stderr: further lines for this message are not logged");
	else if (log->lines <= ERR_LINES_MAX && m)
		pgmqd_msg_log(m, PGMQD_INFO, "stderr: %s", tail_text(&t));
	else if (log->lines <= ERR_LINES_MAX)
		pgmqd_log(PGMQD_INFO, "stderr: %s", tail_text(&t));
}

void err_log_end(struct err_log *log, const struct pgmqd_msg *m)
{
	if (log->len)
		err_log_line(log, m);
	log->lines = 0;
}

ssize_t read_tail(int fd, struct tail *t, struct err_log *log, const struct pgmqd_msg *m)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n > 0)
		tail_add(t, buf, (size_t)n);
	for (ssize_t i = 0; log && i < n; i++) {
		if (buf[i] == '\n') {
			if (log->len)
				err_log_line(log, m);
		} else if (log->len < sizeof(log->line)) {
			log->line[log->len++] = buf[i];
		}
	}
	return n;
}

const char *status_text(int status, char buf[64])
{
	if (WIFSIGNALED(status))
		snprintf(buf, 64, "was killed by signal %d", WTERMSIG(status));
	else
		snprintf(buf, 64, "ended with status %d", WEXITSTATUS(status));
	return buf;
}
