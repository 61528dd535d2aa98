/* work.c: the plugin of the neutral sweep: each message takes `work`, and a line "enqueued_ms started_us ended_us" is
 * written of it.
 *
 * enqueued_ms is the message's own "enqueued_at_ms"; the times are of the wall clock. A line that finds the pipe full
 * is dropped: the lines are a sample for latencies, what is done is counted by pgmqd.
 */
#include "config.h"

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct work_handle {
	int64_t work;
	const char *trace;
	int fd;
};

/* One message at work. */
struct job {
	struct work_handle *h;
	struct pgmqd_msg *m;
	int64_t started;
};

static const struct pgmqd_option work_options[] = {
	{ .name = "work",
		.type = PGMQD_DURATION,
		.offset = offsetof(struct work_handle, work),
		.def = "1ms",
		.doc = "How long each message takes." },
	{ .name = "trace",
		.type = PGMQD_STRING,
		.required = 1,
		.offset = offsetof(struct work_handle, trace),
		.doc = "Pipe that gets a line of each message." },
	{ .name = NULL },
};

/* Microseconds of the wall clock. */
static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Opens the pipe. */
static int work_start(void *handle, struct pgmqd_worker *w)
{
	struct work_handle *h = handle;

	(void)w;
	h->fd = open(h->trace, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (h->fd < 0)
		pgmqd_log(PGMQD_ERROR, "trace: cannot open %s: %s", h->trace, strerror(errno));
	return h->fd < 0 ? -1 : 0;
}

/* The work is over. */
static void work_over(void *arg)
{
	struct job job = *(struct job *)arg;
	const cJSON *at = cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(job.m), "enqueued_at_ms");
	char line[80];
	int len;

	free(arg);
	len = snprintf(line, sizeof(line), "%.0f %lld %lld\n", cJSON_IsNumber(at) ? at->valuedouble : 0.0,
		(long long)job.started, (long long)now_us());
	if (write(job.h->fd, line, (size_t)len) < 0 && errno != EAGAIN)
		pgmqd_log(PGMQD_WARN, "trace: %s", strerror(errno));
	pgmqd_done(job.m);
}

/* Starts the work on a message. */
static void work_deliver(void *h, struct pgmqd_msg *m)
{
	struct job *job = malloc(sizeof(*job));

	if (!job)
		abort();
	*job = (struct job){ .h = h, .m = m, .started = now_us() };
	pgmqd_msg_data_set(m, job);
	pgmqd_msg_timer(m, job->h->work, work_over, job);
}

/* Forgets a message that is taken back. */
static void work_cancel(void *h, struct pgmqd_msg *m)
{
	(void)h;
	free(pgmqd_msg_data(m));
}

static struct pgmqd_plugin plugin = {
	.name = "work",
	.version = "1.0",
	.summary = "takes a while over each message, for the neutral sweep",
	.options = work_options,
	.handle_size = sizeof(struct work_handle),
	.start = work_start,
	.deliver = work_deliver,
	.cancel = work_cancel,
};

PGMQD_REGISTER_PLUGIN(plugin);
