/* greedy.c: keeps the loop for three milliseconds with each message, and wants to hear of a timer all the same. */
#include <pgmqd-plugin.h>

#include <stddef.h>
#include <time.h>

struct greedy {
	struct pgmqd_worker *worker;
	struct pgmqd_msg *kept[64];
	unsigned n;
	int heard;
};

static int greedy_start(void *h, struct pgmqd_worker *w)
{
	((struct greedy *)h)->worker = w;
	return 0;
}

/* The timer came while messages were still to be delivered, or after them all. */
static void greedy_hear(void *h)
{
	struct greedy *g = h;

	g->heard = 1;
	while (g->n > 0)
		pgmqd_fail(g->kept[--g->n], "delivered before the timer");
}

static void greedy_deliver(void *h, struct pgmqd_msg *m)
{
	struct greedy *g = h;
	clock_t until = clock() + 3 * CLOCKS_PER_SEC / 1000;

	if (g->n == 0 && !g->heard)
		(void)pgmqd_timer(g->worker, 1, greedy_hear, g);
	while (clock() < until)
		;
	if (g->heard)
		pgmqd_done(m);
	else
		g->kept[g->n++] = m;
}

static struct pgmqd_plugin greedy = {
	.name = "greedy",
	.version = "1",
	.handle_size = sizeof(struct greedy),
	.start = greedy_start,
	.deliver = greedy_deliver,
};

PGMQD_REGISTER_PLUGIN(greedy);
