/* misuse.c: fifteen plugins, each of which breaks one rule of the interface: the compiler is told which, by -DMISUSE=.
 */
#include <pgmqd-plugin.h>

#include <stddef.h>

enum {
	TWICE,
	FAIL_AFTER,
	WITHOUT_MESSAGE,
	READ_WITHOUT_MESSAGE,
	QUERY_NOTHING,
	QUERY_AFTER,
	HTTP_AFTER,
	HTTP_NOTHING,
	TIMER_AFTER,
	TIMER_TWICE,
	TIMER_LEFT,
	IN_CANCEL,
	LATER,
	READ_LATER,
	RESULT_LATER
};

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

/* The second message of the last three only keeps the worker going until the timer of the first one. */
static void misuse_deliver(void *h, struct pgmqd_msg *m)
{
	struct misuse *s = h;
	struct pgmqd_timer *t;

	if (MISUSE == IN_CANCEL || s->kept)
		return;
	s->kept = m;
	if (MISUSE == QUERY_NOTHING)
		(void)pgmqd_query(m, NULL, 0, NULL, keep_result, s);
	if (MISUSE == RESULT_LATER) {
		(void)pgmqd_query(m, "select 1", 0, NULL, keep_result, s);
		(void)pgmqd_timer(s->worker, 300, use_result, s);
		return;
	}
	pgmqd_done(m);
	switch (MISUSE) {
	case TWICE:
		pgmqd_done(m);
		break;
	case FAIL_AFTER:
		pgmqd_fail(m, "too late");
		break;
	case WITHOUT_MESSAGE:
		pgmqd_done(NULL);
		break;
	case READ_WITHOUT_MESSAGE:
		(void)pgmqd_msg_id(NULL);
		break;
	case QUERY_AFTER:
		(void)pgmqd_query(m, "select 1", 0, NULL, keep_result, s);
		break;
	case HTTP_AFTER:
		(void)pgmqd_http_submit(m, pgmqd_http_new(s->worker), (pgmqd_http_cb)(void (*)(void))never, s);
		break;
	case HTTP_NOTHING:
		(void)pgmqd_http_submit(m, NULL, NULL, NULL);
		break;
	case TIMER_AFTER:
		(void)pgmqd_msg_timer(m, 1, never, s);
		break;
	case TIMER_TWICE:
		t = pgmqd_timer(s->worker, 1000, never, s);
		pgmqd_timer_cancel(t);
		pgmqd_timer_cancel(t);
		break;
	case TIMER_LEFT:
		(void)pgmqd_timer(s->worker, 3600000, never, s);
		break;
	case LATER:
		(void)pgmqd_timer(s->worker, 1, later, s);
		break;
	case READ_LATER:
		(void)pgmqd_timer(s->worker, 1, read_later, s);
		break;
	default:
		break;
	}
}

/* Takes a message back. */
static void misuse_cancel(void *h, struct pgmqd_msg *m)
{
	(void)h;
	if (MISUSE == IN_CANCEL)
		pgmqd_done(m);
}

static struct pgmqd_plugin plugin = {
	.name = NAME,
	.version = "1",
	.handle_size = sizeof(struct misuse),
	.start = misuse_start,
	.deliver = misuse_deliver,
	.cancel = misuse_cancel,
};

PGMQD_REGISTER_PLUGIN(plugin);
