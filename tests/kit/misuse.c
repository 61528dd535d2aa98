/* misuse.c: breaks the rules of the interface, one at a time: the message's "how" says which. */
#include <pgmqd-plugin.h>

#include <stdlib.h>
#include <string.h>

struct misuse {
	struct pgmqd_worker *worker;
	struct pgmqd_msg *kept;
	const struct pgmqd_result *result;
};

static int misuse_start(void *h, struct pgmqd_worker *w)
{
	((struct misuse *)h)->worker = w;
	return 0;
}

static void never(void *arg)
{
	(void)arg;
}

/* Settles what was kept. */
static void later(void *arg)
{
	pgmqd_done(((struct misuse *)arg)->kept);
}

/* Reads what was kept. */
static void read_later(void *arg)
{
	(void)pgmqd_msg_text(((struct misuse *)arg)->kept, NULL);
}

static void keep_result(void *arg, const struct pgmqd_result *r)
{
	struct misuse *s = arg;

	s->result = r;
	pgmqd_done(s->kept);
}

static void use_result(void *arg)
{
	(void)pgmqd_result_error(((struct misuse *)arg)->result);
}

static void misuse_deliver(void *h, struct pgmqd_msg *m)
{
	struct misuse *s = h;
	const char *how = pgmqd_msg_str(m, "/how");

	if (!how || strcmp(how, "never") == 0)
		return;
	s->kept = m;
	if (strcmp(how, "query_nothing") == 0)
		(void)pgmqd_query(m, NULL, 0, NULL, keep_result, s);
	if (strcmp(how, "result_later") == 0) {
		(void)pgmqd_query(m, "select 1", 0, NULL, keep_result, s);
		(void)pgmqd_timer(s->worker, 300, use_result, s);
		return;
	}
	pgmqd_done(m);
	if (strcmp(how, "twice") == 0)
		pgmqd_done(m);
	else if (strcmp(how, "fail_after") == 0)
		pgmqd_fail(m, "too late");
	else if (strcmp(how, "null") == 0)
		pgmqd_done(NULL);
	else if (strcmp(how, "read_null") == 0)
		(void)pgmqd_msg_id(NULL);
	else if (strcmp(how, "later") == 0)
		(void)pgmqd_timer(s->worker, 1, later, s);
	else if (strcmp(how, "read_later") == 0)
		(void)pgmqd_timer(s->worker, 1, read_later, s);
	else if (strcmp(how, "query_after") == 0)
		(void)pgmqd_query(m, "select 1", 0, NULL, keep_result, s);
	else if (strcmp(how, "http_after") == 0)
		(void)pgmqd_http_submit(m, pgmqd_http_new(s->worker), (pgmqd_http_cb)(void (*)(void))never, s);
	else if (strcmp(how, "http_nothing") == 0)
		(void)pgmqd_http_submit(m, NULL, NULL, NULL);
	else if (strcmp(how, "timer_after") == 0)
		(void)pgmqd_msg_timer(m, 1, never, s);
	else if (strcmp(how, "timer_twice") == 0) {
		struct pgmqd_timer *t = pgmqd_timer(s->worker, 1000, never, s);

		pgmqd_timer_cancel(t);
		pgmqd_timer_cancel(t);
	} else if (strcmp(how, "timer_left") == 0)
		(void)pgmqd_timer(s->worker, 3600000, never, s);
}

/* Settles inside cancel. */
static void misuse_cancel(void *h, struct pgmqd_msg *m)
{
	(void)h;
	pgmqd_done(m);
}

static struct pgmqd_plugin plugin = {
	.name = "misuse", .version = "1", .handle_size = sizeof(struct misuse),
	.start = misuse_start, .deliver = misuse_deliver, .cancel = misuse_cancel,
};

PGMQD_REGISTER_PLUGIN(plugin);
