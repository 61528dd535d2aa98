/* token.c: reads an OAuth token. A file is read for each login, so whatever renews it there is heard at once; a command
 * is run when there is no token yet, when the last one is TOKEN_AGE_US old, and when it was refused. */
#include "config.h"

#include "token.h"

#include "pgmqd-plugin.h"

#include <errno.h>
#include <event2/event.h>
#include <glib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKEN_AGE_US (10 * 60 * G_USEC_PER_SEC)
#define TOKEN_MAX 16384
#define COMMAND_MS 30000

struct token {
	char *file, *command;
	char *last; /* what the command printed */
	gint64 at;  /* monotonic µs */

	/* The command, while it runs. */
	struct pgmqd_child *child;
	struct event *readable, *timer;
	int fd;
	GString *out;
	void (*done)(void *arg, const char *token, const char *why);
	void *arg;
};

struct token *token_new(const char *file, const char *command)
{
	struct token *t;

	if (file == NULL && command == NULL)
		return NULL;
	t = g_new0(struct token, 1);
	t->file = g_strdup(file);
	t->command = g_strdup(command);
	t->fd = -1;
	return t;
}

/* Lets go of the command. */
static void forget_command(struct token *t)
{
	if (t->readable != NULL)
		event_free(t->readable);
	if (t->timer != NULL)
		event_free(t->timer);
	if (t->fd >= 0)
		close(t->fd);
	if (t->out != NULL)
		g_string_free(t->out, TRUE);
	t->readable = t->timer = NULL;
	t->out = NULL;
	t->fd = -1;
}

void token_free(struct token *t)
{
	if (t == NULL)
		return;
	if (t->child != NULL)
		pgmqd_child_end(t->child);
	forget_command(t);
	g_free(t->file);
	g_free(t->command);
	g_free(t->last);
	g_free(t);
}

/* Takes the blanks off, and says what is wrong with what is left: NULL if nothing is. */
static const char *check(char *text)
{
	g_strstrip(text);
	if (text[0] == '\0')
		return "it is empty";
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f)
			return "it is not one word of ASCII";
	return NULL;
}

/* Reads the file. g_malloc'd, or NULL and *why (g_malloc'd). */
static char *read_file(const struct token *t, char **why)
{
	GError *error = NULL;
	char *text = NULL;
	const char *wrong;

	if (!g_file_get_contents(t->file, &text, NULL, &error)) {
		*why = g_strdup_printf("smtp_token_file: %s", error->message);
		g_error_free(error);
		return NULL;
	}
	if ((wrong = check(text)) == NULL)
		return text;
	*why = g_strdup_printf("smtp_token_file: %s", wrong);
	g_free(text);
	return NULL;
}

/* The end of a command, by its exit, its silence, or its length. */
static void finish(struct token *t, const char *why)
{
	void (*done)(void *, const char *, const char *) = t->done;
	char *text = g_strdup(t->out != NULL ? t->out->str : ""), *said = NULL;

	forget_command(t);
	if (why == NULL)
		why = check(text);
	if (why == NULL) {
		g_free(t->last);
		t->last = g_strdup(text);
		t->at = g_get_monotonic_time();
	} else {
		said = g_strdup_printf("smtp_token_command: %s", why);
	}
	t->done = NULL;
	done(t->arg, why == NULL ? text : NULL, said);
	g_free(text);
	g_free(said);
}

/* Reads what the command has printed. False at its end. */
static bool read_more(struct token *t)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(t->fd, buf, sizeof(buf))) > 0)
		if (t->out->len + (size_t)n <= TOKEN_MAX)
			g_string_append_len(t->out, buf, n);
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* There is more of its output. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct token *t = arg;

	(void)fd;
	(void)what;
	if (!read_more(t))
		event_del(t->readable);
}

/* The command has ended. */
static void on_ended(void *arg, int status)
{
	struct token *t = arg;

	t->child = NULL;
	read_more(t);
	finish(t, WIFEXITED(status) && WEXITSTATUS(status) == 0 ? NULL : "it failed");
}

/* It takes too long. */
static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct token *t = arg;

	(void)fd;
	(void)what;
	pgmqd_child_end(t->child);
	t->child = NULL;
	finish(t, "it does not end");
}

/* Starts the command. */
static void run(struct token *t, struct pgmqd_worker *w)
{
	const char *const argv[] = { "/bin/sh", "-c", t->command, NULL };
	struct pgmqd_command command = { .size = sizeof(command), .argv = argv };
	struct timeval tv = { .tv_sec = COMMAND_MS / 1000 };
	int fds[3];

	if ((t->child = pgmqd_spawn(w, &command, fds, on_ended, t)) == NULL) {
		finish(t, g_strerror(errno));
		return;
	}
	close(fds[0]);
	close(fds[2]);
	t->fd = fds[1];
	t->out = g_string_new(NULL);
	t->readable = event_new(pgmqd_event_base(w), t->fd, EV_READ | EV_PERSIST, on_readable, t);
	t->timer = event_new(pgmqd_event_base(w), -1, 0, on_timer, t);
	if (t->readable == NULL || t->timer == NULL)
		g_error("event_new: out of memory");
	event_add(t->readable, NULL);
	event_add(t->timer, &tv);
}

void token_get(struct token *t, struct pgmqd_worker *w, bool fresh,
	void (*done)(void *arg, const char *token, const char *why), void *arg)
{
	char *text, *why = NULL;

	if (t->file != NULL) {
		text = read_file(t, &why);
		done(arg, text, why);
		g_free(text);
		g_free(why);
	} else if (t->last != NULL && !fresh && g_get_monotonic_time() - t->at < TOKEN_AGE_US) {
		done(arg, t->last, NULL);
	} else {
		t->done = done;
		t->arg = arg;
		run(t, w);
	}
}

char *token_wait(struct token *t, char **why)
{
	const char *argv[] = { "/bin/sh", "-c", t->command, NULL }, *wrong;
	char *text = NULL;
	int status = 0;

	if (t->file != NULL)
		return read_file(t, why);
	if (g_spawn_sync(
		    NULL, (char **)argv, NULL, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &text, NULL, &status, NULL) &&
		WIFEXITED(status) && WEXITSTATUS(status) == 0 && (wrong = check(text)) == NULL)
		return text;
	*why = g_strdup("smtp_token_command: it fails, or prints no token");
	g_free(text);
	return NULL;
}
