/* example.c: a first plugin, to be read from top to bottom: it counts the words of a text, after a moment of thought.
 *
 * A message {"text": "..."} is handled `think` later, as if an answer from elsewhere had to come first. What matters
 * here is not the counting but that deliver() returns at once and that the outcome comes from a later callback: a
 * plugin never blocks, since all messages of its queue share one process and one loop.
 */
#include <pgmqd-plugin.h>

#include <stdlib.h>

/* The handle: all that the plugin knows. The host allocates it (handle_size), fills in the options, and passes it to
 * each callback. There are no global variables, so two queues can use one plugin. */
struct example {
	int64_t think; /* from the options */
	uint64_t most;
	uint64_t handled; /* our own; starts as zero */
};

/* The options: name, type, required, where the value goes, default, a line for people, environment variable, choices.
 * The host parses, checks and documents them (`pgmqd plugin info example`). */
static const struct pgmqd_option example_options[] = {
	{ "think", PGMQD_DURATION, 0, offsetof(struct example, think), "10ms", "Time to think about a message.", NULL,
		NULL },
	{ "most", PGMQD_UINT, 0, offsetof(struct example, most), "1000", "Words that a text may have at most.", NULL,
		NULL },
	{ NULL, 0, 0, 0, NULL, NULL, NULL, NULL },
};

/* Our data on one message while we work on it. */
struct thought {
	struct example *example;
	struct pgmqd_msg *msg;
};

/* Checks beyond the table. It runs in `pgmqd run --check` too, so it must not touch anything outside. */
static int example_config_complete(void *h)
{
	struct example *e = h;

	if (e->most > 0)
		return 0;
	pgmqd_log(PGMQD_ERROR, "most: it must be greater than 0");
	return -1;
}

/* The words of a text. */
static unsigned count_words(const char *text)
{
	unsigned n = 0;

	for (int inside = 0; *text; text++) {
		int letter = *text != ' ' && *text != '\n' && *text != '\t';

		n += letter && !inside;
		inside = letter;
	}
	return n;
}

/* The time to think is over: now the message gets its one outcome. After it, and after the return, `t->msg` is not ours
 * any more. */
static void thought_over(void *arg)
{
	struct thought t = *(struct thought *)arg;
	unsigned words = count_words(pgmqd_msg_str(t.msg, "/text"));

	free(arg);
	t.example->handled++;
	if (words > t.example->most) /* never: it goes to the dead-letter queue with this reason */
		pgmqd_fail(t.msg, "%u words are too many", words);
	else if (words == 0 && pgmqd_msg_attempt(t.msg) < 3) /* not now: tried again; 0 leaves the delay to the queue */
		pgmqd_retry(t.msg, 0, "no words yet");
	else
		pgmqd_done(t.msg);
}

/* A message arrives. This is the best place to find all faults of it. */
static void example_deliver(void *h, struct pgmqd_msg *m)
{
	struct thought *t;

	if (!pgmqd_msg_str(m, "/text")) {
		pgmqd_fail(m, "the message has no \"text\"");
		return;
	}
	t = malloc(sizeof(*t));
	if (!t)
		abort(); /* the process is restarted, and the message is seen again */
	t->example = h;
	t->msg = m;
	/* The timer belongs to the message: should the message be cancelled, the host ends it, and cancel() below frees
	 * the rest. */
	pgmqd_msg_data_set(m, t);
	pgmqd_msg_timer(m, t->example->think, thought_over, t);
}

/* The host takes a message back (its time is up, or the worker stops): forget it now. */
static void example_cancel(void *h, struct pgmqd_msg *m)
{
	(void)h;
	free(pgmqd_msg_data(m));
}

/* The end. */
static void example_stop(void *h)
{
	pgmqd_log(PGMQD_DEBUG, "%llu messages", (unsigned long long)((struct example *)h)->handled);
}

static struct pgmqd_plugin plugin = {
	.name = "example",
	.version = "1.0",
	.summary = "counts words, to show how a plugin is made",
	.options = example_options,
	.handle_size = sizeof(struct example),
	.config_complete = example_config_complete,
	.deliver = example_deliver,
	.cancel = example_cancel,
	.stop = example_stop,
};

PGMQD_REGISTER_PLUGIN(plugin);
