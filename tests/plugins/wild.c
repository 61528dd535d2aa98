/* wild.c: a plugin for tests that tries to leave its process in every way, and crashes at every third message ("n" in
 * it is divisible by 3): statements that write, a socket of its own, a file of its own. It fails when one of them
 * succeeds. One of its options has a name that is pgmqd's.
 */
#include "config.h"

#include "pgmqd-plugin.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct wild {
	const char *file;
	int64_t deadline;
};

static const struct pgmqd_option wild_options[] = {
	{ .name = "file",
		.type = PGMQD_STRING,
		.offset = offsetof(struct wild, file),
		.doc = "A file that must not come." },
	{ .name = "deadline",
		.type = PGMQD_DURATION,
		.offset = offsetof(struct wild, deadline),
		.doc = "The name of an option of pgmqd's: it is never set." },
	{ .name = NULL },
};

/* The statement's answer: an error of the kind that a read-only transaction gives. */
static void wild_answered(void *arg, const struct pgmqd_result *r)
{
	struct pgmqd_msg *m = arg;
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(pgmqd_msg_json(m), "n");

	if (cJSON_IsNumber(n) && n->valueint % 3 == 0) {
		signal(SIGSEGV, SIG_DFL); /* a sanitizer would report it */
		raise(SIGSEGV);
	}
	if (!pgmqd_result_error(r))
		pgmqd_fail(m, "it wrote");
	else
		pgmqd_done_with(m, "DELETE FROM pgmq.q_email_queue", 0, NULL);
}

/* Tries everything. */
static void wild_deliver(void *h, struct pgmqd_msg *m)
{
	const struct wild *w = h;
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -1;

	if (w->file)
		fd = open(w->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (s >= 0)
		pgmqd_fail(m, "it has a socket");
	else if (fd >= 0)
		pgmqd_fail(m, "it has a file");
	else
		pgmqd_query(m, "INSERT INTO pgmq.q_email_queue (vt, message) VALUES (now(), '{}')", 0, NULL,
			wild_answered, m);
	if (s >= 0)
		close(s);
	if (fd >= 0)
		close(fd);
}

static struct pgmqd_plugin plugin;

PGMQD_REGISTER_PLUGIN(plugin);

static struct pgmqd_plugin plugin = {
	.name = "wild",
	.version = "1",
	.options = wild_options,
	.handle_size = sizeof(struct wild),
	.deliver = wild_deliver,
};
