/* test_handshake.c: wakeup.c does what tests/model/wakeup.pml says, in many random interleavings.
 *
 * usage: test_handshake [SEED [RUNS]]
 *
 * The steps are those of the model: producers take "in flight", look at "awake", go back to a savepoint, commit, let go
 * and notify; the server works off the statements of two workers, one by one, and answers later; workers run out of
 * room, lose their connection, and die. The two workers are not the model's but wakeup.c. After each step both must
 * agree: a worker sleeps only where the model's does, and holds "awake" when it says so. At the end of each run nothing
 * may wait.
 */
#include "config.h"

#include "fake_queue.h"

#include "worker/wakeup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PRODUCERS 3
#define WORKERS 2
#define STEPS 70
#define ASKED 3   /* messages that a claim asks for */
#define OWED_MS 5 /* a look that began at the mark is followed by a full one so soon */

/* A transaction that enqueues. */
struct producer {
	enum { IDLE, BEGUN, SEEN, COMMITTED, RELEASED } at;
	bool flight, notify;
};

/* Where the model's dispatcher is. */
enum at { TRIES, LAST_LOOK, LOOKED, BUSY };

/* One worker: wakeup.c, its statements in their order (those of `fake`), and the model's dispatcher beside it. */
struct side {
	struct fake *fake;
	struct pgmqd_worker worker;
	struct messages all;
	struct wakeup wakeup;
	struct wakeup_claim asked;
	bool room;
	enum at at;
	size_t executed; /* so many of its statements have been worked off and are not answered */
	struct {
		bool ok, full;
		int rows;
	} result[64];
};

static struct side sides[WORKERS];
static struct producer producers[PRODUCERS];
static unsigned waiting, below; /* messages that can be seen; those of them that appeared below the marks */
static int awake;               /* who holds it; WORKERS: nobody */
static uint64_t seed = 1, runs = 10000, state;

/* A number below n. */
static unsigned any(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 33) % n;
}

/* ---- the workers ---- */

static void nothing(void *arg)
{
	(void)arg;
}

static void on_answer(void *arg, const struct queue_claim *claim)
{
	(void)arg, (void)claim;
}

/* Claims like a flow. */
static void on_claim(void *arg)
{
	struct side *s = arg;
	struct queue_look look = { .n = ASKED };

	if (!wakeup_wants(&s->wakeup) || !s->worker.up)
		return;
	if (!s->room) {
		wakeup_no_room(&s->wakeup);
		return;
	}
	s->asked = wakeup_claim(&s->wakeup);
	look.full = s->asked.full;
	queue_claim(&s->fake->queue, &look, on_answer, s);
}

static const struct wakeup_events events = { .claim = on_claim, .polled = nothing };

/* The locks go with the session, and what it was asked is never answered. */
static void session_ends(struct side *s)
{
	if (awake == s - sides)
		awake = WORKERS;
	s->fake->ncalls = s->executed = 0;
	wakeup_down(&s->wakeup);
	s->worker.up = false;
}

/* A new session. */
static void session_begins(struct side *s)
{
	s->worker.up = true;
	s->at = TRIES;
	wakeup_up(&s->wakeup);
	on_claim(s);
}

/* The process dies, and another one begins. */
static void dies(struct side *s)
{
	session_ends(s);
	wakeup_close(&s->wakeup);
	wakeup_init(&s->wakeup, &s->worker, &events, s);
	s->room = true;
	session_begins(s);
}

/* The server works off the next statement of a worker. */
static void execute(struct side *s)
{
	size_t i = s->executed;
	const struct fake_call *c = &s->fake->calls[i];
	unsigned seen;

	if (i >= s->fake->ncalls)
		return;
	switch (c->kind) {
	case FAKE_AWAKE:
		s->result[i].ok = awake == WORKERS || awake == s - sides;
		if (s->result[i].ok) {
			awake = (int)(s - sides);
			s->at = BUSY;
		}
		break;
	case FAKE_RELEASE:
		if (c->held && awake == s - sides)
			awake = WORKERS;
		s->result[i].ok = true;
		for (int p = 0; p < PRODUCERS; p++)
			s->result[i].ok = s->result[i].ok && !producers[p].flight;
		if (awake != s - sides)
			s->at = s->result[i].ok ? LAST_LOOK : TRIES;
		break;
	default: /* a claim */
		s->result[i].full = c->look.full || any(2);
		seen = s->result[i].full ? waiting : waiting - below;
		s->result[i].rows = (int)(seen < ASKED ? seen : ASKED);
		waiting -= (unsigned)s->result[i].rows;
		below = below < waiting ? below : waiting;
		if (s->at == LAST_LOOK)
			s->at = LOOKED;
	}
	s->executed++;
}

/* A worker gets its next answer. */
static void answer(struct side *s)
{
	enum fake_kind kind;
	bool ok = s->result[0].ok, full = s->result[0].full;
	int rows = s->result[0].rows;

	if (!s->executed)
		return;
	kind = s->fake->calls[0].kind;
	s->executed--;
	for (size_t i = 0; i < s->executed; i++)
		s->result[i] = s->result[i + 1];
	if (kind != FAKE_CLAIM) {
		fake_answer_lock(s->fake, kind, ok);
		return;
	}
	fake_answer_claim(s->fake, NULL, 0); /* frees its place; wakeup.c is told here */
	wakeup_claimed(&s->wakeup, rows == ASKED, full ? INT64_MAX : OWED_MS, -1);
	if (any(2))
		on_claim(s);
	wakeup_fed(&s->wakeup, rows);
	on_claim(s);
}

/* ---- the producers ---- */

/* One step of a transaction. */
static void produce(struct producer *p)
{
	switch (p->at) {
	case IDLE:
		p->flight = any(8) != 0; /* else the try met the moment in which a worker had it */
		p->notify = !p->flight;
		p->at = BEGUN;
		break;
	case BEGUN:
		if (p->flight && awake == WORKERS)
			p->notify = true;
		p->at = SEEN;
		break;
	case SEEN:
		if (any(6) == 0) { /* back to a savepoint, or the end: all of it is gone */
			p->flight = p->notify = false;
			p->at = IDLE;
			break;
		}
		waiting++;
		below += any(2);
		p->at = COMMITTED;
		break;
	case COMMITTED:
		p->flight = false;
		p->at = RELEASED;
		break;
	case RELEASED:
		for (int i = 0; p->notify && i < WORKERS; i++)
			if (sides[i].worker.up)
				wakeup_notified(&sides[i].wakeup);
		p->at = IDLE;
	}
}

/* ---- both agree ---- */

/* Whether nothing but the fallback poll moves a worker. */
static bool sleeps(const struct side *s)
{
	return s->wakeup.state == WAKE_ASLEEP && !s->wakeup.wanted && !s->wakeup.claiming && !s->fake->ncalls &&
	       !evtimer_pending(s->wakeup.due, NULL) && !evtimer_pending(s->wakeup.busy, NULL);
}

/* What must hold at any time. */
static void check(void)
{
	for (int i = 0; i < WORKERS; i++) {
		const struct side *s = &sides[i];

		if (!s->worker.up)
			continue;
		if (sleeps(s) && s->at != LOOKED)
			fail_msg("worker %d sleeps where the model's dispatcher does not (%d)", i, (int)s->at);
		if (!s->fake->ncalls && (awake == i) != (s->wakeup.state == WAKE_AWAKE))
			fail_msg("worker %d %s \"awake\", and its state is %d", i, awake == i ? "holds" : "lacks",
				(int)s->wakeup.state);
	}
}

/* One step, whose it may be. */
static void step(void)
{
	struct side *s = &sides[any(WORKERS)];
	unsigned what = any(100);

	if (what < 35)
		produce(&producers[any(PRODUCERS)]);
	else if (what < 60)
		execute(s);
	else if (what < 82)
		answer(s);
	else if (what < 92)
		fake_advance(s->fake, any(4) ? (int64_t)any(12) : (int64_t)any(200));
	else if (what < 96) {
		s->room = !s->room;
		on_claim(s);
	} else if (what < 97)
		dies(s);
	else if (s->worker.up && what < 98)
		session_ends(s);
	else if (!s->worker.up)
		session_begins(s);
}

/* Everything that is under way comes to its end; only the fallback poll does not. */
static void come_to_rest(void)
{
	for (int p = 0; p < PRODUCERS; p++)
		while (producers[p].at != IDLE)
			produce(&producers[p]);
	for (int i = 0; i < WORKERS; i++) {
		sides[i].room = true;
		if (!sides[i].worker.up)
			session_begins(&sides[i]);
		on_claim(&sides[i]);
	}
	for (int round = 0; round < 500; round++) {
		bool rest = true;

		for (int i = 0; i < WORKERS; i++) {
			while (sides[i].fake->ncalls) {
				execute(&sides[i]);
				answer(&sides[i]);
			}
			check();
			rest = rest && sleeps(&sides[i]);
		}
		if (rest)
			return;
		for (int i = 0; i < WORKERS; i++)
			fake_advance(sides[i].fake, 1000);
	}
	fail_msg("the workers never sleep");
}

/* Many runs, each from two workers that have just begun. */
static void test_interleavings(void **unused)
{
	(void)unused;
	for (uint64_t run = seed; run < seed + runs; run++) {
		state = run * 0x9e3779b97f4a7c15U + 1;
		waiting = below = 0;
		awake = WORKERS;
		for (int i = 0; i < PRODUCERS; i++)
			producers[i] = (struct producer){ .at = IDLE };
		for (int i = 0; i < WORKERS; i++) {
			struct side *s = &sides[i];

			s->fake->ncalls = s->executed = 0;
			s->room = true;
			wakeup_init(&s->wakeup, &s->worker, &events, s);
			session_begins(s);
		}
		for (int i = 0; i < STEPS; i++) {
			step();
			check();
		}
		come_to_rest();
		if (waiting)
			fail_msg("seed %llu: a message waits and everybody sleeps", (unsigned long long)run);
		for (int i = 0; i < WORKERS; i++)
			wakeup_close(&sides[i].wakeup);
	}
}

static int setup(void **unused)
{
	(void)unused;
	for (int i = 0; i < WORKERS; i++) {
		struct side *s = &sides[i];

		s->fake = fake_new();
		s->fake->settings.fallback_poll = 3600000;
		s->fake->settings.poll_when_deaf = 3600000;
		s->fake->settings.shared_poll = 3600000;
		fake_worker(s->fake, &s->worker, &s->all);
	}
	return 0;
}

static int teardown(void **unused)
{
	(void)unused;
	for (int i = 0; i < WORKERS; i++)
		fake_free(sides[i].fake);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(test_interleavings, setup, teardown) };

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		runs = strtoull(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
