/* effect.c: the fault suite's plugin: writes down what it does with each message, and misbehaves as the message says.
 *
 * Each step appends one line "STEP uuid msg_id attempt boottime_ms pid" to the ledger: B when the message is delivered,
 * E when its effect takes place, C when it is taken back. A line is one write() to a file opened with O_APPEND, so
 * lines of many processes do not mix and one that was written outlives its process. The message is an object: uuid;
 * sleep_ms between B and E; "do", one of done (default), retry, apart, fail, config, replace, done_with, crash, exit,
 * loop, leak, never; "until": the attempt from which on it is done whatever "do" says; delay_ms of a retry.
 */
#include "config.h"

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LEAK_BYTES (4u * 1024 * 1024)

struct effect_handle {
	const char *ledger;
	int fd;
	struct pgmqd_worker *worker;
	struct work *first; /* what sleeps */
};

/* A message that sleeps, or is never settled. */
struct work {
	struct work *next;
	struct effect_handle *h;
	struct pgmqd_msg *m;
	struct pgmqd_timer *timer; /* NULL: never settled */
};

static const struct pgmqd_option effect_options[] = {
	{ .name = "ledger",
		.type = PGMQD_STRING,
		.required = 1,
		.offset = offsetof(struct effect_handle, ledger),
		.doc = "File that every step is appended to." },
	{ .name = NULL },
};

/* Opens the ledger. */
static int effect_start(void *handle, struct pgmqd_worker *w)
{
	struct effect_handle *h = handle;

	h->worker = w;
	h->fd = open(h->ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (h->fd < 0)
		pgmqd_log(PGMQD_ERROR, "ledger: cannot open %s: %s", h->ledger, strerror(errno));
	return h->fd < 0 ? -1 : 0;
}

/* A text of the message's object, or the default. */
static const char *effect_text(struct pgmqd_msg *m, const char *name, const char *def)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(m), name);

	return cJSON_IsString(v) ? v->valuestring : def;
}

/* A number of the message's object, or the default. */
static int64_t effect_number(struct pgmqd_msg *m, const char *name, int64_t def)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(m), name);

	return cJSON_IsNumber(v) ? (int64_t)v->valuedouble : def;
}

/* Writes one step down. */
static void effect_note(struct effect_handle *h, char step, struct pgmqd_msg *m)
{
	struct timespec t;
	char line[256];
	int len;

	clock_gettime(CLOCK_BOOTTIME, &t);
	len = snprintf(line, sizeof(line), "%c %.64s %lld %u %lld %d\n", step, effect_text(m, "uuid", "-"),
		(long long)pgmqd_msg_id(m), pgmqd_msg_attempt(m), (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000,
		(int)getpid());
	if (write(h->fd, line, (size_t)len) != len)
		pgmqd_log(PGMQD_WARN, "ledger: %s", strerror(errno));
}

/* Takes memory and never gives it back. */
static void effect_leak(void)
{
	static void *volatile kept;
	void **block = malloc(LEAK_BYTES);

	if (!block)
		return;
	memset(block, 1, LEAK_BYTES);
	*block = kept;
	kept = block;
}

/* The effect, and the outcome that the message asks for. */
static void effect_do(struct effect_handle *h, struct pgmqd_msg *m)
{
	const char *what = effect_text(m, "do", "done");
	int64_t until = effect_number(m, "until", 0);

	if (until && pgmqd_msg_attempt(m) >= until)
		what = "done";
	if (strcmp(what, "crash") == 0) {
		signal(SIGSEGV, SIG_DFL); /* a sanitizer would report it */
		raise(SIGSEGV);
	} else if (strcmp(what, "exit") == 0) {
		_exit(3);
	} else if (strcmp(what, "loop") == 0) {
		for (volatile int on = 1; on;)
			;
	}
	if (strcmp(what, "leak") == 0)
		effect_leak();
	if (strcmp(what, "retry") == 0) {
		pgmqd_retry(m, effect_number(m, "delay_ms", 0), "as the message says");
		return;
	}
	if (strcmp(what, "apart") == 0) {
		pgmqd_apart(m, "as the message says");
		return;
	}
	if (strcmp(what, "fail") == 0) {
		pgmqd_fail(m, "as the message says");
		return;
	}
	if (strcmp(what, "config") == 0) {
		pgmqd_config_error(m, "as the message says");
		return;
	}
	effect_note(h, 'E', m);
	if (strcmp(what, "done_with") == 0) {
		const char *params[1] = { effect_text(m, "uuid", "-") };

		pgmqd_done_with(m, effect_text(m, "sql", "INSERT INTO public.effects (uuid) VALUES ($1)"), 1, params);
	} else if (strcmp(what, "replace") == 0) {
		char *rest = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(m), "rest"));

		pgmqd_replace(m, rest ? rest : "null", effect_number(m, "delay_ms", 0));
		free(rest);
	} else {
		pgmqd_done(m);
	}
}

/* Takes a piece of work off the list and frees it. */
static void effect_unlink(struct work *w)
{
	struct work **p = &w->h->first;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	free(w);
}

/* It has slept long enough. */
static void effect_wake(void *arg)
{
	struct work *w = arg;
	struct effect_handle *h = w->h;
	struct pgmqd_msg *m = w->m;

	effect_unlink(w);
	effect_do(h, m);
}

static void effect_deliver(void *handle, struct pgmqd_msg *m)
{
	struct effect_handle *h = handle;
	int64_t sleep_ms = effect_number(m, "sleep_ms", 0);
	bool never = strcmp(effect_text(m, "do", "done"), "never") == 0 &&
	             (!effect_number(m, "until", 0) || pgmqd_msg_attempt(m) < effect_number(m, "until", 0));
	struct work *w;

	effect_note(h, 'B', m);
	if (!sleep_ms && !never) {
		effect_do(h, m);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		pgmqd_retry(m, 0, "no memory");
		return;
	}
	*w = (struct work){ .next = h->first, .h = h, .m = m };
	h->first = w;
	if (!never)
		w->timer = pgmqd_timer(h->worker, sleep_ms, effect_wake, w);
}

/* Each of them as if it had come alone. */
static void effect_deliver_batch(void *handle, struct pgmqd_msg *const *msgs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		effect_deliver(handle, msgs[i]);
}

static void effect_cancel(void *handle, struct pgmqd_msg *m)
{
	struct effect_handle *h = handle;

	for (struct work *w = h->first; w; w = w->next)
		if (w->m == m) {
			pgmqd_timer_cancel(w->timer);
			effect_note(h, 'C', m);
			effect_unlink(w);
			return;
		}
}

/* Closes the ledger; what was left to its lease still sleeps. */
static void effect_stop(void *handle)
{
	struct effect_handle *h = handle;

	while (h->first) {
		pgmqd_timer_cancel(h->first->timer);
		effect_unlink(h->first);
	}
	close(h->fd);
}

static struct pgmqd_plugin plugin = {
	.name = "effect",
	.version = PACKAGE_VERSION,
	.summary = "writes down what it does, and misbehaves on demand",
	.options = effect_options,
	.handle_size = sizeof(struct effect_handle),
	.start = effect_start,
	.deliver = effect_deliver,
	.deliver_batch = effect_deliver_batch,
	.cancel = effect_cancel,
	.stop = effect_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
