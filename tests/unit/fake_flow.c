/* fake_flow.c: a flow with a fake queue, for tests of the message path. */
#include "config.h"

#include "fake_flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fake *fake;
struct flow *flow;
bool flow_idle;
unsigned flow_limit = 4;
unsigned flow_batch = 1;
bool flow_crashed;

static void on_idle(void *arg)
{
	(void)arg;
	flow_idle = true;
}

int fake_flow_setup(void **state)
{
	static struct proc_env env;

	(void)state;
	fake = fake_new();
	fake->qs.max_in_flight = flow_limit;
	flow_limit = 4;
	fake->qs.batch = flow_batch;
	fake->qs.batch_wait = 2000; /* seconds, so that a busy machine does not get there by itself */
	flow_batch = 1;
	fake->qs.prefetch = 2;
	fake->qs.max_attempts = 3;
	fake->qs.visibility_timeout = 30000;
	fake->settings.fallback_poll = 3600000;
	env = (struct proc_env){
		.settings = &fake->settings, .stats = fake->stats, .slot = fake->slot, .after_crash = flow_crashed
	};
	flow_crashed = false;
	flow = flow_new(&env, &fake->qs, fake->slot, fake->plugin, fake->base, &fake->queue, NULL, NULL);
	fake->plugin = NULL; /* the flow's now */
	flow_idle = false;
	assert_true(flow_start(flow));
	return 0;
}

int fake_flow_teardown(void **state)
{
	(void)state;
	fake_lose(fake);
	flow_free(flow);
	fake_free(fake);
	return 0;
}

void fake_flow_drain(void)
{
	flow_drain(flow, on_idle, NULL);
}

void fake_up(void)
{
	flow_up(flow);
	fake_answer_probe(fake, NULL);
	fake_answer_pause(fake, NULL);
	fake_advance(fake, 0);
	fake_answer_lock(fake, FAKE_RELEASE, true);
}

void fake_asleep(void)
{
	fake_up();
	fake_answer_claim(fake, NULL, 0);
	assert_int_equal(fake_count(fake, FAKE_CLAIM), 0);
}
