/* fault.c: a plugin for tests that does to itself and its process what a message's field "do" says; other messages are
 * done.
 *
 *   crash         writes to a null pointer              exit      ends the process with status 3
 *   hang          loops and gives no sign of life       never     never settles
 *   twice         settles twice                         leak      forgets 16 MiB, and is done
 *   retry, fail   with the reason "told to"             config    a configuration error
 *   slow          is done after "ms" milliseconds
 */
#include "config.h"

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fault {
	const char *trace;
	int fd;
	struct pgmqd_worker *worker;
};

static const struct pgmqd_option fault_options[] = {
	{ .name = "trace",
		.type = PGMQD_STRING,
		.offset = offsetof(struct fault, trace),
		.doc = "File that gets a line \"msg_id attempt what\" when a message starts." },
	{ .name = NULL },
};

/* A message that is done later. */
struct slow {
	struct pgmqd_msg *msg;
	struct pgmqd_timer *timer;
	struct slow *next;
};
static struct slow *slow_ones;

/* Opens the trace. */
static int fault_start(void *h, struct pgmqd_worker *w)
{
	struct fault *f = h;

	f->worker = w;
	f->fd = f->trace ? open(f->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
	if (f->trace && f->fd < 0)
		pgmqd_log(PGMQD_ERROR, "trace: cannot open %s: %s", f->trace, strerror(errno));
	return f->trace && f->fd < 0 ? -1 : 0;
}

/* Writes the line; it is on its way to the file before anything happens to the process. */
static void trace(const struct fault *f, const struct pgmqd_msg *m, const char *what)
{
	char line[128];
	int len = snprintf(
		line, sizeof(line), "%lld %u %.60s\n", (long long)pgmqd_msg_id(m), pgmqd_msg_attempt(m), what);

	if (f->fd >= 0 && write(f->fd, line, (size_t)len) != len)
		pgmqd_log(PGMQD_WARN, "trace: %s", strerror(errno));
}

/* Takes a slow one off the list; its message. */
static struct pgmqd_msg *slow_take(struct slow *s)
{
	struct pgmqd_msg *m = s->msg;

	for (struct slow **p = &slow_ones; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	free(s);
	return m;
}

/* The time of a slow one has come. */
static void slow_done(void *arg)
{
	pgmqd_done(slow_take(arg));
}

/* Begins a slow one. */
static void slow_begin(struct fault *f, struct pgmqd_msg *m)
{
	struct slow *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	s->msg = m;
	s->next = slow_ones;
	slow_ones = s;
	s->timer = pgmqd_timer(f->worker,
		(int64_t)cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(m), "ms")), slow_done, s);
}

/* Forgets memory on purpose. */
static void leak(struct fault *f)
{
	char *p = malloc((size_t)16 << 20);

	if (p)
		memset(p, f->fd, (size_t)16 << 20);
}

/* Dies of the signal, in a sanitized build and under valgrind, too: there is no report in place of it. */
static void fault_crash(void)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

/* Does what the message says. */
static void fault_deliver(void *h, struct pgmqd_msg *m)
{
	struct fault *f = h;
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(m), "do");
	const char *what = cJSON_IsString(item) ? item->valuestring : "done";

	trace(f, m, what);
	if (strcmp(what, "crash") == 0) {
		fault_crash();
	} else if (strcmp(what, "exit") == 0) {
		_exit(3);
	} else if (strcmp(what, "hang") == 0) {
		for (;;)
			pause();
	} else if (strcmp(what, "never") == 0) {
		return;
	} else if (strcmp(what, "slow") == 0) {
		slow_begin(f, m);
		return;
	} else if (strcmp(what, "retry") == 0) {
		pgmqd_retry(m, 0, "told to");
		return;
	} else if (strcmp(what, "fail") == 0) {
		pgmqd_fail(m, "told to");
		return;
	} else if (strcmp(what, "config") == 0) {
		pgmqd_config_error(m, "told to");
		return;
	} else if (strcmp(what, "leak") == 0) {
		leak(f);
	}
	pgmqd_done(m);
	if (strcmp(what, "twice") == 0)
		pgmqd_done(m);
}

/* Lets go of a message. */
static void fault_cancel(void *h, struct pgmqd_msg *m)
{
	(void)h;
	for (struct slow *s = slow_ones; s; s = s->next)
		if (s->msg == m) {
			pgmqd_timer_cancel(s->timer);
			slow_take(s);
			return;
		}
}

/* Closes the trace. */
static void fault_stop(void *h)
{
	struct fault *f = h;

	if (f->fd >= 0)
		close(f->fd);
}

static struct pgmqd_plugin plugin = {
	.name = "fault",
	.version = PACKAGE_VERSION,
	.summary = "for tests: crashes, hangs and misbehaves as it is told",
	.options = fault_options,
	.handle_size = sizeof(struct fault),
	.start = fault_start,
	.deliver = fault_deliver,
	.cancel = fault_cancel,
	.stop = fault_stop,
	.replay = "no", /* it does harm as messages say */
};

PGMQD_REGISTER_PLUGIN(plugin);
