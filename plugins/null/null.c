/* null.c: the plugin that does nothing: every message is done at once. For benchmarks, tests and draining a queue into
 * its archive. */
#include "config.h"

#include "pgmqd-plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct null_handle {
	const char *trace; /* file that gets a line "msg_id attempt nanoseconds" at the start of each message */
	int fd;
};

static const struct pgmqd_option null_options[] = {
	{ .name = "trace",
		.type = PGMQD_STRING,
		.offset = offsetof(struct null_handle, trace),
		.doc = "Append \"msg_id attempt time\" (nanoseconds since 1970) to this file when a message starts; "
		       "for benchmarks." },
	{ .name = NULL },
};

/* Opens the trace. */
static int null_start(void *h, struct pgmqd_worker *w)
{
	struct null_handle *n = h;

	(void)w;
	n->fd = -1;
	if (!n->trace || !*n->trace)
		return 0;
	n->fd = open(n->trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (n->fd < 0) {
		pgmqd_log(PGMQD_ERROR, "trace: cannot open %s: %s", n->trace, strerror(errno));
		return -1;
	}
	return 0;
}

/* Done. */
static void null_deliver(void *h, struct pgmqd_msg *m)
{
	struct null_handle *n = h;

	if (n->fd >= 0) {
		struct timespec t;
		char line[80];
		int len;

		clock_gettime(CLOCK_REALTIME, &t);
		len = snprintf(line, sizeof(line), "%lld %u %lld%09ld\n", (long long)pgmqd_msg_id(m),
			pgmqd_msg_attempt(m), (long long)t.tv_sec, t.tv_nsec);
		if (write(n->fd, line, (size_t)len) != len)
			pgmqd_log(PGMQD_WARN, "trace: %s", strerror(errno));
	}
	pgmqd_done(m);
}

/* Closes the trace. */
static void null_stop(void *h)
{
	struct null_handle *n = h;

	if (n->fd >= 0)
		close(n->fd);
}

static struct pgmqd_plugin plugin = {
	.name = "null",
	.version = PACKAGE_VERSION,
	.summary = "does nothing: every message is done at once",
	.options = null_options,
	.handle_size = sizeof(struct null_handle),
	.start = null_start,
	.deliver = null_deliver,
	.stop = null_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
