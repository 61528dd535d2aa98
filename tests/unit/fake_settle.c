/* fake_settle.c: a worker with a fake queue whose outcomes are settled, for tests of settling and of what stands beside
 * it.
 */
#include "config.h"

#include "fake_settle.h"

#include "base/clock.h"
#include "base/xalloc.h"

struct fake *fake;
struct pgmqd_worker worker;
struct messages all;
struct settle settle;
unsigned kicks, stale, doubts, read_only;
int64_t due_ms;

static void on_kick(void *arg)
{
	(void)arg;
	kicks++;
}

static void on_due(void *arg, int64_t ms)
{
	(void)arg;
	due_ms = ms;
}

static void on_sent(void *arg)
{
	(void)arg;
}

static void on_stale(void *arg)
{
	(void)arg;
	stale++;
}

static void on_doubt(void *arg)
{
	(void)arg;
	doubts++;
}

static void on_read_only(void *arg)
{
	(void)arg;
	read_only++;
}

static const struct settle_events events = {
	.kick = on_kick, .sent = on_sent, .due = on_due, .stale = on_stale, .doubt = on_doubt, .read_only = on_read_only
};

int settle_setup(void **state)
{
	(void)state;
	fake = fake_new();
	fake_worker(fake, &worker, &all);
	settle_init(&settle, &worker, &events, NULL);
	kicks = stale = doubts = read_only = 0;
	due_ms = -1;
	return 0;
}

int settle_teardown(void **state)
{
	struct pgmqd_msg *m;

	(void)state;
	fake_lose(fake);
	for (int s = MSG_WAITING; s < MSG_NSTATES; s++)
		while ((m = TAILQ_FIRST(&all.list[s])) != NULL)
			message_forget(m);
	settle_close(&settle);
	fake_free(fake);
	return 0;
}

void fake_end(int n, enum msg_outcome outcome)
{
	for (int i = 1; i <= n; i++) {
		struct pgmqd_msg *m = fake_message(&worker, i, MSG_RUNNING);

		if (outcome == OUT_DONE_WITH) {
			m->sql = xstrdup("select 1");
			m->shared = true;
		}
		settle_end(&settle, m, outcome, NULL, 0, xstrdup("a reason"));
	}
}

void fake_end_with_params(int n)
{
	for (int i = 1; i <= n; i++) {
		struct pgmqd_msg *m = fake_message(&worker, i, MSG_RUNNING);

		m->sql = xstrdup("select record($1)");
		m->shared = true;
		m->nparams = 1;
		m->params = xcalloc(1, sizeof(*m->params));
		m->params[0] = xstrdup("sent");
		settle_end(&settle, m, OUT_DONE_WITH, NULL, 0, NULL);
	}
}

void fake_later(void)
{
	clock_skip_ms(60000);
	settle_send(&settle);
}
